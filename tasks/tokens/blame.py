"""What follows from a failure: a pure function of whose fault it was and of what came before."""

from dataclasses import dataclass

from ...config.schedule import SWEEP_INTERVAL_SECONDS
from ..dintero.errors import Blame, DinteroError

# First back-off and longest, in seconds. An account's own trouble outlives an upstream's.
_BACK_OFF_SECONDS = {
    Blame.ACCOUNT: (30.0, 3600.0),
    Blame.CREDENTIAL: (5.0, 300.0),
    Blame.UPSTREAM: (1.0, 60.0),
    Blame.US: (30.0, 600.0),
}
QUARANTINED_SECONDS = 86_400.0  # until one more attempt, as nothing is given up for good


@dataclass(frozen=True, slots=True)
class Past:
    """What came before: failures in a row, those of the last reason in a row, and that reason."""

    attempts: int = 0
    repeats: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about one failed exchange."""

    reason: str
    delay_seconds: float
    repeats: int  # failures of this reason in a row, this one included
    is_final: bool  # runs need not wait: asking again will not help
    is_quarantined: bool


def verdict_on(
    error: DinteroError,
    past: Past,
    chance: float,
    *,
    quarantine_after: int,
    life_left_seconds: float = 0.0,
) -> Verdict:
    """Judge a failure; `chance` in [0, 1) is the jitter.

    The delay is full jitter over a capped exponential
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), and never less
    than the answer's own Retry-After. The first retry comes within half of what is left of the
    token's life, so that it can still save it. Only an account's own fault, `quarantine_after`
    times in a row for the same reason, puts it into quarantine.
    """
    repeats = past.repeats + 1 if past.reason == error.reason else 1
    is_final = error.blame is Blame.ACCOUNT
    is_quarantined = is_final and repeats >= quarantine_after
    first, longest = _BACK_OFF_SECONDS[error.blame]
    if is_quarantined:
        delay = QUARANTINED_SECONDS * (1 + chance) / 2
    else:
        delay = min(longest, first * 2 ** min(past.attempts, 16)) * chance
        if past.attempts == 0 and life_left_seconds > 0:
            delay = min(delay, max(SWEEP_INTERVAL_SECONDS, life_left_seconds / 2))
        delay = max(delay, first / 10)
    delay = max(delay, error.retry_after_seconds or 0.0)
    return Verdict(error.reason, delay, repeats, is_final, is_quarantined)
