"""What workers and sweeps keep in Redis for whoever watches; garbage in it is told as zero."""

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple, cast

from ...tasks.dintero import client, errors
from ...tasks.tokens.lanes import LANES
from ...tasks.tokens.metrics import BOUNDS_SECONDS
from ...tasks.tokens.store import TokenStore, last_outcome, number_of, text_of

CALLS = (client.PARTNER_TOKEN, client.EXCHANGE, client.ACCOUNT_TOKEN, client.ACCOUNTS)
FAILURES = (
    errors.UnreachableError.reason,
    errors.ThrottledError.reason,
    errors.UpstreamError.reason,
    errors.InvalidAnswerError.reason,
    errors.UnauthorizedError.reason,
    errors.RefusedError.reason,
    errors.MisaddressedError.reason,
    "given_up",
)
REJECTIONS = ("accepted", "late", "known", "held back")
ATTEMPTS = tuple(product(("ok", "unchanged", "refused", "failed"), ("first", "retry")))
BUCKETS = range(len(BOUNDS_SECONDS) + 1)
_TIMED = (
    *(f"call:{call}:{outcome}" for call, outcome in product(CALLS, ("ok", *FAILURES))),
    *(f"wait:{lane}" for lane in LANES),
)
_NAMES = (
    *(f"{timed}:{part}" for timed, part in product(_TIMED, (*BUCKETS, "us"))),
    *(f"{kind}:{a}:{b}" for kind, (a, b) in product(("exchange", "renewal"), ATTEMPTS)),
    *(f"rejection:{outcome}" for outcome in REJECTIONS),
)
_MOST_ROWS, _MOST_NAMED = 145, 10
_DAY_SECONDS = 86_400 + 600  # and the ten minutes in which it began


async def kept_metrics(store: TokenStore) -> Mapping[str, int]:
    """What the worker processes have counted, by the names that docs/redis.md tells."""
    kept = cast("list[bytes | None]", await store.redis.hmget(store.keys.metrics, list(_NAMES)))
    return {name: max(0, number_of(n)) for name, n in zip(_NAMES, kept, strict=True) if n}


class Row(NamedTuple):
    """The fleet at the first sweep of ten minutes of the last day: its totals."""

    at: float
    enrolled: int
    most_uncovered: int  # accounts at once, since the row before
    tokens: int
    failed: int
    uncovered_seconds: float  # of gaps that had ended


async def last_day(store: TokenStore) -> list[Row]:
    """The rows of the last 24 hours, the oldest first; where nobody swept there is none."""
    rows, now = list[Row](), store.clock()
    found = await store.redis.xrange(store.keys.history, count=_MOST_ROWS)
    for _, kept in cast("list[tuple[bytes, dict[bytes, bytes]]]", found):
        row = {text_of(name): max(0, number_of(value)) for name, value in kept.items()}
        if now - _DAY_SECONDS <= row.get("at", 0) / 1000 <= now:
            rows.append(
                Row(
                    row["at"] / 1000,
                    row.get("enrolled", 0),
                    row.get("most_uncovered", 0),
                    row.get("exchanged", 0) + row.get("renewed", 0),
                    row.get("failed", 0),
                    row.get("uncovered_ms", 0) / 1000,
                )
            )
    return rows


async def quarantined(store: TokenStore) -> list[dict[str, Any]]:
    """A few accounts in quarantine, with reason and since when; who was covered last first."""
    found = cast(
        "list[bytes]",
        await store.redis.zrange(store.keys.quarantine, -_MOST_NAMED, -1),
    )
    ids = [text_of(account) for account in reversed(found)]
    async with store.redis.pipeline(transaction=False) as pipe:
        for account_id in ids:
            pipe.hmget(store.keys.state(account_id), ["history", "quarantined_at"])
        states = await pipe.execute()
    return [
        {
            "account_id": account_id,
            "reason": last_outcome(history or b"")[:40],
            "since": number_of(since_ms) / 1000,
        }
        for account_id, (history, since_ms) in zip(ids, states, strict=True)
    ]
