"""What a thousand accounts cost, in counts that no busy machine changes."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from subtokens.tasks.tokens import stint

ACCOUNTS = 1000


@asynccontextmanager
async def counted(redis):
    """Counts the commands that clients send; what scripts do inside Redis is told apart."""
    sent: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    ended = asyncio.Event()

    async def listen(monitor):
        while not ended.is_set():
            line = await monitor.next_command()
            name = line["command"].split(" ")[0].lower()
            if name == "echo":
                ended.set()
            elif name not in {"hello", "select", "client"}:  # what opens a connection
                (inside if line["client_type"] == "lua" else sent)[name] += 1

    async with redis.monitor() as monitor:
        listening = asyncio.create_task(listen(monitor))
        yield sent, inside
        await redis.echo("that was it")
        async with asyncio.timeout(10):
            await listening


@pytest.fixture
def thousand_at(fleet_at, monkeypatch):
    """A fleet that claims at least 25 accounts at once, and completes a hundred, however slow."""
    monkeypatch.setattr(stint, "_FLUSH_AFTER_SECONDS", 60)

    async def thousand_at(**options):
        fleet, sandbox = await fleet_at(accounts=ACCOUNTS, **options)
        fleet.settings = fleet.settings.model_copy(update={"concurrency": 100})
        ids = [f"T112{n:05d}" for n in range(1, ACCOUNTS + 1)]
        await fleet.store.enrol([(account, "") for account in ids], "imported")
        return fleet, sandbox

    return thousand_at


async def test_a_fan_out_sends_redis_a_command_for_every_seventeen_accounts(
    thousand_at, work_off, redis
):
    fleet, sandbox = await thousand_at()

    async with counted(redis) as (sent, inside):
        assert await work_off(fleet, "exchange") == ACCOUNTS

    assert sum(sent.values()) <= ACCOUNTS * 0.06, sent
    assert sum(inside.values()) <= ACCOUNTS * 6, inside
    assert sum(sandbox.calls.stats(0)["calls"].values()) == ACCOUNTS + 1


async def test_a_renewal_costs_no_more(thousand_at, work_off, redis, clock):
    fleet, sandbox = await thousand_at(partner_lifetime_seconds=100_000)
    await work_off(fleet, "exchange")
    clock.push(14_000)

    async with counted(redis) as (sent, inside):
        assert await work_off(fleet, "renew") == ACCOUNTS

    assert sum(sent.values()) <= ACCOUNTS * 0.06, sent
    assert sum(inside.values()) <= ACCOUNTS * 6, inside
    assert sum(sandbox.calls.stats(0)["calls"].values()) == 2 * ACCOUNTS + 1


async def test_an_idle_look_is_one_command(fleet_at, redis):
    fleet, _ = await fleet_at(accounts=0)
    await fleet.tickets.look()

    async with counted(redis) as (sent, _):
        await fleet.tickets.look(is_sweep=True)

    assert dict(sent) == {"evalsha": 1}
