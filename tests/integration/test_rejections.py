"""Rejected tokens: replaced once, fenced by generation, and never a stampede."""

import pytest

from subtokens.tasks.tokens.store import Failure
from subtokens.tasks.tokens.tickets import Tickets

A = "T11200001"


def ids(count):
    return [f"T112{n:05d}" for n in range(1, count + 1)]


@pytest.fixture
def with_tokens(enrol, claim, store, token):
    """Enrols accounts and stores a token for each; returns its generation."""

    async def with_tokens(count):
        await enrol(*ids(count))
        taken = await claim(limit=1000)
        await store.complete([token(a, taken.generation, 10_000) for a in ids(count)])
        return taken.generation

    return with_tokens


@pytest.fixture
def look(store):
    tickets = Tickets(store, 100, 50)
    return tickets.look


async def report(store, account, generation):
    fields = {"account": account, "generation": generation}
    await store.redis.xadd(store.keys.rejections, fields)


async def test_a_rejected_token_is_due_at_once_and_stays_until_it_is_replaced(
    with_tokens, claim, store, token, clock
):
    generation = await with_tokens(30)

    assert await store.reject(A, generation) == "accepted"

    (claimed,) = (await claim(lane="renew")).accounts
    assert claimed.account_id == A
    assert (await store.load(A)).generation == generation


async def test_a_late_report_cannot_harm_a_newer_token(with_tokens, claim, store, token, clock):
    old = await with_tokens(30)
    await store.reject(A, old)
    taken = await claim(lane="renew")
    newer = token(A, taken.generation, 10_000)
    await store.complete([newer])
    clock.push(120)

    assert await store.reject(A, old) == "late"

    assert not (await claim(lane="renew")).accounts
    assert await store.load(A) == newer


async def test_a_storm_of_reports_costs_one_exchange_a_minute(
    with_tokens, claim, store, token, look, clock
):
    generation = await with_tokens(30)
    for _ in range(500):
        await report(store, A, generation)

    outlook = await look()

    assert len(outlook.tickets["renew"]) == 1
    assert await store.redis.xlen(store.keys.rejections) == 0
    taken = await claim(lane="renew")
    assert len(taken.accounts) == 1
    await store.complete([token(A, taken.generation, 10_000)])
    assert await store.reject(A, taken.generation) == "known"
    clock.push(61)
    assert await store.reject(A, taken.generation) == "accepted"


async def test_a_job_that_rejects_every_token_gets_a_twentieth_of_them_replaced_and_an_alarm(
    with_tokens, claim, store, look, clock
):
    generation = await with_tokens(400)
    for account in ids(400):
        await report(store, account, generation)

    outlook = await look()

    assert outlook.rejections_held_back == 380
    assert len((await claim(limit=400, lane="renew")).accounts) == 20
    clock.push(3601)
    assert await store.reject(ids(400)[-1], generation) == "accepted"


async def test_a_flood_of_reports_for_hours_has_a_twentieth_exchanged_in_each(
    enrol, claim, store, token, look, clock
):
    await enrol(*ids(400))
    taken = await claim(limit=1000)
    generation_of = dict.fromkeys(ids(400), taken.generation)
    await store.complete([token(a, taken.generation, 1_000_000) for a in ids(400)])
    exchanged = []
    for _ in range(12 * 4):
        clock.push(300)
        for account, generation in generation_of.items():
            await report(store, account, generation)
        await look()
        taken = await claim(limit=400, lane="renew")
        again = [claimed.account_id for claimed in taken.accounts]
        await store.complete([token(a, taken.generation, 1_000_000) for a in again])
        generation_of |= dict.fromkeys(again, taken.generation)
        exchanged.append(len(again))

    by_hours = [sum(exchanged[hour : hour + 12]) for hour in range(0, len(exchanged), 12)]
    assert by_hours == [20] * 4  # from the first report on; not more, and it goes on


@pytest.mark.parametrize(
    ("account", "generation"),
    [("T11209999", "1"), ("nonsense", "x"), ("", ""), ("T11200001", "0"), ("{T}:*", "1' 2")],
)
async def test_a_report_of_nobodys_token_changes_nothing(
    with_tokens, store, look, claim, account, generation
):
    await with_tokens(3)
    await report(store, account, generation)
    await store.redis.xadd(store.keys.rejections, {"quite": "other"})

    outlook = await look()

    assert not any(outlook.tickets.values())
    assert outlook.rejections_held_back == 0
    assert not (await claim(lane="renew")).accounts


async def test_what_happens_is_told_as_events(with_tokens, claim, store, token, look, clock):
    await look(is_sweep=True)
    await with_tokens(2)
    clock.push(5_001)
    taken = await claim(lane="renew")
    assert len(taken.accounts) == 2
    due_ms = int(clock() * 1000) + 1_000
    await store.complete([token(A, taken.generation, 10_000)])
    failure = Failure("T11200002", taken.generation, due_ms, "refused_403", True, 5, True)
    await store.fail([failure])
    clock.push(2)
    taken = await claim(lane="renew")
    await store.complete([token("T11200002", taken.generation, 10_000)])
    clock.push(10_001)
    await look(is_sweep=True)

    entries = await store.redis.xrange(store.keys.events)
    told = [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in entries]
    assert told == [
        {"event": "tokens.renewed", "exchanged": "2", "renewed": "0"},
        {"event": "tokens.renewed", "exchanged": "0", "renewed": "1"},
        {"event": "account.quarantined", "account": "T11200002", "reason": "refused_403"},
        {"event": "account.recovered", "account": "T11200002"},
        {"event": "tokens.renewed", "exchanged": "0", "renewed": "1"},
        {"event": "account.expired", "account": A},
        {"event": "account.expired", "account": "T11200002"},
    ]
