"""How the fleet stands: counts of accounts that add up, horizon, catch-up and the coming day."""

import pytest

from subtokens.tasks.tokens.coming_day import fleet_forecast
from subtokens.tasks.tokens.renewal import Cadence
from subtokens.tasks.tokens.status import fleet_status
from subtokens.tasks.tokens.store import Failure
from subtokens.tasks.tokens.tickets import Tickets

HOUR = 3600


def ids(first, count):
    return [f"T112{n:05d}" for n in range(first, first + count)]


@pytest.fixture
async def fleet(enrol, claim, store, token, clock):
    """Ten accounts of 1 h, ten of 10 h, due at half their lives; five without a token."""
    await enrol(*ids(1, 20))
    generation = (await claim(limit=20)).generation
    records = [token(a, generation, HOUR) for a in ids(1, 10)]
    records += [token(a, generation, 10 * HOUR) for a in ids(11, 10)]
    await store.complete(records)
    clock.push(1)
    await enrol(*ids(21, 5))
    return store


async def test_a_fleet_is_told_by_the_state_of_its_tokens(fleet, clock):
    clock.push(10)
    status = await fleet_status(fleet, accounts_per_second=10)

    assert (status.enrolled, status.fresh, status.stale, status.valid) == (25, 20, 0, 20)
    assert (status.expired, status.never_exchanged) == (0, 5)
    assert status.expiring == {"5 min": 0, "1 h": 10, "4 h": 0, "24 h": 10, "later": 0}
    assert (status.due, status.overdue, status.catch_up_seconds) == (5, 0, 0.5)
    assert status.onboarding_seconds == pytest.approx(50)
    assert (status.exchanged, status.renewed, status.lapses) == (20, 0, 0)


async def test_what_is_past_its_renewal_is_stale_while_it_waits_or_is_tried(fleet, claim, clock):
    clock.push(HOUR / 2 + 60)
    taken = await claim(limit=4, lane="renew")
    failed, *_ = taken.accounts
    due_ms = int((clock() + 60) * 1000)
    await fleet.fail([Failure(failed.account_id, taken.generation, due_ms, "unreachable", False)])

    status = await fleet_status(fleet, accounts_per_second=10)

    assert (status.fresh, status.stale, status.claimed, status.failing) == (10, 10, 3, 1)
    assert (status.due, status.overdue) == (6 + 5, 6)
    assert status.oldest_due_seconds == pytest.approx(HOUR / 2 + 60, abs=1)  # never exchanged


async def test_after_a_long_stop_it_says_how_long_catching_up_takes(fleet, clock):
    clock.push(11 * HOUR)

    status = await fleet_status(fleet, accounts_per_second=2)

    assert (status.valid, status.expired, status.due, status.overdue) == (0, 20, 25, 20)
    assert status.catch_up_seconds == 12.5
    assert status.uncovered_seconds == pytest.approx(10 * 10 * HOUR + 10 * HOUR, rel=0.001)
    assert status.lapses == 20


async def test_a_sweep_and_a_discovery_leave_their_instants(fleet, clock):
    assert (await fleet_status(fleet, 1)).last_sweep_at is None
    await Tickets(fleet, 10, 50).look(is_sweep=True)
    clock.push(5)

    status = await fleet_status(fleet, 1)

    assert status.last_sweep_at.timestamp() == clock() - 5
    assert status.last_discovery_at is None
    assert status.as_dict()["last_sweep_at"] == status.last_sweep_at.isoformat()


async def test_the_coming_day_is_foretold_from_the_due_index(fleet):
    forecast = await fleet_forecast(fleet, 50, 2, Cadence(10))

    assert (forecast.accounts, forecast.calls_per_exchange) == (25, 2)
    assert len(forecast.hourly) == 24
    assert forecast.hourly[0] == pytest.approx(15 * 2 / HOUR, rel=0.2)
    assert "fits into 50 a second" in forecast.sentence


async def test_before_the_first_token_there_is_no_forecast(store, enrol):
    await enrol(*ids(1, 3))

    assert await fleet_forecast(store, 50, 1, Cadence(10)) is None
