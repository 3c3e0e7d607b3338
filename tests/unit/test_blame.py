"""What follows from a failure: how long to wait, and whether runs need wait for the account."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.tasks.dintero.errors import Blame, DinteroError, error_for_status
from subtokens.tasks.tokens.blame import QUARANTINED_SECONDS, Past, Verdict, verdict_on

BOUNDS = {
    Blame.ACCOUNT: (403, 30.0, 3600.0),
    Blame.CREDENTIAL: (401, 5.0, 300.0),
    Blame.UPSTREAM: (500, 1.0, 60.0),
    Blame.US: (302, 30.0, 600.0),
}
ALMOST_ONE = 1 - 2**-53
statuses = st.sampled_from([400, 401, 403, 404, 429, 500, 503, 302])
attempts = st.integers(0, 10**6)
chances = st.floats(0, 1, exclude_max=True)


def error(status: int, retry_after: float | None = None) -> DinteroError:
    return error_for_status("exchange", status, retry_after_seconds=retry_after)


def judged(failure: DinteroError, attempts: int, chance: float, **known: float) -> Verdict:
    """A verdict after so many failures of changing reasons, so that nothing is quarantined."""
    return verdict_on(failure, Past(attempts, 1, "other"), chance, quarantine_after=5, **known)


def test_each_blame_has_its_bounds() -> None:
    assert set(BOUNDS) == set(Blame)
    for blame, (status, _, _) in BOUNDS.items():
        assert error(status).blame is blame


@pytest.mark.parametrize("blame", list(Blame))
def test_the_wait_doubles_with_each_failure_up_to_its_longest(blame: Blame) -> None:
    status, first, longest = BOUNDS[blame]
    waits = [judged(error(status), number, ALMOST_ONE).delay_seconds for number in range(40)]
    assert waits == [pytest.approx(min(longest, first * 2**number)) for number in range(40)]


@given(statuses, attempts, chances)
def test_the_wait_is_never_zero_and_never_beyond_its_longest(
    status: int, number: int, chance: float
) -> None:
    failure = error(status)
    _, first, longest = BOUNDS[failure.blame]
    verdict = judged(failure, number, chance)
    assert first / 10 <= verdict.delay_seconds <= longest
    assert verdict == judged(failure, number, chance)


@given(attempts, chances, st.floats(0, 3600))
def test_a_wish_to_wait_is_never_undercut(number: int, chance: float, wish: float) -> None:
    without = judged(error(429), number, chance).delay_seconds
    assert judged(error(429, wish), number, chance).delay_seconds == max(without, wish)


@given(attempts, st.lists(chances, min_size=2, max_size=2, unique=True).map(sorted))
def test_jitter_spreads_over_the_whole_wait(number: int, pair: list[float]) -> None:
    low, high = (judged(error(500), number, chance).delay_seconds for chance in pair)
    assert low <= high


@given(statuses, attempts, chances)
def test_only_the_accounts_own_fault_is_final(status: int, number: int, chance: float) -> None:
    failure = error(status)
    verdict = judged(failure, number, chance)
    assert verdict.is_final is (failure.blame is Blame.ACCOUNT)
    assert verdict.reason == failure.reason


@given(statuses, chances, st.floats(0.1, 10**6))
def test_the_first_retry_comes_while_half_of_the_tokens_life_is_left(
    status: int, chance: float, left: float
) -> None:
    failure = error(status)
    first, _ = BOUNDS[failure.blame][1:]
    delay = judged(failure, 0, chance, life_left_seconds=left).delay_seconds
    assert delay <= max(1.0, left / 2, first / 10)
    assert delay <= judged(failure, 0, chance).delay_seconds


@given(statuses, st.integers(1, 20), chances, st.integers(1, 10))
def test_quarantine_is_for_the_accounts_own_fault_the_same_in_a_row(
    status: int, repeats: int, chance: float, after: int
) -> None:
    failure = error(status)
    past = Past(repeats - 1, repeats - 1, failure.reason)
    verdict = verdict_on(failure, past, chance, quarantine_after=after)
    assert verdict.repeats == repeats
    assert verdict.is_quarantined is (failure.blame is Blame.ACCOUNT and repeats >= after)
    if verdict.is_quarantined:  # and even then it is tried again, once a day
        assert QUARANTINED_SECONDS / 2 <= verdict.delay_seconds <= QUARANTINED_SECONDS


def test_another_reason_begins_to_count_anew() -> None:
    verdict = verdict_on(error(404), Past(9, 4, "refused_403"), 0.5, quarantine_after=5)
    assert (verdict.reason, verdict.repeats, verdict.is_quarantined) == ("refused_404", 1, False)
