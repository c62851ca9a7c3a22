"""Every error the product raises, and what each one means.

```
AgentWorkerError(code, message, remedy)
├─ ConfigError          the operator's mistake: file, line, key, remedy          exit 2 / HTTP 400
├─ SettingsError        a wrong or missing environment variable                  exit 2
├─ CallError            this call cannot go on; carries the disconnection reason
├─ ControlPlaneError    the control plane did not take it; `retryable` says whether to try again
├─ EgressError          a request to a URL of an agent's was refused or had no good answer
├─ RecordingStoreError  a recording cannot be kept, found or deleted where recordings are kept; `retryable`
├─ TelephonyError       LiveKit's server API refused, or did not answer; `retryable`
└─ ProviderError        a speech or language provider cannot be used
```

A `code` is a stable machine word, a message is one sentence, a remedy says what to do next.
"""

from __future__ import annotations

import traceback


class AgentWorkerError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        code: stable machine word, lower snake case.
        message: one sentence for a person.
        remedy: what to do about it, or "" where nothing can be done.
        retryable: whether the same attempt may succeed later.
    """

    retryable = False

    def __init__(self, code: str, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class ConfigError(AgentWorkerError):
    """An agent file, prompt or tool is wrong.

    Attributes:
        file: path as the operator wrote it, or None where the mistake is in no file.
        line: 1-based line in that file, or None.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        remedy: str = "",
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(code, message, remedy=remedy)
        self.file = file
        self.line = line

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return place + super().__str__()


class SettingsError(AgentWorkerError):
    """An environment variable is missing or wrong."""


class CallError(AgentWorkerError):
    """This call cannot go on.

    Attributes:
        disconnection_reason: what the call row says afterwards (contract 2.6).
    """

    def __init__(self, code: str, message: str, *, disconnection_reason: str = "error") -> None:
        super().__init__(code, message)
        self.disconnection_reason = disconnection_reason


class ControlPlaneError(AgentWorkerError):
    """The control plane did not take a fact; nothing is lost, the journal still has it."""

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        super().__init__(code, message)
        self.retryable = retryable


class ProviderError(AgentWorkerError):
    """A speech or language provider is unknown, not installed or has no key."""


class EgressError(AgentWorkerError):
    """A request to a URL that an agent names may not be made, or had no usable answer.

    Codes: `egress_url_invalid`, `egress_scheme`, `egress_address_refused`, `egress_header_invalid`,
    `egress_unresolvable`, `egress_connection`, `egress_tls`, `egress_timeout`, `egress_response_too_large`,
    `egress_response_encoded`. The message names the host at most, never path, query, headers or body.
    """


class RecordingStoreError(AgentWorkerError):
    """A recording cannot be kept, found or deleted where recordings are kept."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(code, message)
        self.retryable = retryable


class TelephonyError(AgentWorkerError):
    """LiveKit's server API did not do what was asked."""

    def __init__(self, code: str, message: str, *, remedy: str = "", retryable: bool = False) -> None:
        super().__init__(code, message, remedy=remedy)
        self.retryable = retryable


def place_of(error: BaseException) -> str:
    """Return the kind of an error and where it was raised: what a log may hold of it, for its text may quote anything.

    As in `ValueError at agent_worker/call/setup.py:90`.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
