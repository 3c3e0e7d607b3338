"""When a token is renewed: decided once, by a hash, within a window of its lifetime."""

from hypothesis import assume, given
from hypothesis import strategies as st

from subtokens.tasks.tokens.renewal import LARGEST_RESERVE, WINDOW_CLOSES, WINDOW_OPENS, renew_ms

ISSUED = 1_800_000_000_000
DAY = 86_400

accounts = st.integers(1, 99_999).map(lambda number: f"T112{number:05}")
generations = st.integers(1, 2**63 - 1)
lifetimes = st.integers(15_000, 30 * DAY * 1000)
reserves = st.floats(0, 600)


def renewed(account: str, generation: int, lifetime: int, reserve: float = 22.0) -> int:
    """Milliseconds from issue to renewal."""
    return renew_ms(account, generation, ISSUED, ISSUED + lifetime, reserve) - ISSUED


@given(accounts, generations, lifetimes, reserves)
def test_renewal_falls_after_issue_and_not_after_expiry(
    account: str, generation: int, lifetime: int, reserve: float
) -> None:
    assert 0 < renewed(account, generation, lifetime, reserve) <= lifetime


@given(accounts, generations, lifetimes, reserves)
def test_the_same_token_is_always_renewed_at_the_same_instant(
    account: str, generation: int, lifetime: int, reserve: float
) -> None:
    first, again = (renewed(account, generation, lifetime, reserve) for _ in range(2))
    assert isinstance(first, int)
    assert first == again


@given(accounts, generations, lifetimes, reserves)
def test_renewal_falls_into_the_window(
    account: str, generation: int, lifetime: int, reserve: float
) -> None:
    instant = renewed(account, generation, lifetime, reserve)
    assert WINDOW_OPENS * lifetime - 1 <= instant <= WINDOW_CLOSES * lifetime


@given(accounts, generations, lifetimes, reserves)
def test_the_reserve_is_left_wherever_the_lifetime_allows_it(
    account: str, generation: int, lifetime: int, reserve: float
) -> None:
    assume(reserve * 1000 <= lifetime * LARGEST_RESERVE)
    assert lifetime - renewed(account, generation, lifetime, reserve) >= int(reserve * 1000) - 1


def test_a_lifetime_of_15_seconds_leaves_six_and_still_spreads() -> None:
    instants = {renewed("T11200001", generation, 15_000) for generation in range(1000)}
    assert max(instants) <= 9_000  # two sweeps, and two attempts of two seconds each
    assert min(instants) < 6_300
    assert max(instants) > 8_700


@given(generations, st.integers(120_000, 30 * DAY * 1000))
def test_a_fleet_onboarded_at_once_is_renewed_evenly_over_the_window(
    generation: int, lifetime: int
) -> None:
    tenths = [0] * 10
    for number in range(1_000):
        share = renewed(f"T112{number:05}", generation + number, lifetime, 0.0) / lifetime
        place = (share - WINDOW_OPENS) / (WINDOW_CLOSES - WINDOW_OPENS)
        tenths[min(9, max(0, int(place * 10)))] += 1
    assert min(tenths) > 40  # of 100 each: six standard deviations
    assert max(tenths) < 160


def test_an_account_moves_within_the_window_from_one_generation_to_the_next() -> None:
    instants = {renewed("T11200001", generation, DAY * 1000) for generation in range(100)}
    assert len(instants) == 100
