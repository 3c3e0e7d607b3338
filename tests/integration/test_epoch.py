"""The loss of the store's data is noticed, said once, and leads to a discovery at once."""

import pytest

from subtokens.tasks.tokens.tickets import Tickets


@pytest.fixture
def process(store):
    """Makes what each worker process has: the tickets, with what it remembers."""
    return lambda: Tickets(store, accounts_per_ticket=10, lapse_seconds=50)


@pytest.fixture
def lose(redis):
    """Empties the store, as a Redis without an append-only file is after its restart."""
    return redis.flushdb


@pytest.fixture
def sweep(caplog):
    """One look of a sweep; returns whether discovery is due, and the errors that were logged."""

    async def sweep(tickets):
        caplog.clear()
        outlook = await tickets.look(is_sweep=True, discovery_lease_seconds=600)
        return outlook.is_discovery_due, [record.msg["event"] for record in caplog.records]

    return sweep


async def test_a_new_store_is_no_lost_one(process, sweep):
    one, other = process(), process()

    assert await sweep(one) == (True, [])
    assert await sweep(other) == (False, [])
    assert await sweep(one) == (False, [])


async def test_a_lost_store_is_told_once_by_whoever_remembers_it(process, sweep, lose):
    one, other, idle = process(), process(), process()
    for tickets in (one, other, idle):
        await sweep(tickets)

    await lose()

    assert await sweep(process()) == (True, [])  # a new process remembers nothing, and begins anew
    assert await sweep(one) == (True, ["store.lost"])
    assert await sweep(other) == (False, [])
    assert await sweep(idle) == (False, [])
    assert await sweep(one) == (False, [])

    await lose()

    assert await sweep(other) == (True, ["store.lost"])
    assert await sweep(one) == (False, [])


async def test_a_lost_store_is_an_event_and_the_error_says_what_to_do(process, lose, store, caplog):
    tickets = process()
    await tickets.look()
    await lose()

    await tickets.look()

    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.msg["partner_id"] == store.keys.partner_id
    assert "appendonly yes" in record.msg["remedy"]
    assert "accounts import" in record.msg["remedy"]
    events = await store.redis.xrange(store.keys.events)
    assert [fields for _, fields in events] == [{b"event": b"store.lost"}]
