"""Who is enrolled: what a walk through Dintero's account list means for the fleet."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from .store import Settled, TokenStore

MOST_GONE, MOST_GONE_SHARE = 10, 0.05  # more of both at once is no churn, but a fault somewhere
_SLICE = 1_000


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a complete listing came to, in accounts."""

    partner_id: str
    listed: int
    skipped: int  # listed, but not active, deleted or not a sub-account of the partner
    enrolled: int  # new
    gone: int  # dropped, as two complete listings in a row lacked them
    held_back: int  # to be dropped, but too many at once: an operator has to say so

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def is_too_many(gone: int, enrolled: int) -> bool:
    """Whether so many accounts may not go at once without an operator's word."""
    return gone > MOST_GONE and gone > enrolled * MOST_GONE_SHARE


async def absent_twice(
    store: TokenStore, present: Collection[str], started_ms: int
) -> tuple[list[str], int]:
    """The enrolled accounts that two complete listings lack, and how many are enrolled.

    Notes those that this one is the first to lack. It began at `started_ms`: one that overlaps
    with it is no second witness.
    """
    gone: list[str] = []
    enrolled: set[str] = set()
    async for page in store.enrolled():
        enrolled.update(page)
    absent = sorted(enrolled.difference(present))
    for start in range(0, len(absent), _SLICE):
        chosen = absent[start : start + _SLICE]
        answer = await store.scripts.run("mark_absent", store.now_ms(), started_ms, *chosen)
        gone += [account.decode() for account in answer]
    return gone, len(enrolled)


async def drop(store: TokenStore, gone: list[str]) -> Settled:
    """Drop accounts that are gone; they may be discovered again."""
    dropped, ended = 0, list[str]()
    for start in range(0, len(gone), _SLICE):
        settled = await store.forget(gone[start : start + _SLICE], "gone")
        dropped += settled.accounts
        ended += settled.ended_runs
    return Settled(dropped, tuple(ended))
