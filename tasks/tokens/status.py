"""How one partner's fleet stands, read from the indexes."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice, pairwise
from typing import Any, cast

from ...config.schedule import SWEEP_INTERVAL_SECONDS
from .key_use import live_workers
from .lanes import LANES
from .record import instant_of
from .store import TokenStore, last_outcome, number_of, text_of

HORIZON_SECONDS = {"5 min": 300, "1 h": 3600, "4 h": 14_400, "24 h": 86_400}
_PAGE = 5_000  # as a command, so that Redis is never held for long


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """Counts of accounts, account-seconds, and the instants that matter."""

    partner_id: str
    enrolled: int
    fresh: int
    stale: int  # valid, and renewal is being tried
    expired: int
    never_exchanged: int
    quarantined: dict[str, int]  # by reason; those whose token still lives are fresh or stale too
    expiring: dict[str, int]  # valid tokens by how long they live; "later" is beyond the longest
    due: int  # wait for a worker now
    due_by_lane: dict[str, int]
    overdue: int  # of them, renewals that two sweeps have not brought to a worker
    claimed: int  # being exchanged now
    failing: int  # last attempt failed
    oldest_due_seconds: float  # 0 if none is due
    oldest_due_seconds_by_lane: dict[str, float]
    catch_up_seconds: float  # until what is due is done, by the rate limit
    next_expiry_at: datetime | None
    last_sweep_at: datetime | None
    last_discovery_at: datetime | None
    held_back: int  # accounts that Dintero no longer lists, too many to drop without a word
    open_runs: int
    workers_alive: int  # processes that have looked at the fleet lately
    beats_alive: int  # that have sent a sweep lately
    paused_seconds: float  # nobody calls Dintero for that long
    pause_reason: str  # of the pause now, or the last one
    barred_by: str  # whose fault it is that nobody calls but a prober: upstream, credential, us
    barred_since: datetime | None
    exchanged: int  # first tokens, since the store began
    renewed: int  # and those that followed
    failed: int
    lapses: int  # times that a token ended before the next was there
    uncovered_seconds: float  # account-seconds without a valid token after a first one
    onboarding_seconds: float  # account-seconds from enrolment to the first token
    quarantined_seconds: float  # account-seconds without a valid token in quarantine

    @property
    def valid(self) -> int:
        """Accounts whose token has not expired."""
        return self.fresh + self.stale

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; instants in ISO 8601."""
        plain = asdict(self) | {"valid": self.valid}
        instants = {k: v.isoformat() for k, v in plain.items() if isinstance(v, datetime)}
        return plain | instants


async def fleet_status(store: TokenStore, accounts_per_second: float) -> FleetStatus:
    """Look at the fleet now; the rate limit allows that many. Raises redis.RedisError."""
    now, keys = store.now_ms(), store.keys
    late = now - int(2000 * SWEEP_INTERVAL_SECONDS)
    edges: list[float | str] = [
        now,
        *(now + seconds * 1000 for seconds in HORIZON_SECONDS.values()),
        "+inf",
    ]
    async with store.redis.pipeline(transaction=False) as pipe:
        pipe.zcard(keys.due)
        pipe.zcount(keys.expiry, 0, now)
        pipe.zcount(keys.expiry, "-inf", "(0")
        pipe.zcount(keys.due, 0, now)
        pipe.zcount(keys.due, -now, "(0")
        pipe.zcount(keys.due, 0, late)
        pipe.hlen(keys.claims)
        pipe.scard(keys.failing)
        pipe.zrange(keys.due, 0, now, byscore=True, offset=0, num=1, withscores=True)
        pipe.zrange(keys.due, "(0", -now, byscore=True, desc=True, offset=0, num=1, withscores=True)
        pipe.zrange(keys.expiry, f"({now}", "+inf", byscore=True, offset=0, num=1, withscores=True)
        pipe.zcard(keys.runs)
        pipe.hmget(keys.limiter, ["paused_until", "pause_reason"])
        pipe.hmget(keys.circuit, ["blame", "opened_at", "probe_at", "reason"])
        pipe.hgetall(keys.workers)
        pipe.hgetall(keys.beats)
        pipe.hgetall(keys.fleet)
        for start, end in pairwise(edges):
            pipe.zcount(keys.expiry, f"({start}", end)
            pipe.zcount(keys.quarantine, f"({start}", end)
        (
            enrolled, expired, never, renewals, asked, overdue, claimed, failing,
            oldest, longest_asked, expiring, runs,
            (paused_until, pause_reason), (blame, opened_at, probe_at, why),
            workers, beats, kept, *buckets,
        ) = await pipe.execute()  # fmt: skip
    horizon = [a + b for a, b in zip(buckets[::2], buckets[1::2], strict=True)]
    stale = await _stale(store, now)
    server_seconds = await store.scripts.server_seconds()  # pauses are told in its clock
    waits = [
        max([0.0, *(now - abs(score) for _, score in found)]) / 1000
        for found in (oldest, longest_asked)
    ]
    fleet = {text_of(name): number_of(value) for name, value in kept.items()}
    uncovered = await _gap_seconds(store, keys.expiry, 0, now, now)
    onboarding = await _gap_seconds(store, keys.expiry, "-inf", "(0", now)
    quarantined = await _gap_seconds(store, keys.quarantine, "-inf", now, now)
    return FleetStatus(
        partner_id=keys.partner_id,
        enrolled=enrolled,
        fresh=sum(horizon) - stale,
        stale=stale,
        expired=expired,
        never_exchanged=never,
        quarantined=await _quarantined(store),
        expiring=dict(zip([*HORIZON_SECONDS, "later"], horizon, strict=True)),
        due=renewals + asked,
        due_by_lane=dict(zip(LANES, (renewals, asked), strict=True)),
        overdue=overdue,
        claimed=claimed,
        failing=failing,
        oldest_due_seconds=max(waits),
        oldest_due_seconds_by_lane=dict(zip(LANES, waits, strict=True)),
        catch_up_seconds=(renewals + asked) / accounts_per_second,
        next_expiry_at=_instant(expiring[0][1]) if expiring else None,
        last_sweep_at=_instant(fleet.get("swept_at")),
        last_discovery_at=_instant(fleet.get("discovered_at")),
        held_back=fleet.get("held_back", 0),
        open_runs=runs,
        workers_alive=len(live_workers(workers.items(), now)),
        beats_alive=len(live_workers(beats.items(), now)),
        paused_seconds=max(
            0.0,
            number_of(paused_until) / 1e6 - server_seconds,
            (number_of(probe_at) - now) / 1000,
        ),
        pause_reason=text_of(why if blame else pause_reason),
        barred_by=text_of(blame),
        barred_since=_instant(number_of(opened_at)) if opened_at else None,
        exchanged=fleet.get("exchanged", 0),
        renewed=fleet.get("renewed", 0),
        failed=fleet.get("failed", 0),
        lapses=fleet.get("lapses", 0) + expired,
        uncovered_seconds=fleet.get("uncovered_ms", 0) / 1000 + uncovered,
        onboarding_seconds=fleet.get("onboarding_ms", 0) / 1000 + onboarding,
        quarantined_seconds=fleet.get("quarantined_ms", 0) / 1000 + quarantined,
    )


async def _stale(store: TokenStore, now: int) -> int:
    """How many valid tokens are past their renewal: due, being renewed, or tried in vain."""
    keys = store.keys
    async with store.redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.claims)
        pipe.smembers(keys.failing)
        claims, failing = await pipe.execute()
    tried: set[bytes] = set(failing)
    tried |= {account for account, claim in claims.items() if b" -" not in claim}
    async for due in _between(store, keys.due, 0, now):
        tried.update(account for account, _ in due)
    stale, waiting = 0, iter(tried)
    while chosen := [text_of(account) for account in islice(waiting, _PAGE)]:
        async with store.redis.pipeline(transaction=False) as pipe:
            pipe.zmscore(keys.expiry, chosen)
            pipe.zmscore(keys.quarantine, chosen)
            for covered in zip(*await pipe.execute(), strict=True):
                stale += any(score is not None and score > now for score in covered)
    return stale


async def _gap_seconds(
    store: TokenStore, key: str, least: float | str, most: float | str, now: int
) -> float:
    """The account-seconds that have passed since the scores in this range."""
    total = 0.0
    async for page in _between(store, key, least, most):
        total += sum(now - abs(score) for _, score in page)
    return total / 1000


async def _between(
    store: TokenStore, key: str, least: float | str, most: float | str
) -> AsyncIterator[list[tuple[bytes, float]]]:
    """The members scored from `least`, 0 or "-inf", page by page.

    By rank, as by score each page would walk through all that come before it.
    """
    async with store.redis.pipeline(transaction=False) as pipe:
        pipe.zcount(key, "-inf", "(0")
        pipe.zcount(key, least, most)
        below_zero, count = await pipe.execute()
    before = 0 if least == "-inf" else below_zero
    for first in range(before, before + count, _PAGE):
        last = min(first + _PAGE, before + count) - 1
        page: list[tuple[bytes, float]] = await store.redis.zrange(
            key, first, last, withscores=True
        )  # type: ignore[assignment]  # with scores, these are pairs
        yield page


async def _quarantined(store: TokenStore) -> dict[str, int]:
    accounts = cast("list[bytes]", await store.redis.zrange(store.keys.quarantine, 0, -1))
    reasons: Counter[str] = Counter()
    for start in range(0, len(accounts), _PAGE):
        async with store.redis.pipeline(transaction=False) as pipe:
            for account in accounts[start : start + _PAGE]:
                pipe.hget(store.keys.state(text_of(account)), "history")
            reasons.update(last_outcome(history or b"") for history in await pipe.execute())
    return dict(reasons)


def _instant(milliseconds: float | None) -> datetime | None:
    return None if milliseconds is None else instant_of(milliseconds)
