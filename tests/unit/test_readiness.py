"""What ensure exchanges so that all tokens last at once, and what it refuses."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.config.errors import InputError
from subtokens.tasks.tokens.readiness import OVERHEAD_SECONDS, SHARE, Means, plan_for

NOW = 1_800_000_000_000
HOUR = 3600
FAR = Means(lifetime_seconds=4 * HOUR, accounts_per_second=50, timeout_seconds=HOUR)


def lasting(*seconds: float) -> list[int]:
    return sorted(int(NOW + s * 1000) for s in seconds)


def test_where_all_tokens_last_nothing_is_exchanged() -> None:
    plan = plan_for(lasting(*[3 * HOUR] * 1000), NOW, 2 * HOUR, FAR)
    assert (plan.exchanges, plan.seconds) == (0, 0)


def test_only_those_that_would_not_last_are_exchanged() -> None:
    plan = plan_for(lasting(*[HOUR] * 10, *[3 * HOUR] * 90), NOW, 2 * HOUR, FAR)
    assert plan.exchanges == 10


def test_those_that_end_too_early_by_the_time_the_others_are_there_are_exchanged_too() -> None:
    # 4,000 take 100 s; some of the others last two hours now, but not in 100 s.
    edge = [2 * HOUR + 60] * 10
    plan = plan_for(lasting(*[0] * 4000, *edge, *[3 * HOUR] * 10), NOW, 2 * HOUR, FAR)
    assert plan.exchanges == 4010
    assert plan.seconds == pytest.approx(4010 / (50 * SHARE) + OVERHEAD_SECONDS)


@pytest.mark.parametrize(
    ("count", "valid_for", "means", "told"),
    [
        (10, 5 * HOUR, FAR, "tokens live 14400 s"),
        (100_000, 4 * HOUR - 60, Means(4 * HOUR, 50, 86_400), "largest valid_for that fits is 118"),
        (1_000_000, 0, Means(HOUR, 50, 86_400), "no valid_for fits"),
        (10_000, HOUR, Means(4 * HOUR, 50, 60), "longer than the timeout of 60 s"),
    ],
)
def test_what_cannot_be_is_refused_with_its_figures(
    count: int, valid_for: float, means: Means, told: str
) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        plan_for(lasting(*[-1] * count), NOW, valid_for, means)


@given(
    st.lists(st.integers(-HOUR, 6 * HOUR), max_size=300),
    st.integers(0, 5 * HOUR),
    st.floats(0.1, 100),
    st.integers(1, 2 * HOUR),
)
def test_a_plan_covers_all_that_would_not_last_when_it_is_done_and_the_largest_valid_for_fits(
    seconds: list[int], valid_for: int, rate: float, timeout: int
) -> None:
    expiries, means = lasting(*seconds), Means(4 * HOUR, rate, timeout)
    try:
        plan = plan_for(expiries, NOW, valid_for, means)
    except InputError as error:
        if found := re.search(r"largest valid_for that fits is (\d+) s", str(error)):
            largest = int(found.group(1))
            assert largest < valid_for
            plan_for(expiries, NOW, largest, means)
            with pytest.raises(InputError):
                plan_for(expiries, NOW, largest + 1, means)
        return
    done_ms = NOW + plan.seconds * 1000
    kept = [expiry for expiry in expiries if expiry >= plan.horizon_ms]
    assert len(kept) == len(expiries) - plan.exchanges
    assert all(expiry >= done_ms + valid_for * 1000 - 1 for expiry in kept)
    assert plan.seconds <= timeout
    if plan.exchanges:
        assert valid_for + plan.seconds <= 4 * HOUR
