"""The control plane inside this process: agent files, and a database, SQLite or PostgreSQL.

Answering a call needs no database and loads none of its code: a phone answers with the database down.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent_worker.config.catalog_cache import CachedCatalog
from agent_worker.control.feed import Feed
from agent_worker.control.open_call import plan_call
from agent_worker.control.sweeper import ExpiredLease
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, utc_now
from agent_worker.domain.fact import CallEnded, Fact
from agent_worker.domain.lifecycle_hook import LifecycleHook
from agent_worker.egress.client import EgressClient
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import ConfigError, ControlPlaneError, SettingsError
from agent_worker.settings import Settings
from agent_worker.webhooks.pre_call import PreCallAnswer, ask
from agent_worker.webhooks.signing import webhook_secret

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from agent_worker.config.catalog import AgentCatalog
    from agent_worker.control.announce import Announcer
    from agent_worker.control.cost import PriceTable
    from agent_worker.control.recordings import Recordings
    from agent_worker.store.engine import Database

logger = logging.getLogger("agent_worker.control")


class EmbeddedControlPlane:
    """Implements `ControlPlane` over the settings' database.

    Args:
        catalog: the agents; read from the settings' folders at the first call where not given.

    Attributes:
        feed: the calls that are watched in this process.
    """

    def __init__(self, settings: Settings, catalog: AgentCatalog | CachedCatalog | None = None) -> None:
        self._settings = settings
        self._catalog = catalog
        self._database: Database | None = None
        self._opening = asyncio.Lock()
        self._prices: PriceTable | None = None
        self._announcer: Announcer | None = None
        self._recordings: Recordings | None = None
        self._egress = EgressClient(AddressPolicy.of(settings.egress_allow))
        self.feed = Feed(self.reading)

    async def open_call(self, offer: CallOffer, *, budget_seconds: float) -> CallPlan | CallRefusal:
        """Return which agent takes the call and how it is configured, or why none does.

        Raises:
            ControlPlaneError: not retryable; the agent files cannot be used.
        """
        return await plan_call(
            offer, await self._agents(), self._settings, budget_seconds=budget_seconds, ask=self._ask_pre_call
        )

    async def _ask_pre_call(
        self, hook: LifecycleHook, payload: Mapping[str, Any], timeout_seconds: float
    ) -> PreCallAnswer:
        try:
            secret = "" if hook.secret else webhook_secret(self._settings)
        except SettingsError as error:
            return PreCallAnswer(None, False, "", "secret_missing", str(error), None, 0)
        return await ask(
            hook,
            payload,
            secret=secret,
            env=os.environ,
            client=self._egress,
            timeout_seconds=timeout_seconds,
        )

    async def record(self, facts: Sequence[Fact]) -> None:
        """Apply facts of one or several calls in one transaction; one that ends a call also makes its report.

        Raises:
            ControlPlaneError: nothing was applied; `retryable` unless a fact cannot be stored as it is.
        """
        if not facts:
            return
        from agent_worker.control.settle import settle
        from agent_worker.store.facts import apply_facts

        prices = await self.prices()
        database = await self._opened()
        now = utc_now()
        async with database.write() as connection:
            applied = await apply_facts(
                connection,
                facts,
                organization_id=self._settings.organization_id,
                lease_until=now + timedelta(seconds=self._settings.lease_seconds),
            )
            if applied.recordings or applied.ended:
                await self.recordings.settle(connection, applied.recordings, applied.ended, now)
            await settle(connection, applied, prices, self.announcer, now, analyse=self._settings.analyses)
            if self._settings.otlp_endpoint:
                from agent_worker.control.traces import enqueue_traces

                await enqueue_traces(connection, applied.ended, now)

        self.feed.wake({fact.call_id for fact in facts})

    @property
    def announcer(self) -> Announcer:
        """What writes, in the transaction it is given, whom to tell of what happened."""
        if self._announcer is None:
            from agent_worker.control.announce import Announcer

            self._announcer = Announcer(self._agents)
        return self._announcer

    @property
    def recordings(self) -> Recordings:
        """Where recordings are, and what becomes of them.

        Raises:
            SettingsError: AGENT_WORKER_RECORDINGS_URL cannot be used.
        """
        if self._recordings is None:
            from agent_worker.control.recordings import Recordings

            self._recordings = Recordings(self._settings, self.announcer.recording)
        return self._recordings

    @property
    def egress(self) -> EgressClient:
        """What requests to configured URLs go through."""
        return self._egress

    async def finish_call(self, ended: CallEnded) -> None:
        """End the call: row, heuristic report and outbox rows in one transaction; once is enough."""
        await self.record([ended])

    async def renew_leases(self, call_ids: Sequence[str], *, worker_id: str, until: datetime) -> None:
        """Note that the workers of these calls are alive; calls that are over or unknown are left alone."""
        if not call_ids:
            return
        from agent_worker.store.tables import calls

        database = await self._opened()
        async with database.write() as connection:
            await connection.execute(
                calls.update()
                .where(calls.c.id.in_(call_ids), calls.c.ended_at.is_(None))
                .values(lease_until=until, worker_id=worker_id)
            )

    async def expired_leases(self, now: datetime) -> list[ExpiredLease]:
        """Return call id, room name and end of lease of each live call whose lease ran out before `now`."""
        from agent_worker.store.queries import expired_leases

        async with self.reading() as connection:
            return [ExpiredLease(*found) for found in await expired_leases(connection, now)]

    async def fetch_catalog(self, known: str | None) -> dict[str, Any] | None:
        """Return the database's agents and numbers with their `etag`; None where they are still the known ones.

        Raises:
            ControlPlaneError: the database is locked or down.
        """
        from agent_worker.control.stored_catalog import stored_catalog

        async with self.reading() as connection:
            return await stored_catalog(connection, self._settings, known)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction for the queries of `agent_worker.store.queries`.

        Raises:
            ControlPlaneError: the database is locked or down.
        """
        database = await self._opened()
        async with database.read() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that commits when the block ends without an error.

        Raises:
            ControlPlaneError: the database is locked or down, or refuses a value.
        """
        database = await self._opened()
        async with database.write() as connection:
            yield connection

    async def aclose(self) -> None:
        """Let go of connections; a later verb opens them again."""
        async with self._opening:
            if self._database is not None:
                await self._database.aclose()
                self._database = None
        await self._egress.aclose()

    async def _opened(self) -> Database:
        async with self._opening:
            if self._database is None:
                from agent_worker.store.engine import Database
                from agent_worker.store.migrate import upgrade

                await asyncio.to_thread(upgrade, self._settings.database)
                self._database = Database(self._settings.database)
            return self._database

    async def _agents(self) -> AgentCatalog:
        if self._catalog is None:
            from agent_worker.config.catalog import load_catalog
            from agent_worker.config.problems import ConfigErrors

            try:
                self._catalog = await asyncio.to_thread(load_catalog, self._settings)
            except ConfigErrors as error:
                raise ControlPlaneError("agent_files_invalid", str(error), retryable=False) from error
        return await self._catalog.fresh() if isinstance(self._catalog, CachedCatalog) else self._catalog

    async def prices(self) -> PriceTable:
        """Return the operator's price table; empty where there is none, or none that can be read."""
        if self._prices is None:
            from agent_worker.control.prices import read_prices

            file = self._settings.prices_file
            try:
                self._prices = {} if file is None else await asyncio.to_thread(read_prices, file)
            except ConfigError as error:
                # a call is worth more than its price: its report lists what is unpriced
                logger.error("price table not usable, costs are 0", extra={"problem": str(error)})
                self._prices = {}
        return self._prices
