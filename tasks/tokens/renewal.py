"""When to renew: pure functions of a token's lifetime and of the clock."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from ...config.schedule import SWEEP_INTERVAL_SECONDS

SHORTEST_LIFETIME_SECONDS = 15.0  # below it, best effort
CLOCK_MARGIN_SECONDS = 2.0  # how far workers' clocks may differ, or a twentieth of the lifetime
WINDOW_OPENS, WINDOW_CLOSES = 0.4, 0.8  # shares of the lifetime
_GOLDEN_RATIO = 0.618_033_988_749_894_9


@dataclass(frozen=True, slots=True)
class Cadence:
    """What renewal leaves room for: an attempt at one account, and the wait for a sweep."""

    attempt_seconds: float
    sweep_seconds: float = SWEEP_INTERVAL_SECONDS


def window(lifetime_seconds: float, cadence: Cadence) -> tuple[float, float]:
    """From when to when after its issue a token is renewed, in seconds.

    It closes early enough for two attempts and two sweeps before expiry, whatever the clock
    within its margin; an attempt at a short token is given a sixth of its lifetime. Its width is
    what spreads a fleet that was onboarded at once, so a short token's window opens earlier.
    """
    attempt = min(cadence.attempt_seconds, lifetime_seconds / 6)
    margin = min(CLOCK_MARGIN_SECONDS, lifetime_seconds / 20)
    latest = 1 - (margin + 2 * (attempt + cadence.sweep_seconds)) / lifetime_seconds
    closes = max(WINDOW_OPENS, min(WINDOW_CLOSES, latest))
    opens = min(WINDOW_OPENS, max(WINDOW_OPENS / 2, closes - WINDOW_OPENS / 2))
    return opens * lifetime_seconds, closes * lifetime_seconds


def renew_ms(place: float, issued_ms: int, expires_ms: int, cadence: Cadence) -> int:
    """The instant from which a token is due for renewal, in milliseconds since 1970.

    `place` in [0, 1) is where in the window; it is decided once, when the token is stored.
    """
    opens, closes = window((expires_ms - issued_ms) / 1000, cadence)
    return issued_ms + int((opens + (closes - opens) * place) * 1000)


def even_places(start: float) -> Iterator[float]:
    """Places within the window for one renewal after the other, without end.

    Multiples of the golden ratio: any stretch of them lies more evenly than chance would have it
    (docs/decisions/0004), so that no minute is busier than it must be.
    """
    return ((start + number * _GOLDEN_RATIO) % 1 for number in count())


def unchanged_due_ms(expires_ms: int, now_ms: int, cadence: Cadence) -> int:
    """When to ask again after an answer that brought no later expiry than is known already.

    Just in time for two attempts; within that time after half of what is left, at least a sweep
    apart: an upstream that hands out the same token until it ends is not asked in a loop.
    """
    reserve = 2 * (cadence.attempt_seconds + cadence.sweep_seconds) + CLOCK_MARGIN_SECONDS
    soonest = now_ms + max(int(cadence.sweep_seconds * 1000), (expires_ms - now_ms) // 2)
    return max(soonest, expires_ms - int(reserve * 1000))


def attempt_limit_seconds(
    expires_ms: int, now_ms: int, cadence: Cadence, *, is_retry: bool
) -> float:
    """How long an attempt may take: while a token still lives, so that a retry fits before its end.

    `expires_ms` is that token's expiry, or anything in the past where there is none.
    """
    left = (expires_ms - now_ms) / 1000
    if left <= 0:
        return cadence.attempt_seconds
    most = left if is_retry else (left - cadence.sweep_seconds) / 2
    return min(cadence.attempt_seconds, max(cadence.sweep_seconds, most))
