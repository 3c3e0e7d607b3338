"""When a token is renewed: decided once, evenly, within a window of its lifetime."""

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.tasks.tokens.renewal import (
    CLOCK_MARGIN_SECONDS,
    Cadence,
    attempt_limit_seconds,
    even_places,
    renew_ms,
    unchanged_due_ms,
    window,
)

ISSUED = 1_800_000_000_000
DAY = 86_400
A_MILLISECOND = 0.001  # what rounding to whole milliseconds may cost

places = st.floats(0, 1, exclude_max=True)
lifetimes = st.integers(15_000, 30 * DAY * 1000)
cadences = st.floats(0.1, 60).map(Cadence)
shares = st.floats(0, 1)


def renewed_ms(place: float, lifetime_ms: int, cadence: Cadence) -> int:
    """Milliseconds from issue to renewal."""
    return renew_ms(place, ISSUED, ISSUED + lifetime_ms, cadence) - ISSUED


def attempt_seconds(lifetime_ms: int, cadence: Cadence) -> float:
    return min(cadence.attempt_seconds, lifetime_ms / 6000)


def margin_seconds(lifetime_ms: int) -> float:
    return min(CLOCK_MARGIN_SECONDS, lifetime_ms / 20_000)


@given(places, lifetimes, cadences, shares)
def test_renewal_falls_after_issue_whatever_the_clock(
    place: float, lifetime: int, cadence: Cadence, share: float
) -> None:
    skew = margin_seconds(lifetime) * share
    assert renewed_ms(place, lifetime, cadence) / 1000 - skew > 0


@given(places, lifetimes, cadences, shares)
def test_two_sweeps_and_two_attempts_fit_between_renewal_and_expiry_whatever_the_clock(
    place: float, lifetime: int, cadence: Cadence, share: float
) -> None:
    begun = renewed_ms(place, lifetime, cadence) / 1000
    begun += margin_seconds(lifetime) * share
    two = 2 * (attempt_seconds(lifetime, cadence) + cadence.sweep_seconds)
    assert begun + two <= lifetime / 1000 + A_MILLISECOND


@given(places, lifetimes, cadences)
def test_every_token_is_due_at_a_whole_millisecond_before_its_expiry_at_each_look_the_same(
    place: float, lifetime: int, cadence: Cadence
) -> None:
    first, again = (renewed_ms(place, lifetime, cadence) for _ in range(2))
    assert isinstance(first, int)
    assert first == again < lifetime


@given(places, lifetimes, cadences)
def test_renewal_falls_into_the_window(place: float, lifetime: int, cadence: Cadence) -> None:
    opens, closes = window(lifetime / 1000, cadence)
    instant = renewed_ms(place, lifetime, cadence) / 1000
    assert opens - A_MILLISECOND <= instant <= closes + A_MILLISECOND


@given(lifetimes, cadences)
def test_the_window_is_at_least_a_fifth_of_the_lifetime_wide_and_lies_between_its_fifths(
    lifetime: int, cadence: Cadence
) -> None:
    opens, closes = (instant * 1000 / lifetime for instant in window(lifetime / 1000, cadence))
    assert closes - opens >= 0.2 - 1e-9
    assert opens >= 0.2 - 1e-9
    assert closes <= 0.8 + 1e-9


@given(cadences, st.integers(0, 30 * DAY))
def test_a_long_token_is_renewed_between_two_and_four_fifths_of_its_lifetime(
    cadence: Cadence, longer_seconds: int
) -> None:
    reserve = 2 * (cadence.attempt_seconds + cadence.sweep_seconds) + CLOCK_MARGIN_SECONDS
    lifetime = 5 * reserve + 1 + longer_seconds
    assert window(lifetime, cadence) == pytest.approx((0.4 * lifetime, 0.8 * lifetime))


def test_a_lifetime_of_15_seconds_leaves_over_seven_and_still_spreads_over_three() -> None:
    cadence = Cadence(attempt_seconds=10)
    instants = {renewed_ms(number / 1000, 15_000, cadence) for number in range(1000)}
    assert 4_249 <= min(instants) < 4_300
    assert 7_200 < max(instants) <= 7_250


@given(places, st.integers(0, 10_000), st.integers(10, 1_000))
def test_any_stretch_of_places_is_even(start: float, skipped: int, length: int) -> None:
    chosen = sorted(islice(even_places(start), skipped, skipped + length))
    gaps = [b - a for a, b in pairwise([*chosen, chosen[0] + 1])]
    assert all(0 <= place < 1 for place in chosen)
    assert max(gaps) < 2.62 / length  # by chance, the widest of a thousand is about 7
    assert min(gaps) > 0.38 / length


@given(st.integers(-DAY * 1000, 30 * DAY * 1000), cadences)
def test_after_an_unchanged_answer_at_least_a_sweep_passes(left: int, cadence: Cadence) -> None:
    due = unchanged_due_ms(ISSUED + left, ISSUED, cadence)
    assert isinstance(due, int)
    assert due - ISSUED >= cadence.sweep_seconds * 1000


@given(st.integers(1, 30 * DAY * 1000), cadences)
def test_an_upstream_that_repeats_itself_is_asked_at_most_nine_times_until_expiry(
    left: int, cadence: Cadence
) -> None:
    now, asked = ISSUED, 0
    while now < ISSUED + left:
        now = unchanged_due_ms(ISSUED + left, now, cadence)
        asked += 1
    assert asked <= 9


@given(st.floats(3.001, 30 * DAY), cadences)
def test_an_attempt_leaves_room_for_a_sweep_and_a_retry_as_long_before_expiry(
    left_seconds: float, cadence: Cadence
) -> None:
    left = int(left_seconds * 1000)
    first = attempt_limit_seconds(ISSUED + left, ISSUED, cadence, is_retry=False)
    retry = ISSUED + int((first + cadence.sweep_seconds) * 1000)
    second = attempt_limit_seconds(ISSUED + left, retry, cadence, is_retry=True)
    assert first - A_MILLISECOND <= second
    assert first + cadence.sweep_seconds + second <= left / 1000 + 2 * A_MILLISECOND


@given(lifetimes, cadences, shares)
def test_a_renewal_that_is_a_sweep_late_is_given_a_whole_attempt(
    lifetime: int, cadence: Cadence, share: float
) -> None:
    _, closes = window(lifetime / 1000, cadence)
    late = closes + cadence.sweep_seconds + margin_seconds(lifetime) * share
    now = ISSUED + int(late * 1000)
    limit = attempt_limit_seconds(ISSUED + lifetime, now, cadence, is_retry=False)
    assert limit >= attempt_seconds(lifetime, cadence) - A_MILLISECOND


@given(st.integers(-30 * DAY * 1000, 0), cadences, st.booleans())
def test_without_a_living_token_an_attempt_has_its_whole_time(
    left: int, cadence: Cadence, is_retry: bool
) -> None:
    limit = attempt_limit_seconds(ISSUED + left, ISSUED, cadence, is_retry=is_retry)
    assert limit == cadence.attempt_seconds
