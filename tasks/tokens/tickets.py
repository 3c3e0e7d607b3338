"""Tickets: how many messages are under way, so that there are enough and no more.

A ticket names no account; the due set does. One that is lost lapses and is replaced.
"""

from dataclasses import dataclass
from uuid import uuid4

from .store import TokenStore

MOST_TICKETS = 32
LONGEST_FOLLOW_UP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Missing:
    """What to publish: tickets now, and one after a delay if that is not zero."""

    tickets: tuple[str, ...]
    follow_up_seconds: float


class Tickets:
    """The outstanding tickets of one partner. Methods raise redis.RedisError where Redis fails."""

    def __init__(self, store: TokenStore, accounts_per_ticket: int, lapse_seconds: float) -> None:
        self._store = store
        self._accounts_per_ticket = accounts_per_ticket
        self._lapse_ms = int(lapse_seconds * 1000)

    async def top_up(self) -> Missing:
        """Register the tickets that the due accounts lack; the caller publishes them."""
        offered = [uuid4().hex for _ in range(MOST_TICKETS)]
        missing, follow_up_ms = await self._store.scripts.run(
            "top_up_tickets",
            self._store.now_ms(),
            self._accounts_per_ticket,
            self._lapse_ms,
            int(LONGEST_FOLLOW_UP_SECONDS * 1000),
            *offered,
        )
        return Missing(tuple(offered[:missing]), follow_up_ms / 1000)

    async def hold(self, ticket: str) -> None:
        """Keep a ticket outstanding while it is worked on."""
        lapses_ms = self._store.now_ms() + self._lapse_ms
        await self._store.scripts.run("hold_ticket", ticket, lapses_ms)

    async def give_back(self, ticket: str) -> None:
        """A ticket's work is over."""
        await self._store.scripts.run("return_ticket", ticket)
