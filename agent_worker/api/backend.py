"""What every route of the API works on."""

from __future__ import annotations

from dataclasses import dataclass

from agent_worker.config.catalog_cache import CachedCatalog
from agent_worker.control.catalog_keeper import CatalogKeeper
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.settings import Settings


@dataclass(frozen=True)
class Streaming:
    """How the streams of live calls behave.

    Attributes:
        rotate_seconds: after this long the client is asked to come again.
        heartbeat_seconds: silence after which a comment is sent, so that nothing on the way takes it for dead.
        per_key: streams of one key at once.
        at_most: streams of this process at once.
    """

    rotate_seconds: float = 600.0
    heartbeat_seconds: float = 15.0
    per_key: int = 50
    at_most: int = 500


@dataclass(frozen=True)
class Backend:
    """The control plane of this process and what it knows.

    Attributes:
        control: `reading()` and `writing()` open transactions of the database.
        catalog: agents and numbers of files and of the database, as calls are planned from them.
        keeper: `await keeper.refresh()` after a change, so that the next call has it.
    """

    settings: Settings
    control: EmbeddedControlPlane
    catalog: CachedCatalog
    keeper: CatalogKeeper
    streaming: Streaming = Streaming()

    @property
    def organization_id(self) -> str:
        """The one organization of this deployment."""
        return self.settings.organization_id
