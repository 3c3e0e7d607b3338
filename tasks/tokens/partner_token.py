"""The partner's own token: one for all workers, renewed at half its life by one of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast
from uuid import uuid4

from ..dintero.errors import Blame, DinteroError
from .errors import SealError
from .record import Kind, TokenRecord
from .store import TokenStore

_POLL_SECONDS = 0.05
_POSTPONED_MS = 5000

Fetch = Callable[[int], Awaitable[TokenRecord]]  # of a generation, makes the upstream call
GiveUp = Callable[[DinteroError], Awaitable[DinteroError]]


class PartnerToken:
    """Single flight over all workers: losers of the lock wait and read what the winner stored.

    `lease_seconds` must exceed the time that one fetch may take. What a fetch raises goes through
    `give_up`, once for all that wait for it.
    """

    def __init__(
        self,
        store: TokenStore,
        fetch: Fetch,
        lease_seconds: float,
        give_up: GiveUp | None = None,
    ) -> None:
        self._store = store
        self._fetch = fetch
        self._lease_seconds = lease_seconds
        self._give_up = give_up
        self._known: TokenRecord | None = None
        self._refused = 0  # the newest generation that got a 401, here or elsewhere
        self._postponed_ms = 0
        self._flight: asyncio.Task[TokenRecord] | None = None

    @property
    def generation(self) -> int:
        """Of the token that this process knows; 0 if it knows none."""
        return self._known.generation if self._known else 0

    def forget(self) -> None:
        """Look at the store again: others may have renewed it meanwhile."""
        self._known = None

    def note_refused(self, generation: int) -> None:
        """Some process got a 401 with it: calls that are still to be made here wait for a newer."""
        self._refused = max(self._refused, generation)

    async def get(self, newer_than: int = 0) -> TokenRecord:
        """A partner token of a generation above `newer_than`: pass the one that got a 401.

        Raises what `fetch` raises, DinteroError above all.
        """
        self.note_refused(newer_than)
        newer_than = self._refused
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
            generation = await self._lock(owner, newer_than)
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
            record = await self._fetched(generation, stored, newer_than)
            if record is stored:
                return record
            sealed = self._store.sealer.seal(record, self._store.keys.partner)
            lifetime_ms = max(1, record.expires_ms - self._store.now_ms())
        finally:
            # Also after a failure: the lock must not outlive its purpose.
            await self._store.scripts.run("keep_partner", owner, sealed, lifetime_ms)
        return record

    async def _fetched(
        self, generation: int, stored: TokenRecord | None, newer_than: int
    ) -> TokenRecord:
        """A new one; or for a while the one there is, if only the upstream keeps us from it."""
        try:
            return await self._fetch(generation)
        except DinteroError as error:
            if stored and stored.generation > newer_than and error.blame is Blame.UPSTREAM:
                self._postponed_ms = self._store.now_ms() + _POSTPONED_MS
                return stored
            if self._give_up is None:
                raise
            raise await self._give_up(error) from None

    async def _lock(self, owner: str, refused: int) -> int:
        lease_ms = int(self._lease_seconds * 1000)
        return int(await self._store.scripts.run("lock_partner", owner, lease_ms, refused) or 0)

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
        return (
            record if record.kind is Kind.PARTNER and record.lasts(0, self._store.clock()) else None
        )

    def _is_due(self, record: TokenRecord) -> bool:
        return max(record.renew_ms, self._postponed_ms) <= self._store.now_ms()
