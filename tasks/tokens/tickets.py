"""Tickets: how many messages are under way, so that there are enough and no more.

A ticket names no account; the due set does. One that is lost lapses and is replaced.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

from ...config.logs import log
from .key_use import SILENT_SECONDS, KeyUse, live_workers
from .lanes import Lane
from .store import TokenStore, text_of

MOST_TICKETS = 32
LONGEST_NAME = 80
LONGEST_FOLLOW_UP_SECONDS = 30.0
# Without a sign of life, a ticket's worker is taken for dead; and a renewal's that nobody has begun
# for so long is taken for lost, as a killed worker may have fetched it.
HELD_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be done now."""

    tickets: Mapping[Lane, tuple[str, ...]]  # to be published
    follow_up_seconds: float  # one more after that delay, unless it is zero
    is_discovery_due: bool
    rejections_held_back: int  # as too many tokens of the fleet were rejected
    waves: tuple[str, ...]  # runs whose next wave may be due
    ripe_runs: tuple[str, ...]

    @property
    def asks_for_messages(self) -> bool:
        """Whether there are tickets or a discovery to publish."""
        return any([*self.tickets.values(), self.follow_up_seconds, self.is_discovery_due])


class Tickets:
    """The outstanding tickets of one partner. Methods raise redis.RedisError where Redis fails."""

    def __init__(self, store: TokenStore, accounts_per_ticket: int, lapse_seconds: float) -> None:
        self._store = store
        self._accounts_per_ticket = accounts_per_ticket
        self._lapse_ms = int(lapse_seconds * 1000)
        self.key_use = KeyUse(store)
        self._epoch = b""  # of the data that was there at the last look

    async def look(
        self, *, is_sweep: bool = False, beat: str = "", discovery_lease_seconds: float = 0
    ) -> Outlook:
        """Register the tickets that the due accounts lack, and see what else is due.

        The caller publishes and releases. Only a sweep claims the discovery: for the lease, or
        not at all where that is zero; `beat` names who sent it. Tells the other workers which keys
        are held here, and chooses by theirs which one seals. Where the store has lost its data, one
        worker says so.
        """
        name, now_ms = uuid4().hex, self._store.now_ms()
        answer = await self._store.scripts.run(
            "look",
            now_ms,
            name,
            self._accounts_per_ticket,
            MOST_TICKETS,
            int(HELD_SECONDS * 1000),
            self._lapse_ms,
            int(LONGEST_FOLLOW_UP_SECONDS * 1000),
            int(is_sweep),
            int(discovery_lease_seconds * 1000),
            self._store.holder,
            ",".join(self._store.sealer.key_ids),
            int(SILENT_SECONDS * 1000),
            self._epoch,
            beat[:LONGEST_NAME],
        )
        renew, exchange, follow_up_ms, discover, held_back, waves, workers, *more = answer
        self._epoch, is_lost, mended, *ripe = more
        if is_lost:
            log.error(
                "store.lost",
                partner_id=self._store.keys.partner_id,
                remedy="Redis came back without its data: give it appendonly yes, or a replica; "
                "discovery brings back what Dintero lists, and imported accounts must be imported "
                "again: subtokens accounts import",
            )
        if mended:
            log.error("due.mended", partner_id=self._store.keys.partner_id, count=mended)
        told = zip(workers[::2], workers[1::2], strict=True)
        self.key_use.heed(live_workers(told, now_ms))
        names = [f"{name}:{number}" for number in range(1, renew + exchange + 1)]
        return Outlook(
            {"renew": tuple(names[:renew]), "exchange": tuple(names[renew:])},
            follow_up_ms / 1000,
            discover == b"1",
            held_back,
            tuple(map(text_of, waves)),
            tuple(map(text_of, ripe)),
        )

    async def hold(self, lane: Lane, ticket: str, *, is_held: bool = False) -> None:
        """Keep a ticket outstanding while it is worked on; to be repeated within HELD_SECONDS."""
        lapses_ms = self._store.now_ms() + int(HELD_SECONDS * 1000)
        await self._store.scripts.run("hold_ticket", lane, ticket, lapses_ms, int(is_held))

    async def give_back(self, lane: Lane, ticket: str) -> None:
        """A ticket's work is over."""
        await self._store.scripts.run("return_ticket", lane, ticket)
