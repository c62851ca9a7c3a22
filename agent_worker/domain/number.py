"""Phone numbers and the SIP connections they live on: who answers which number, and how calls come and go."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from agent_worker.domain.config_model import ConfigModel, at_most_bytes
from agent_worker.domain.lifecycle_hook import Headers

DispatchTemplate = Annotated[dict[str, Any], AfterValidator(at_most_bytes(65_536))]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
ConnectionName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class NumberConfig(ConfigModel):
    """One phone number of ours (contract 1.5).

    Attributes:
        e164: the number, in quotes, with country code: YAML reads bare digits as a number.
        direction: whether it takes calls, places them, or both.
        agent_id: the agent that answers; where it and the template set the same key, the agent's value wins.
            None, and no agent lists the number: the template is the whole agent.
        dispatch_metadata_template: configuration and metadata of calls to this number; `{{callerNumber}}`,
            `{{dialedNumber}}` and `{{forwardedFromNumber}}` are filled in. Keys that configure nothing are metadata.
        label: for people; name of the agent where the template is the whole agent.
        sip_connection: name of the SIP connection the number is on; none = the only one there is.
    """

    e164: str = Field(min_length=3, max_length=64)
    direction: Literal["inbound", "outbound", "both"] = "both"
    agent_id: str | None = Field(None, max_length=200)
    dispatch_metadata_template: DispatchTemplate | None = None
    label: str | None = Field(None, max_length=120)
    sip_connection: ConnectionName | None = None

    @property
    def takes_calls(self) -> bool:
        """Whether a call to this number may be answered."""
        return self.direction != "outbound"

    @property
    def places_calls(self) -> bool:
        """Whether a call may be placed from this number."""
        return self.direction != "inbound"


class SipConnection(ConfigModel):
    """A carrier or PBX: how its calls reach LiveKit's SIP bridge, and how ours reach it.

    Attributes:
        name: what numbers call it, and LiveKit's trunks and rules after it.
        address: host or host:port calls are placed to; without it no calls are placed over this connection.
        transport: how calls are placed.
        username_env: environment variable with the user name, for both directions.
        password_env: environment variable with the password.
        allowed_addresses: addresses and networks calls may come from; "0.0.0.0/0" for any.
        media_encryption: SRTP.
        ringing_timeout_seconds: how long an inbound call may ring before the bridge gives up, s.
        headers: sent with every call we place; `env:NAME` takes a value from the environment.
    """

    name: ConnectionName
    address: str | None = Field(None, min_length=1, max_length=255, pattern=r"^[A-Za-z0-9.:\[\]_-]+$")
    transport: Literal["auto", "udp", "tcp", "tls"] = "auto"
    username_env: EnvironmentName | None = None
    password_env: EnvironmentName | None = None
    allowed_addresses: list[Annotated[str, Field(max_length=64)]] = Field(default_factory=list, max_length=100)
    media_encryption: Literal["disable", "allow", "require"] = "disable"
    ringing_timeout_seconds: int = Field(60, ge=5, le=180)
    headers: Headers = Field(default_factory=dict)

    @model_validator(mode="after")
    def _both_or_neither(self) -> SipConnection:
        if (self.username_env is None) != (self.password_env is None):
            raise ValueError("must have both of usernameEnv and passwordEnv, or neither")
        return self


class TelephonyConfig(ConfigModel):
    """What `telephony.yaml` holds.

    Attributes:
        sip_connections: the carriers and PBXs.
        numbers: the numbers.
    """

    sip_connections: list[SipConnection] = Field(default_factory=list, max_length=100)
    numbers: list[NumberConfig] = Field(default_factory=list, max_length=10_000)
