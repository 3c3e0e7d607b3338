"""What follows from a failure: a pure function of whose fault it was and how often it happened."""

from dataclasses import dataclass

from ..dintero.errors import Blame, DinteroError

# First back-off and longest, in seconds. An account's own trouble outlives an upstream's.
_BACK_OFF_SECONDS = {
    Blame.ACCOUNT: (30.0, 3600.0),
    Blame.CREDENTIAL: (5.0, 300.0),
    Blame.UPSTREAM: (1.0, 60.0),
    Blame.US: (30.0, 600.0),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about one failed exchange."""

    reason: str
    delay_seconds: float
    is_final: bool  # runs need not wait: asking again will not help


def verdict_on(error: DinteroError, attempts: int, chance: float) -> Verdict:
    """Judge a failure after `attempts` earlier ones in a row; `chance` in [0, 1) is the jitter.

    The delay is full jitter over a capped exponential
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), and never less
    than the answer's own Retry-After.
    """
    first, longest = _BACK_OFF_SECONDS[error.blame]
    delay = min(longest, first * 2 ** min(attempts, 16)) * chance
    delay = max(delay, first / 10, error.retry_after_seconds or 0.0)
    return Verdict(error.reason, delay, is_final=error.blame is Blame.ACCOUNT)
