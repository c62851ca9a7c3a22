"""What every route of the API works on."""

from __future__ import annotations

from dataclasses import dataclass

from agent_worker.config.catalog_cache import CachedCatalog
from agent_worker.control.catalog_keeper import CatalogKeeper
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.settings import Settings


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

    @property
    def organization_id(self) -> str:
        """The one organization of this deployment."""
        return self.settings.organization_id
