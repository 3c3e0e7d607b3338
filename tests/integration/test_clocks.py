"""What a clock that ran ahead has left in the store does not bind those that are right."""

import pytest

from subtokens.tasks.tokens.tickets import HELD_SECONDS, Tickets

A = "T11200001"
DAY, YEAR = 86_400, 366 * 86_400


@pytest.fixture
def tickets(store):
    return Tickets(store, accounts_per_ticket=10, lapse_seconds=50)


@pytest.fixture
def with_token(enrol, claim, store, token):
    """Enrols accounts of which the first alone has a token; returns its generation."""

    async def with_token():
        await enrol(A)
        taken = await claim()
        await store.complete([token(A, taken.generation, 10 * DAY)])
        await enrol(*[f"T112{n:05d}" for n in range(2, 42)])
        return taken.generation

    return with_token


@pytest.fixture
def ahead(clock):
    """Does something while the clock is ahead by so many seconds; then it is set right."""

    async def ahead(seconds, coroutine):
        clock.push(seconds)
        found = await coroutine
        clock.push(-seconds)
        return found

    return ahead


@pytest.mark.parametrize("lane", ["renew", "exchange"])
async def test_a_ticket_that_was_lost_is_replaced_although_it_would_not_lapse_for_a_day(
    enrol, tickets, store, clock, ahead, lane
):
    await enrol(A)
    if lane == "renew":
        await store.redis.zadd(store.keys.due, {A: 1})
    sent = (await ahead(DAY, tickets.look())).tickets[lane]
    assert len(sent) == 1
    clock.push(50 + 1)  # nobody has begun it

    assert len((await tickets.look()).tickets[lane]) == 1


async def test_a_ticket_of_a_worker_that_is_a_little_ahead_is_not_replaced(enrol, tickets, ahead):
    await enrol(A)
    (ticket,) = (await ahead(30, tickets.look())).tickets["exchange"]
    assert (await tickets.look()).tickets["exchange"] == ()

    await ahead(30, tickets.hold("exchange", ticket))

    assert (await tickets.look()).tickets["exchange"] == ()
    assert HELD_SECONDS < 30


async def test_a_ticket_that_lapses_never_is_replaced(enrol, tickets, store):
    await enrol(A)
    await store.redis.zadd(store.keys.due.removesuffix("due") + "exchange_tickets", {"x": "inf"})

    assert len((await tickets.look()).tickets["exchange"]) == 1


async def test_a_rejection_is_acted_on_although_one_of_the_day_after_tomorrow_was(
    with_token, store, claim, token, clock, ahead
):
    generation = await with_token()
    assert await ahead(2 * DAY, store.reject(A, generation)) == "accepted"
    (claimed,) = (await ahead(2 * DAY, claim(lane="renew"))).accounts
    assert claimed.account_id == A

    clock.push(61)

    assert await store.reject(A, generation) == "accepted"


async def test_the_twentieth_that_was_rejected_the_day_after_tomorrow_holds_nobody_back_today(
    with_token, store, clock
):
    generation = await with_token()
    instant = int((clock() + 2 * DAY) * 1000)
    rejected = {"rejections_since": instant, "rejections": 20}
    await store.redis.hset(store.keys.fleet, mapping=rejected)

    assert await store.reject(A, generation) == "accepted"


async def test_a_discovery_that_is_due_at_no_instant_is_due_now(tickets, store):
    await store.redis.hset(store.keys.fleet, "discovery_due_at", "9" * 400)

    outlook = await tickets.look(is_sweep=True, discovery_lease_seconds=60)

    assert outlook.is_discovery_due


async def test_a_pause_that_no_server_would_keep_keeps_no_prober_away(enrol, store, claim):
    await enrol(A)
    await store.scripts.run("open_circuit", store.now_ms() - 60_000, "upstream", "down", 0, 0)
    await store.redis.hset(store.keys.limiter, "paused_until", "9" * 30)

    assert (await claim(lane="renew")).probe_for == "upstream"


async def test_a_pause_after_garbage_in_its_place_is_kept(enrol, store, claim):
    await enrol(A)
    await store.redis.hset(store.keys.limiter, "paused_until", "9" * 400)

    await store.scripts.run("pause", 30_000_000, "answered 429")

    claimed = await claim(lane="exchange")
    assert claimed.accounts == ()
    assert claimed.schedule.wait_seconds == pytest.approx(30, abs=1)


async def test_a_shorter_pause_does_not_take_the_longer_ones_reason(store):
    await store.scripts.run("pause", 30_000_000, "answered 429")
    await store.scripts.run("pause", 1_000_000, "another")

    kept = await store.redis.hget(store.keys.limiter, "pause_reason")
    assert kept == b"answered 429"
