"""The partner token: one for all workers, whoever asks and however many at once."""

import asyncio
import contextlib

import pytest

from subtokens.config.settings import Settings
from subtokens.tasks.dintero.errors import ThrottledError, UnreachableError
from subtokens.tasks.dintero.transport import open_transport
from subtokens.tasks.fleet import Fleet
from subtokens.tasks.tokens.partner_token import PartnerToken
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.workers.sandbox import SandboxOptions, serving


class Upstream:
    """Counts its calls; each takes a moment, so that others can come meanwhile."""

    def __init__(self, clock):
        self.clock = clock
        self.calls = 0
        self.fails = False

    async def fetch(self, generation):
        self.calls += 1
        await asyncio.sleep(0.02)
        if self.fails:
            raise UnreachableError("partner_token", "no answer")
        now_ms = int(self.clock() * 1000)
        return TokenRecord(
            "T11200000", "CANARY-partner", Kind.PARTNER, generation, now_ms, now_ms + 500_000,
            now_ms + 1_000_000,
        )  # fmt: skip


@pytest.fixture
def upstream(clock):
    return Upstream(clock)


@pytest.fixture
def worker(store, upstream):
    """A new worker process's view: nothing known, the same Redis."""
    return lambda: PartnerToken(store, upstream.fetch, lease_seconds=5)


async def test_two_hundred_askers_in_four_workers_cost_one_call(worker, upstream):
    workers = [worker() for _ in range(4)]

    records = await asyncio.gather(*(workers[n % 4].get() for n in range(200)))

    assert upstream.calls == 1
    assert len({record.generation for record in records}) == 1


async def test_it_is_renewed_once_at_half_its_life(worker, upstream, clock):
    workers = [worker() for _ in range(3)]
    for each in workers:
        await each.get()
    clock.push(499)
    await workers[0].get()
    assert upstream.calls == 1

    clock.push(2)
    await asyncio.gather(*(each.get() for each in workers))

    assert upstream.calls == 2


async def test_a_refused_token_is_replaced_once_however_many_saw_it(worker, upstream):
    workers = [worker() for _ in range(4)]
    refused = await workers[0].get()

    newer = await asyncio.gather(
        *(workers[n % 4].get(newer_than=refused.generation) for n in range(200))
    )

    assert upstream.calls == 2
    assert {record.generation for record in newer} == {newer[0].generation}
    assert newer[0].generation > refused.generation


async def test_a_failure_reaches_the_asker_and_leaves_no_lock_behind(worker, upstream):
    upstream.fails = True
    with pytest.raises(UnreachableError):
        await worker().get()

    upstream.fails = False
    async with asyncio.timeout(2):  # the lock's lease is five seconds
        await worker().get()


async def test_it_lies_sealed_in_redis(worker, redis, keys):
    await worker().get()

    assert b"CANARY" not in await redis.get(keys.partner)


async def test_an_altered_record_is_replaced_by_a_new_token(worker, upstream, redis, keys):
    await worker().get()
    stored = await redis.get(keys.partner)
    await redis.set(keys.partner, stored[:-1] + bytes([stored[-1] ^ 1]))

    await worker().get()

    assert upstream.calls == 2


async def test_every_claim_tells_the_other_processes_which_token_was_refused(
    worker, store, unlimited
):
    ours, theirs = worker(), worker()
    refused = await ours.get()
    assert (await theirs.get()).generation == refused.generation
    newer = await ours.get(newer_than=refused.generation)

    theirs.note_refused((await store.claim(1, 60, unlimited, "exchange")).refused)

    assert (await theirs.get()).generation == newer.generation


@pytest.mark.parametrize("garbage", ["9e15", "inf", "nan", "-1", "x"])
async def test_garbage_in_place_of_the_refused_generation_refuses_no_token(
    store, unlimited, redis, keys, garbage
):
    await redis.hset(keys.fleet, "partner_refused", garbage)

    assert (await store.claim(1, 60, unlimited, "exchange")).refused <= 0


async def test_a_pause_that_outlasts_the_lock_costs_one_call_when_it_is_over(
    redis, environment, clock
):
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(serving(SandboxOptions(accounts=1)))
        values = {k.removeprefix("SUBTOKENS_").lower(): v for k, v in environment.items()}
        values |= {"client_secret": "sandbox-client-secret", "base_url": sandbox.base_url}
        settings = Settings(**values)
        fleets = []
        for _ in range(4):  # worker processes
            transport = open_transport(2)
            stack.push_async_callback(transport.aclose)
            fleets.append(Fleet(settings, settings.partners[0], redis, transport))
            fleets[-1].exchanger.partner_token._lease_seconds = 0.3
            fleets[-1].exchanger.permit_seconds = 0.1
        await fleets[0].limiters["renew"].pause(1.5, "answered 429")

        async def until_it_is_there(fleet):
            while True:
                with contextlib.suppress(ThrottledError):
                    return await fleet.exchanger.partner_token.get()

        async with asyncio.timeout(10):
            records = await asyncio.gather(*map(until_it_is_there, fleets))

        assert len(sandbox.state.calls.rows()) == 1
        assert len({record.generation for record in records}) == 1
