"""How this process runs: environment variables only, read once, secrets masked."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent_worker.errors import SettingsError

CALL_MEMORY_MIB = 120
"""Memory one call is budgeted with when slots are counted: its own, and its share of the server side."""


def default_call_slots(cores: int, memory_mib: int) -> int:
    """Return how many calls a machine of this size takes: five a core, and no more than memory holds."""
    return max(1, min(cores * 5, (memory_mib - 512) // CALL_MEMORY_MIB))


def _machine_call_slots() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return default_call_slots(len(os.sched_getaffinity(0)), memory)


def shipped_folder(name: str) -> Path:
    """Return `./<name>`, or where there is none the folder of that name the installed package brings."""
    bundled = Path(__file__).parent / "bundled" / name
    here = Path(name)
    return bundled if bundled.is_dir() and not here.is_dir() else here


def _if_there(name: str) -> Path | None:
    path = Path(name)
    return path if path.is_file() else None


class Settings(BaseSettings):
    """The product's own settings, `AGENT_WORKER_*`, and LiveKit's three, under LiveKit's names."""

    model_config = SettingsConfigDict(env_prefix="AGENT_WORKER_", env_ignore_empty=True, extra="ignore", frozen=True)

    livekit_url: str = Field(
        "", validation_alias="LIVEKIT_URL", description="ws:// or wss:// URL of the LiveKit server."
    )
    livekit_api_key: str = Field("", validation_alias="LIVEKIT_API_KEY", description="LiveKit API key.")
    livekit_api_secret: SecretStr = Field(
        SecretStr(""), validation_alias="LIVEKIT_API_SECRET", description="LiveKit API secret."
    )
    livekit_public_url: str = Field("", description="LiveKit URL browsers reach, for `web-join`; default: LIVEKIT_URL.")

    agent_name: str = Field(
        "phone-agent", description="Name LiveKit dispatches calls to; the dispatch rule names the same."
    )
    organization_id: str = Field("org_local", description="Organization id on every row and webhook.")
    agents_dir: Path = Field(
        default_factory=lambda: shipped_folder("agents"),
        description="Folder of agent files (*.yaml); default: ./agents, else the shipped ones.",
    )
    prompts_dir: Path = Field(
        default_factory=lambda: shipped_folder("prompts"),
        description="Folder of prompt templates (*.md); default: ./prompts, else the shipped ones.",
    )
    tools_dir: Path = Field(
        default_factory=lambda: shipped_folder("tools"),
        description="Folder of function tools (*.py); default: ./tools, else the shipped ones.",
    )
    data_dir: Path = Field(Path("var"), description="Folder of journals, recordings and the SQLite file.")
    database_url: str = Field("", description="SQLAlchemy URL; default: SQLite file in the data folder.")
    recordings_url: str = Field(
        "",
        description="Where recordings are kept: file:///…, s3://…, gs://… or az://…; default: in the data folder.",
    )
    recording_link_seconds: int = Field(300, ge=10, le=604_800, description="How long a link to a recording works, s.")
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="whsec_… secret that signs webhooks; default: made at first use, kept in the data dir.",
    )
    webhook_retention_days: int = Field(
        30, ge=4, le=3_650, description="How long deliveries of webhooks and their attempts are kept, days."
    )
    default_agent: str = Field(
        "",
        description="Agent for numbers in no agent file; default: none, such callers hear a sentence.",
    )
    unknown_number_message: str = Field(
        "Sorry, this number is not in service. Goodbye.",
        description="What a caller to an unknown number hears before the line is closed.",
    )
    unknown_number_policy: Literal["speak", "reject"] = Field(
        "speak",
        description="What becomes of a call nobody takes: a sentence and a hang-up, or declined while it rings.",
    )
    telephony_file: Path | None = Field(
        default_factory=lambda: _if_there("telephony.yaml"),
        description="YAML file of numbers and SIP connections; default: ./telephony.yaml where there is one.",
    )
    presets_file: Path | None = Field(
        default_factory=lambda: _if_there("presets.yaml"),
        description="YAML file of provider presets; default: ./presets.yaml, else the built-in ones.",
    )
    prices_file: Path | None = Field(None, description="YAML file of provider prices; default: no prices, cost is 0.")
    analysis: str = Field(
        "agent",
        max_length=2_000,
        description="Who analyses calls: `agent` = its own model, `off`, or `vendor:model` entries with commas.",
    )
    analysis_timeout_seconds: int = Field(
        60, ge=1, le=600, description="How long one model may take for the analysis of a call, s."
    )

    call_slots: int = Field(
        default_factory=_machine_call_slots,
        ge=1,
        le=1_000,
        description="Calls taken at once; default from cores and memory.",
    )
    idle_processes: int = Field(2, ge=1, le=64, description="Job processes kept warm.")
    drain_timeout_seconds: int = Field(
        3_600, ge=0, le=86_400, description="How long SIGTERM waits for calls to end, s."
    )
    answer_budget_ms: int = Field(
        4_000,
        ge=500,
        le=30_000,
        description="How long a caller hears ringing before we answer whatever is ready, ms.",
    )
    lease_seconds: int = Field(
        30, ge=5, le=600, description="How long a call outlives its worker's last sign of life, s."
    )
    egress_allow: str = Field(
        "",
        description="Hosts and networks of your own that agents' URLs may reach, with commas; http is allowed there.",
    )
    dial_allow: str = Field(
        "",
        description="Whom calls may be transferred to, with commas: ISO countries, E.164 numbers, SIP hosts; "
        "default: any number of a country but emergency and premium ones, no SIP address.",
    )
    transfers_per_hour: int = Field(
        120,
        ge=0,
        le=10_000,
        description="People all calls of this host may call in an hour to put callers through; 0 = no limit.",
    )
    refer_fallback: Literal["none", "dial"] = Field(
        "none",
        description="What becomes of a blind transfer whose carrier takes no REFER: it fails, or the person is dialled "
        "and the worker relays; a tool's `referFallback` comes first.",
    )
    move_participant: bool = Field(
        False,
        description="Warm transfers end with LiveKit's MoveParticipant, which LiveKit Cloud has; else with the relay.",
    )
    sip_address: str = Field(
        "", description="host:port of the SIP bridge, for `doctor`; default: LIVEKIT_URL's host, port 5060."
    )
    control_url: str = Field(
        "", description="http(s) URL of another host's `serve`; default: the control plane is inside the worker."
    )
    control_token: SecretStr = Field(
        SecretStr(""), description="Token workers present to `serve`; at least 16 characters, the same on both."
    )
    api_host: str = Field("127.0.0.1", description="Address `serve` listens on.")
    api_port: int = Field(8080, ge=0, le=65_535, description="Port `serve` listens on; 0 = any free one.")
    public_url: str = Field(
        "",
        description="URL of `serve` as others reach it, for links to recordings; default: as each request has it.",
    )
    api_requests_per_minute: int = Field(
        1_200, ge=0, le=1_000_000, description="Requests a minute with one API key, in each `serve`; 0 = no limit."
    )
    api_wrong_keys_per_minute: int = Field(
        20, ge=0, le=1_000_000, description="Wrong API keys a minute from one address; 0 = no limit."
    )
    otlp_endpoint: str = Field(
        "",
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="http(s) URL of an OpenTelemetry collector (OTLP over HTTP) calls are sent to as traces.",
    )
    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token of `GET /metrics` on `serve`, 16 characters or more; default: not there.",
    )
    retention_days: int = Field(
        0, ge=0, le=36_500, description="Calls older than this many days are purged; 0 = they are kept."
    )
    recording_retention_days: int = Field(
        0, ge=0, le=36_500, description="Recordings older than this many days are erased; 0 = as long as their call."
    )
    health_host: str = Field("127.0.0.1", description="Address of the health endpoint.")
    health_port: int = Field(8081, ge=0, le=65_535, description="Port of the health endpoint; 0 = any free one.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Log level.")
    log_format: Literal["json", "text"] = Field("json", description="Log format.")

    @property
    def journal_dir(self) -> Path:
        """Folder of the calls' journals."""
        return self.data_dir / "journal"

    @property
    def recordings_dir(self) -> Path:
        """Folder of the recordings."""
        return self.data_dir / "recordings"

    @property
    def cache_dir(self) -> Path:
        """Folder of audio rendered before it is needed; may be deleted at any time."""
        return self.data_dir / "cache"

    @property
    def database(self) -> str:
        """SQLAlchemy URL in force."""
        return self.database_url or f"sqlite+aiosqlite:///{(self.data_dir / 'agent-worker.db').resolve()}"

    @property
    def analyses(self) -> bool:
        """Whether a model reads calls once they are over."""
        return self.analysis.strip().lower() != "off"

    def require_livekit(self) -> None:
        """Raise `SettingsError` naming each LiveKit variable that is missing."""
        missing = [
            name
            for name, value in (
                ("LIVEKIT_URL", self.livekit_url),
                ("LIVEKIT_API_KEY", self.livekit_api_key),
                ("LIVEKIT_API_SECRET", self.livekit_api_secret.get_secret_value()),
            )
            if not value
        ]
        if missing:
            raise SettingsError(
                "livekit_settings_missing",
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.",
                remedy="Set them in the environment (see .env.example), "
                "or try `python -m agent_worker demo`, which needs none.",
            )


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: a variable has a value it cannot have; the sentence names the variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        variable = name if name.isupper() else f"AGENT_WORKER_{name.upper()}"
        raise SettingsError(
            "setting_invalid",
            f"{variable}: {first['msg']} (got {first.get('input')!r}).",
            remedy="See .env.example for what each variable takes.",
        ) from error


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return this process's settings, read at the first call."""
    return read_settings()
