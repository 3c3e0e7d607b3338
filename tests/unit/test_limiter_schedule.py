"""Permits as instants: what the answer of Redis means on this process's clock."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.tasks.tokens.limiter import LATENESS_SECONDS, Rate, Schedule, keep_appointment

whole = st.integers(0, 10**9)


def test_permits_follow_each_other_by_the_spacing() -> None:
    schedule = Schedule(granted=3, first_us=500_000, spacing_us=20_000, wait_us=0)
    assert schedule.instants(10.0) == [pytest.approx(at) for at in (10.5, 10.52, 10.54)]


def test_saved_up_permits_are_for_now_and_not_for_the_past() -> None:
    schedule = Schedule(granted=4, first_us=-40_000, spacing_us=20_000, wait_us=0)
    assert schedule.instants(10.0) == [pytest.approx(at) for at in (10.0, 10.0, 10.0, 10.02)]


def test_no_permit_is_no_instant_but_a_wait() -> None:
    schedule = Schedule(granted=0, first_us=0, spacing_us=0, wait_us=250_000)
    assert schedule.instants(10.0) == []
    assert schedule.wait_seconds == 0.25


@given(st.integers(0, 200), st.integers(-(10**9), 10**9), whole, st.floats(0, 1e6))
def test_instants_are_as_many_as_granted_in_order_and_never_in_the_past(
    granted: int, first: int, spacing: int, received_at: float
) -> None:
    instants = Schedule(granted, first, spacing, 0).instants(received_at)
    assert len(instants) == granted
    assert instants == sorted(instants)
    assert all(instant >= received_at for instant in instants)


@given(st.floats(0.01, 1e6))
def test_burst_and_allowed_lateness_stay_within_a_quarter_of_a_seconds_calls(rate: float) -> None:
    burst = Rate(rate).burst
    assert burst >= 0
    assert burst == 0 or burst + 1 + rate * LATENESS_SECONDS <= rate / 4 + 1e-6 * rate


async def test_an_appointment_that_is_missed_by_too_much_is_dropped() -> None:
    now = asyncio.get_running_loop().time()
    assert await keep_appointment(now)
    assert not await keep_appointment(now - LATENESS_SECONDS - 0.01)


async def test_an_appointment_is_never_kept_early() -> None:
    loop = asyncio.get_running_loop()
    instant = loop.time() + 0.01
    assert await keep_appointment(instant)
    assert loop.time() >= instant
