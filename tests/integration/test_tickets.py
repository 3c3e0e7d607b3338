"""Tickets: enough of them, and no more."""

import pytest

from subtokens.tasks.tokens.runs import Runs
from subtokens.tasks.tokens.tickets import HELD_SECONDS, MOST_TICKETS, Tickets


@pytest.fixture
def tickets(store):
    return Tickets(store, accounts_per_ticket=10, lapse_seconds=50)


def ids(count):
    return [f"T112{n:05d}" for n in range(1, count + 1)]


async def test_there_are_as_many_as_the_due_accounts_need_and_no_more(enrol, tickets):
    await enrol(*ids(25))

    assert len((await tickets.look()).tickets["exchange"]) == 3
    assert (await tickets.look()).tickets["exchange"] == ()


async def test_a_returned_ticket_is_replaced_while_accounts_are_due(enrol, tickets):
    await enrol(*ids(25))
    outstanding = (await tickets.look()).tickets["exchange"]

    await tickets.give_back("exchange", outstanding[0])

    assert len((await tickets.look()).tickets["exchange"]) == 1


async def test_a_lost_ticket_lapses_and_is_replaced(enrol, tickets, clock):
    await enrol(*ids(5))
    assert len((await tickets.look()).tickets["exchange"]) == 1

    clock.push(51)

    assert len((await tickets.look()).tickets["exchange"]) == 1


async def test_a_ticket_being_worked_on_does_not_lapse(enrol, tickets, clock):
    await enrol(*ids(5))
    (ticket,) = (await tickets.look()).tickets["exchange"]
    clock.push(48)
    await tickets.hold("exchange", ticket)
    clock.push(HELD_SECONDS - 1)

    assert (await tickets.look()).tickets["exchange"] == ()


async def test_a_ticket_whose_worker_gives_no_sign_lapses_soon(enrol, tickets, clock):
    await enrol(*ids(5))
    (ticket,) = (await tickets.look()).tickets["exchange"]
    await tickets.hold("exchange", ticket)
    clock.push(HELD_SECONDS + 1)

    assert len((await tickets.look()).tickets["exchange"]) == 1


async def test_there_is_an_upper_bound(enrol, tickets):
    await enrol(*ids(1000))

    assert len((await tickets.look()).tickets["exchange"]) == MOST_TICKETS


async def test_an_idle_fleet_needs_none(tickets):
    outlook = await tickets.look()

    assert not any(outlook.tickets.values())
    assert (outlook.follow_up_seconds, outlook.is_discovery_due, outlook.ripe_runs) == (
        0,
        False,
        (),
    )


async def test_an_open_run_without_due_accounts_keeps_one_delayed_ticket_under_way(
    enrol, tickets, store, claim
):
    await enrol("T11200001")
    await claim(lease_seconds=20)
    runs = Runs(store)
    await runs.open("run", 60, "step")
    await runs.request("run", ["T11200001"])
    await runs.seal("run")

    first, second = await tickets.look(), await tickets.look()

    assert first.follow_up_seconds == pytest.approx(20, abs=0.1)
    assert second.follow_up_seconds == 0
