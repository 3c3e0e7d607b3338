"""Two lanes: renewals and what was asked for have claims, tickets and a share of the rate each."""

import pytest

from subtokens.tasks.tokens.limiter import Rate, Schedule
from subtokens.tasks.tokens.runs import Runs
from subtokens.tasks.tokens.store import Failure
from subtokens.tasks.tokens.tickets import Tickets


def ids(count, first=1):
    return [f"T112{n:05d}" for n in range(first, first + count)]


def names(claim):
    return [claimed.account_id for claimed in claim.accounts]


@pytest.fixture
def renewable(enrol, claim, store, token):
    """Enrols accounts and stores their tokens, due at half their lives."""

    async def renewable(lifetimes):
        await enrol(*lifetimes)
        taken = await claim(limit=1000)
        assert set(names(taken)) == set(lifetimes)
        records = [token(a, taken.generation, life) for a, life in lifetimes.items()]
        assert (await store.complete(records)).accounts == len(lifetimes)

    return renewable


async def test_a_lane_claims_its_own_accounts_alone(renewable, enrol, claim, clock):
    await renewable({"T11200001": 100})
    clock.push(60)
    await enrol("T11200002")

    assert names(await claim(lane="exchange")) == ["T11200002"]
    assert names(await claim(lane="renew")) == ["T11200001"]


async def test_a_failure_and_a_lapsed_lease_stay_in_their_lane(
    renewable, enrol, claim, store, clock
):
    await renewable({"T11200001": 10_000})
    clock.push(6_000)
    await enrol("T11200002")
    clock.push(1)
    await enrol("T11200003")
    due_ms = int((clock() + 5) * 1000)
    for lane, accounts in (("renew", ["T11200001"]), ("exchange", ["T11200002"])):
        taken = await claim(limit=1, lane=lane)
        assert names(taken) == accounts
        await store.fail([Failure(accounts[0], taken.generation, due_ms, "unreachable", False)])
    await claim(lane="exchange", lease_seconds=4)
    clock.push(6)

    assert names(await claim(lane="renew")) == ["T11200001"]
    assert sorted(names(await claim(lane="exchange"))) == ["T11200002", "T11200003"]


async def test_a_backlog_is_renewed_by_the_earliest_expiry_whatever_became_due_first(
    renewable, claim, store, clock
):
    lifetimes = {account: 1000 + (n * 7919) % 2000 for n, account in enumerate(ids(400))}
    await renewable(lifetimes)
    first, second, *others = sorted(lifetimes, key=lambda account: lifetimes[account])
    for account in lifetimes:  # the last of them became due first
        due_ms = int((clock() + 4000 - lifetimes[account]) * 1000)
        await store.redis.zadd(store.keys.due, {account: due_ms})
    clock.push(4000)
    # Two that expire first are not to be had: one is in flight, one backs off.
    taken = await claim(limit=2, lane="renew", lease_seconds=10_000)
    assert names(taken) == [first, second]
    later_ms = int((clock() + 10_000) * 1000)
    await store.fail([Failure(second, taken.generation, later_ms, "unreachable", False)])

    order = [name for _ in range(4) for name in names(await claim(limit=90, lane="renew"))]

    assert order == others[: len(order)]
    assert len(order) == 360


async def test_each_lane_has_tickets_of_its_own(renewable, enrol, store, clock):
    tickets = Tickets(store, accounts_per_ticket=10, lapse_seconds=50)
    await renewable(dict.fromkeys(ids(25), 100))
    clock.push(60)
    await enrol(*ids(11, first=100))

    outlook = await tickets.look()

    assert {lane: len(names) for lane, names in outlook.tickets.items()} == {
        "renew": 3,
        "exchange": 2,
    }
    await tickets.give_back("renew", outlook.tickets["renew"][0])
    again = await tickets.look()
    assert {lane: len(names) for lane, names in again.tickets.items()} == {
        "renew": 1,
        "exchange": 0,
    }


async def granted_in_turns(store, rate, lanes, turns=40):
    """Permits that each lane gets, asking in turns for more than there are."""
    granted = dict.fromkeys(lanes, 0)
    for _ in range(turns):
        for lane in lanes:
            answer = await store.scripts.run(
                "reserve", lane, store.now_ms(), rate.per_second, rate.burst, 10_000
            )
            granted[lane] += Schedule(*answer).granted
    return granted


async def test_what_was_asked_for_leaves_renewals_their_share_and_takes_all_once_none_is_due(
    renewable, enrol, claim, store, clock
):
    rate = Rate(10_000)
    await renewable(dict.fromkeys(ids(10), 100))
    await enrol(*ids(10, first=100))
    alone = await granted_in_turns(store, rate, ["exchange"], turns=1)
    await store.redis.delete(store.keys.limiter)
    clock.push(60)  # now renewals are due

    beside = await granted_in_turns(store, rate, ["exchange"], turns=1)

    # A quarter second ahead alone; beside renewals a tenth of a second, at four fifths.
    assert alone["exchange"] == pytest.approx(2_500, rel=0.05)
    assert beside["exchange"] == pytest.approx(800, rel=0.1)
    renewing = await granted_in_turns(store, rate, ["renew"], turns=1)
    assert renewing["renew"] >= 0.25 * 0.8 * rate.per_second * 0.8
    assert names(await claim(limit=10, lane="renew"))


async def test_the_oldest_of_a_lane_goes_first(enrol, claim, clock):
    for account in reversed(ids(5)):
        await enrol(account)
        clock.push(1)

    assert names(await claim(limit=3, lane="exchange")) == list(reversed(ids(5)))[:3]


async def test_what_a_run_asks_for_goes_into_the_lane_of_what_was_asked_for(
    renewable, claim, store
):
    await renewable({"T11200001": 10_000})
    runs = Runs(store)
    await runs.open("run", 60, "")
    await runs.request("run", ["T11200001"])

    assert not names(await claim(lane="renew"))
    assert names(await claim(lane="exchange")) == ["T11200001"]
