"""Which control plane this process talks to: the one inside it, or another host's by URL and token."""

from __future__ import annotations

import hashlib
import logging

from agent_worker.config.catalog import load_catalog
from agent_worker.config.catalog_cache import DATABASE_FILE, CachedCatalog
from agent_worker.control.base import ControlPlane
from agent_worker.control.catalog_keeper import CatalogKeeper
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.remote import RemoteControlPlane, cached_catalog
from agent_worker.control.wire import ControlAddress
from agent_worker.settings import Settings

logger = logging.getLogger("agent_worker.control")


def is_remote(settings: Settings) -> bool:
    """Return whether the control plane is on another host, which then also has the agents."""
    return bool(settings.control_url)


def check_control(settings: Settings) -> None:
    """Check URL and token, and warn where others could read along; does nothing without a URL.

    Raises:
        SettingsError: the URL or the token cannot be used.
    """
    if is_remote(settings) and not ControlAddress.of(settings).is_private:
        logger.warning(
            "AGENT_WORKER_CONTROL_URL is http: the token and what callers say can be read on the way; use https"
        )


def make_catalog(settings: Settings) -> CachedCatalog:
    """Return the configuration calls are planned from: this host's files and its copy of what the database holds.

    Where the control plane is on another host, all of it is a copy of that host's, and no files are read.

    Raises:
        ConfigErrors: all mistakes in all files.
        SettingsError: the URL or the token of the other host cannot be used.
    """
    if is_remote(settings):
        return cached_catalog(settings)
    source = f"database:{hashlib.sha256(settings.database.encode()).hexdigest()[:16]}"
    return CachedCatalog(load_catalog(settings), settings.cache_dir / DATABASE_FILE, source=source)


def make_control(settings: Settings, catalog: CachedCatalog) -> ControlPlane:
    """Return the control plane of these settings.

    Raises:
        SettingsError: the URL or the token of the other host cannot be used.
    """
    if is_remote(settings):
        return RemoteControlPlane(settings, catalog)
    return EmbeddedControlPlane(settings, catalog)


def make_keeper(control: ControlPlane, catalog: CachedCatalog) -> CatalogKeeper:
    """Return what keeps the catalog's cache file fresh, for the one process of this host that does."""
    if isinstance(control, RemoteControlPlane):
        return CatalogKeeper(catalog, control.fetch_catalog)
    assert isinstance(control, EmbeddedControlPlane), "there are two"
    return CatalogKeeper(catalog, control.fetch_catalog)
