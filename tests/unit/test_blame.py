"""What follows from a failure: how long to wait, and whether runs need wait for the account."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.tasks.dintero.errors import Blame, DinteroError, error_for_status
from subtokens.tasks.tokens.blame import verdict_on

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


def test_each_blame_has_its_bounds() -> None:
    assert set(BOUNDS) == set(Blame)
    for blame, (status, _, _) in BOUNDS.items():
        assert error(status).blame is blame


@pytest.mark.parametrize("blame", list(Blame))
def test_the_wait_doubles_with_each_failure_up_to_its_longest(blame: Blame) -> None:
    status, first, longest = BOUNDS[blame]
    waits = [verdict_on(error(status), number, ALMOST_ONE).delay_seconds for number in range(40)]
    assert waits == [pytest.approx(min(longest, first * 2**number)) for number in range(40)]


@given(statuses, attempts, chances)
def test_the_wait_is_never_zero_and_never_beyond_its_longest(
    status: int, number: int, chance: float
) -> None:
    failure = error(status)
    _, first, longest = BOUNDS[failure.blame]
    verdict = verdict_on(failure, number, chance)
    assert first / 10 <= verdict.delay_seconds <= longest
    assert verdict == verdict_on(failure, number, chance)


@given(attempts, chances, st.floats(0, 3600))
def test_a_wish_to_wait_is_never_undercut(number: int, chance: float, wish: float) -> None:
    without = verdict_on(error(429), number, chance).delay_seconds
    assert verdict_on(error(429, wish), number, chance).delay_seconds == max(without, wish)


@given(attempts, st.lists(chances, min_size=2, max_size=2, unique=True).map(sorted))
def test_jitter_spreads_over_the_whole_wait(number: int, pair: list[float]) -> None:
    low, high = (verdict_on(error(500), number, chance).delay_seconds for chance in pair)
    assert low <= high


@given(statuses, attempts, chances)
def test_only_the_accounts_own_fault_is_final(status: int, number: int, chance: float) -> None:
    failure = error(status)
    verdict = verdict_on(failure, number, chance)
    assert verdict.is_final is (failure.blame is Blame.ACCOUNT)
    assert verdict.reason == failure.reason
