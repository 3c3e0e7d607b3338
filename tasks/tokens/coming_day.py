"""The coming day's calls, read from the due index."""

from statistics import median
from typing import cast

from .errors import SealError
from .forecast import Forecast, hourly_calls, needed_per_second, usable_seconds
from .renewal import Cadence
from .store import TokenStore, text_of

_SLOT_SECONDS, _SLOTS = 300, 288
_TOKENS_LOOKED_AT = 25


async def fleet_forecast(
    store: TokenStore, rate_limit: float, calls_per_exchange: int, cadence: Cadence
) -> Forecast | None:
    """What the fleet needs in the next 24 hours; None before its first token."""
    lifetime = await lifetime_seconds(store)
    if lifetime is None:
        return None
    now = store.now_ms()
    async with store.redis.pipeline(transaction=False) as pipe:
        pipe.zcard(store.keys.due)
        pipe.zcount(store.keys.due, "-inf", "(0")
        for slot in range(_SLOTS):
            start = f"({now + slot * _SLOT_SECONDS * 1000}" if slot else 0
            pipe.zcount(store.keys.due, start, now + (slot + 1) * _SLOT_SECONDS * 1000)
        enrolled, asked, first, *later = await pipe.execute()
    due = [asked + first, *later]
    return Forecast(
        enrolled,
        calls_per_exchange,
        lifetime,
        usable_seconds(lifetime, cadence),
        rate_limit,
        needed_per_second(enrolled, calls_per_exchange, lifetime, cadence),
        hourly_calls(due, _SLOT_SECONDS, lifetime, calls_per_exchange, cadence),
    )


async def lifetime_seconds(store: TokenStore) -> float | None:
    """The median lifetime of a few tokens, as they were issued: of those that live the longest."""
    chosen = cast(
        "list[bytes]", await store.redis.zrange(store.keys.expiry, -_TOKENS_LOOKED_AT, -1)
    )
    lifetimes = []
    for account in chosen:
        try:
            record = await store.load(text_of(account))
        except SealError:
            continue
        if record:
            lifetimes.append((record.expires_ms - record.issued_ms) / 1000)
    return median(lifetimes) if lifetimes else None
