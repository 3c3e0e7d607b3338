"""The partner's own token: one for all workers, renewed at half its life by one of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast
from uuid import uuid4

from .errors import SealError
from .record import Kind, TokenRecord
from .store import TokenStore

_POLL_SECONDS = 0.05

Fetch = Callable[[int], Awaitable[TokenRecord]]  # of a generation, makes the upstream call


class PartnerToken:
    """Single flight over all workers: losers of the lock wait and read what the winner stored.

    `lease_seconds` must exceed the time that one fetch may take.
    """

    def __init__(self, store: TokenStore, fetch: Fetch, lease_seconds: float) -> None:
        self._store = store
        self._fetch = fetch
        self._lease_seconds = lease_seconds
        self._known: TokenRecord | None = None
        self._flight: asyncio.Task[TokenRecord] | None = None

    async def get(self, newer_than: int = 0) -> TokenRecord:
        """A partner token of a generation above `newer_than`: pass the one that got a 401.

        Raises what `fetch` raises, DinteroError above all.
        """
        known = self._known
        if known and known.generation > newer_than and not self._is_due(known):
            return known
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._shared(newer_than))
        record = await asyncio.shield(self._flight)
        return record if record.generation > newer_than else await self.get(newer_than)

    async def _shared(self, newer_than: int) -> TokenRecord:
        owner = uuid4().hex
        while True:
            stored = await self._load()
            if stored and stored.generation > newer_than and not self._is_due(stored):
                self._known = stored
                return stored
            generation = await self._lock(owner)
            if generation:
                self._known = await self._renew(owner, generation, newer_than)
                return self._known
            if stored and stored.generation > newer_than:
                return stored  # due, but valid: somebody else is renewing it
            await asyncio.sleep(_POLL_SECONDS)

    async def _renew(self, owner: str, generation: int, newer_than: int) -> TokenRecord:
        sealed, lifetime_ms = b"", 0
        try:
            stored = await self._load()
            if stored and stored.generation > newer_than and not self._is_due(stored):
                return stored  # between our look and our lock, somebody renewed it
            record = await self._fetch(generation)
            sealed = self._store.sealer.seal(record, self._store.keys.partner)
            lifetime_ms = max(1, record.expires_ms - self._store.now_ms())
        finally:
            # Also after a failure: the lock must not outlive its purpose.
            await self._store.scripts.run("keep_partner", owner, sealed, lifetime_ms)
        return record

    async def _lock(self, owner: str) -> int:
        lease_ms = int(self._lease_seconds * 1000)
        return int(await self._store.scripts.run("lock_partner", owner, lease_ms) or 0)

    async def _load(self) -> TokenRecord | None:
        key = self._store.keys.partner
        # MGET takes what is no string for missing, where GET fails.
        (sealed,) = cast("list[bytes | None]", await self._store.redis.mget([key]))
        if not sealed:
            return None
        try:
            record = self._store.sealer.open(sealed, key, self._store.keys.partner_id)
        except SealError:
            return None  # another key or an altered record: a new token replaces it
        return record if record.kind is Kind.PARTNER and record.lasts(0, self._now()) else None

    def _is_due(self, record: TokenRecord) -> bool:
        return record.renew_ms <= self._store.now_ms()

    def _now(self) -> float:
        return self._store.clock()
