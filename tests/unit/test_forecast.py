"""How many calls a fleet needs, and what an operator is told about it."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.tasks.tokens.forecast import (
    Forecast,
    hourly_calls,
    needed_per_second,
    usable_seconds,
)
from subtokens.tasks.tokens.renewal import Cadence, window

CADENCE = Cadence(attempt_seconds=10)
FOUR_HOURS, DAY = 4 * 3600, 86_400
SLOT_SECONDS, SLOTS = 300, 288

fleets = st.integers(0, 10_000_000)
calls = st.integers(1, 2)
lifetimes = st.floats(15, 30 * DAY)
due_counts = st.lists(st.integers(0, 100_000), min_size=SLOTS, max_size=SLOTS)


def forecast(
    accounts: int, rate_limit: float, hourly: tuple[float, ...] = (), calls_per_exchange: int = 1
) -> Forecast:
    return Forecast(
        accounts=accounts,
        calls_per_exchange=calls_per_exchange,
        lifetime_seconds=FOUR_HOURS,
        usable_seconds=usable_seconds(FOUR_HOURS, CADENCE),
        rate_limit=rate_limit,
        needed_per_second=needed_per_second(accounts, calls_per_exchange, FOUR_HOURS, CADENCE),
        hourly=hourly,
    )


def onboarded_at_once(accounts: int) -> list[int]:
    return [accounts] + [0] * (SLOTS - 1)


def steady_due_counts(accounts: int, lifetime_seconds: float) -> list[int]:
    """The due index of a fleet that has long been spread: none due after the window's close."""
    opens, closes = window(lifetime_seconds, CADENCE)

    def due_by(seconds: float) -> int:
        within = min(max(0.0, seconds - opens), closes - opens)
        certain = min(seconds, closes) - within**2 / 2 / (closes - opens)
        return round(accounts * certain * 2 / (opens + closes))

    ends = [due_by(slot * SLOT_SECONDS) for slot in range(SLOTS + 1)]
    return [end - start for start, end in pairwise(ends)]


def test_a_token_of_four_hours_is_used_for_two_hours_and_24_minutes() -> None:
    assert usable_seconds(FOUR_HOURS, CADENCE) == 8640


def test_a_fleet_that_fits_is_told_so() -> None:
    assert forecast(100_000, 50).fits
    assert forecast(100_000, 50).sentence == (
        "100,000 accounts × 1 call ÷ 8,640 s of use = 11.6 calls a second: fits into 50 a second."
    )


def test_a_fleet_that_does_not_fit_is_told_what_limit_or_what_fleet_would() -> None:
    assert not forecast(200_000, 20).fits
    assert forecast(200_000, 20).sentence == (
        "200,000 accounts × 1 call ÷ 8,640 s of use = 23.1 calls a second: will not fit into"
        " 20 a second; raise SUBTOKENS_RATE_LIMIT to 24, or serve at most 172,800 accounts."
    )


def test_a_fleet_that_fits_on_average_is_told_of_the_hour_that_does_not() -> None:
    hourly = hourly_calls(onboarded_at_once(100_000), SLOT_SECONDS, FOUR_HOURS, 1, CADENCE)
    busy = forecast(100_000, 20, hourly)
    assert busy.fits
    assert busy.peak_per_second == pytest.approx(27.8, abs=0.1)
    assert busy.sentence == (
        "100,000 accounts × 1 call ÷ 8,640 s of use = 11.6 calls a second: fits into 20 a second"
        " on average, but hour 1 from now needs 27.8 a second: renewals then run late."
    )


def test_a_single_account_with_two_calls_is_counted_in_grammar() -> None:
    assert forecast(1, 0.5, calls_per_exchange=2).sentence == (
        "1 account × 2 calls ÷ 8,640 s of use = 0.000231 calls a second: fits into 0.5 a second."
    )


def test_no_accounts_need_nothing() -> None:
    hourly = hourly_calls([0] * SLOTS, SLOT_SECONDS, FOUR_HOURS, 1, CADENCE)
    assert hourly == (0,) * 24
    for empty in (forecast(0, 0.01), forecast(0, 0.01, hourly)):
        assert empty.fits
        assert empty.peak_per_second == 0
        assert "0 accounts" in empty.sentence
        assert "= 0 calls a second: fits" in empty.sentence


def test_the_forecast_goes_through_json_with_its_verdict() -> None:
    plain = forecast(200_000, 20, (23.0, 24.0)).as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["fits"] is False
    assert plain["peak_per_second"] == 24.0
    assert plain["sentence"] == forecast(200_000, 20).sentence


@given(fleets, st.floats(0.01, 1_000_000), calls)
def test_either_remedy_of_a_fleet_that_does_not_fit_makes_it_fit(
    accounts: int, rate_limit: float, calls_per_exchange: int
) -> None:
    told = forecast(accounts, rate_limit, (), calls_per_exchange)
    remedy = re.search(r"LIMIT to (\d+), or serve at most ([\d,]+) account", told.sentence)
    assert (remedy is None) == told.fits
    if remedy:
        limit, most = int(remedy[1]), int(remedy[2].replace(",", ""))
        assert forecast(accounts, limit, (), calls_per_exchange).fits
        assert limit - 1 < told.needed_per_second
        spared, refused = (
            forecast(number, rate_limit, (), calls_per_exchange).needed_per_second
            for number in (most, most + 1)
        )
        assert spared <= rate_limit * (1 + 1e-9)
        assert refused > rate_limit * (1 - 1e-9)


@given(fleets, fleets, calls, lifetimes)
def test_more_accounts_or_calls_never_need_less(
    accounts: int, more: int, calls_per_exchange: int, lifetime: float
) -> None:
    need = needed_per_second(accounts, calls_per_exchange, lifetime, CADENCE)
    assert needed_per_second(accounts + more, calls_per_exchange, lifetime, CADENCE) >= need
    assert needed_per_second(accounts, calls_per_exchange + 1, lifetime, CADENCE) >= need


@given(st.integers(1_000_000, 10_000_000), calls, lifetimes)
def test_every_hour_of_a_fleet_that_is_spread_needs_the_average(
    accounts: int, calls_per_exchange: int, lifetime: float
) -> None:
    due = steady_due_counts(accounts, lifetime)
    hourly = hourly_calls(due, SLOT_SECONDS, lifetime, calls_per_exchange, CADENCE)
    average = needed_per_second(accounts, calls_per_exchange, lifetime, CADENCE)
    assert hourly == pytest.approx([average] * 24, rel=0.03)


@given(due_counts, due_counts, calls, lifetimes)
def test_every_hour_needs_what_its_accounts_need_one_by_one(
    some: list[int], others: list[int], calls_per_exchange: int, lifetime: float
) -> None:
    both = [one + other for one, other in zip(some, others, strict=True)]
    apart, added, together = (
        hourly_calls(due, SLOT_SECONDS, lifetime, calls_per_exchange, CADENCE)
        for due in (some, others, both)
    )
    assert len(together) == 24
    assert together == pytest.approx([a + b for a, b in zip(apart, added, strict=True)])
    assert all(more >= less for more, less in zip(together, apart, strict=True))


@given(due_counts, calls, st.floats(2.5 * DAY, 30 * DAY))
def test_what_is_renewed_once_in_a_day_is_called_for_once(
    due: list[int], calls_per_exchange: int, lifetime: float
) -> None:
    hourly = hourly_calls(due, SLOT_SECONDS, lifetime, calls_per_exchange, CADENCE)
    assert sum(hourly) * 3600 == pytest.approx(sum(due) * calls_per_exchange)


def test_what_is_renewed_twice_in_a_day_is_called_for_twice() -> None:
    """Tokens of 29 hours: the window opens after 11.6 hours and closes after 23.2."""
    hourly = hourly_calls(onboarded_at_once(100_000), SLOT_SECONDS, 29 * 3600, 1, CADENCE)
    assert sum(hourly) * 3600 == pytest.approx(200_000, rel=0.005)


def test_a_mass_onboarding_comes_back_within_its_window_and_settles_in_the_day() -> None:
    opens, closes = window(FOUR_HOURS, CADENCE)  # 1.6 and 3.2 hours
    hourly = hourly_calls(onboarded_at_once(100_000), SLOT_SECONDS, FOUR_HOURS, 1, CADENCE)
    average = needed_per_second(100_000, 1, FOUR_HOURS, CADENCE)
    assert hourly[0] == pytest.approx(100_000 / 3600)
    assert max(hourly[1:]) == hourly[2] == pytest.approx(100_000 / (closes - opens), rel=0.01)
    assert hourly[14:] == pytest.approx([average] * 10, rel=0.02)


@given(due_counts, st.floats(15, 2 * SLOT_SECONDS))
def test_tokens_too_short_for_a_wave_need_the_average_in_every_hour(
    due: list[int], lifetime: float
) -> None:
    hourly = hourly_calls(due, SLOT_SECONDS, lifetime, 1, CADENCE)
    assert hourly == (needed_per_second(sum(due), 1, lifetime, CADENCE),) * 24
