"""Settings: read from the environment, told by variable name when wrong, silent about secrets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent_worker.errors import SettingsError
from agent_worker.settings import Settings, default_call_slots, read_settings, shipped_folder


def variables() -> dict[str, str]:
    """Each setting's variable and description."""
    return {
        str(field.validation_alias or f"AGENT_WORKER_{name.upper()}"): field.description or ""
        for name, field in Settings.model_fields.items()
    }


def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads the variable as they wrote it."""
    monkeypatch.setenv("AGENT_WORKER_CALL_SLOTS", "many")

    with pytest.raises(SettingsError, match=r"^AGENT_WORKER_CALL_SLOTS: .*'many'.*\.env\.example"):
        read_settings()


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`NAME=` in an environment file leaves the default alone."""
    for name in ("AGENT_WORKER_CALL_SLOTS", "AGENT_WORKER_PRICES_FILE", "AGENT_WORKER_LOG_LEVEL"):
        monkeypatch.setenv(name, "")

    settings = read_settings()

    assert settings.prices_file is None
    assert settings.log_level == "INFO"


def test_missing_livekit_settings_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not set is said, what is set is not."""
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")

    with pytest.raises(SettingsError, match="LIVEKIT_URL and LIVEKIT_API_SECRET are not set") as caught:
        read_settings().require_livekit()

    assert "LIVEKIT_API_KEY" not in str(caught.value)


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printing the settings prints no secret."""
    monkeypatch.setenv("LIVEKIT_API_SECRET", "hush-hush")
    monkeypatch.setenv("AGENT_WORKER_WEBHOOK_SECRET", "whsec_hush")

    assert "hush" not in repr(read_settings())
    assert "hush" not in read_settings().model_dump_json()


@pytest.mark.parametrize(
    ("cores", "memory_mib", "slots"), [(1, 2_048, 5), (2, 24_000, 10), (16, 4_096, 29), (1, 256, 1)]
)
def test_slots_are_bounded_by_cores_and_by_memory(cores: int, memory_mib: int, slots: int) -> None:
    """Five calls a core, as long as memory holds them, and never none."""
    assert default_call_slots(cores, memory_mib) == slots


def test_a_folder_of_the_working_directory_wins_over_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`./agents` is used where it is, and named where it is not and nothing is shipped."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agents").mkdir()

    assert shipped_folder("agents") == Path("agents")
    assert shipped_folder("nothing-shipped") == Path("nothing-shipped")


def test_the_example_file_has_every_setting_with_its_description(root: Path) -> None:
    """`.env.example` is complete and has no variable that is none."""
    text = (root / ".env.example").read_text(encoding="utf-8")

    for name, description in variables().items():
        assert description, name
        assert re.search(rf"^# {re.escape(description)}\n#?{name}=", text, re.MULTILINE), name
    written = set(re.findall(r"^#?((?:AGENT_WORKER|LIVEKIT)_[A-Z_]+)=", text, re.MULTILINE))
    assert written - variables().keys() == {"AGENT_WORKER_VAD"}


def test_the_example_files_defaults_are_the_defaults(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncommenting every line of `.env.example` changes nothing."""
    monkeypatch.chdir(root)
    before = read_settings()
    for line in (root / ".env.example").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"^#?([A-Z_]+)=(.*)$", line):
            monkeypatch.setenv(match[1], match[2])

    assert read_settings() == before
