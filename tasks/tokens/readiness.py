"""What `ensure` has to exchange so that all tokens last at once, and whether that can be.

Pure arithmetic of expiries, lifetime and rate; instants are milliseconds since 1970.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from ...config.errors import InputError

SHARE = 0.8  # of the rate, as renewals may be due meanwhile
OVERHEAD_SECONDS = 3.0  # the calls in flight, a sweep and the way back


@dataclass(frozen=True, slots=True)
class Plan:
    """Exchange for every account whose token ends before `horizon_ms`; it takes so long."""

    horizon_ms: float
    exchanges: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Means:
    """What there is to do it with."""

    lifetime_seconds: float  # of a new token
    accounts_per_second: float  # by the rate limit
    timeout_seconds: float


def plan_for(expiries: Sequence[int], now_ms: int, valid_for_seconds: float, means: Means) -> Plan:
    """Whom to exchange for, so that every token lasts `valid_for_seconds` when the last is there.

    `expiries` are sorted; accounts without a token have one in the past. The longer the exchanges
    take, the more of the other tokens end too early: the least time that covers its own accounts
    is sought. Raises InputError, with the figures and what would fit, where that cannot be.
    """
    plan = _least(expiries, now_ms, valid_for_seconds, means)
    if not plan.exchanges or _fits(plan, valid_for_seconds, means):
        return plan
    raise InputError(_told(expiries, now_ms, valid_for_seconds, means, plan))


def _least(expiries: Sequence[int], now_ms: int, valid_for_seconds: float, means: Means) -> Plan:
    seconds = 0.0
    while True:
        horizon_ms = now_ms + (valid_for_seconds + seconds) * 1000
        exchanges = bisect_left(expiries, horizon_ms)
        needed = exchanges / (means.accounts_per_second * SHARE) + OVERHEAD_SECONDS
        if not exchanges or needed <= seconds:
            return Plan(horizon_ms, exchanges, seconds)
        seconds = needed


def _fits(plan: Plan, valid_for_seconds: float, means: Means) -> bool:
    most = min(means.timeout_seconds, means.lifetime_seconds - valid_for_seconds)
    return plan.seconds <= most


def _told(
    expiries: Sequence[int], now_ms: int, valid_for_seconds: float, means: Means, plan: Plan
) -> str:
    figures = (
        f"valid_for {valid_for_seconds:g} s cannot be had: tokens live "
        f"{means.lifetime_seconds:g} s, and {_counted(plan.exchanges)} take {plan.seconds:.0f} s "
        f"({means.accounts_per_second * SHARE:g} a second, and {OVERHEAD_SECONDS:g} s on the way)"
    )
    if plan.seconds > means.timeout_seconds:
        figures += f", longer than the timeout of {means.timeout_seconds:g} s"
    largest = _largest(expiries, now_ms, valid_for_seconds, means)
    if largest is None:
        return f"{figures}; no valid_for fits: allow a longer timeout, or a higher rate limit"
    return f"{figures}; the largest valid_for that fits is {largest} s"


def _counted(exchanges: int) -> str:
    return f"{exchanges} exchange{'s' * (exchanges != 1)}"


def _largest(
    expiries: Sequence[int], now_ms: int, valid_for_seconds: float, means: Means
) -> int | None:
    """In whole seconds, as what fits for one valid_for fits for any smaller one."""
    fitting, failing = -1, int(valid_for_seconds) + 1
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        plan = _least(expiries, now_ms, middle, means)
        if not plan.exchanges or _fits(plan, middle, means):
            fitting = middle
        else:
            failing = middle
    return fitting if fitting >= 0 else None
