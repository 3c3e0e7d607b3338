"""Redis comes back with an older snapshot, of the same epoch: what docs/faults.md tells of it."""

import pytest

from subtokens.tasks.tokens.async_reader import AsyncTokenReader
from subtokens.tasks.tokens.errors import NoTokenError
from subtokens.tasks.tokens.runs import Runs
from subtokens.tasks.tokens.store import Failure

A, B = "T11200001", "T11200002"


@pytest.fixture
def snapshot(redis):
    """Takes a snapshot; returns what brings it back, without a trace of what came later."""

    async def snapshot():
        kept = [(key, await redis.dump(key), await redis.pttl(key)) for key in await redis.keys()]

        async def restore():
            await redis.flushdb()
            for key, dumped, ttl_ms in kept:
                await redis.restore(key, max(0, ttl_ms), dumped)

        return restore

    return snapshot


@pytest.fixture
async def reader(settings, clock, keys):
    async with AsyncTokenReader(settings, clock=clock, cache_seconds=10) as reader:
        reader._keys = keys
        yield reader


@pytest.fixture
def renew(claim, store, token):
    """Renews whatever is due; returns the generation."""

    async def renew(lifetime_seconds=1000):
        taken = await claim()
        records = [
            token(one.account_id, taken.generation, lifetime_seconds) for one in taken.accounts
        ]
        assert (await store.complete(records)).accounts == len(records)
        return taken.generation if records else 0

    return renew


async def test_generations_rise_and_what_was_under_way_changes_nothing(
    enrol, renew, claim, store, token, snapshot, clock
):
    await enrol(A)
    first = await renew()
    restore = await snapshot()
    clock.push(501)
    second = await renew()
    clock.push(501)
    under_way = await claim()

    await restore()

    assert (await store.load(A)).generation == first
    late = await store.complete([token(A, under_way.generation)])
    assert late.accounts == 0
    assert (await store.load(A)).generation == first
    assert await renew() > under_way.generation > second > first


async def test_a_reader_serves_the_newer_token_that_it_has_then_the_older_and_then_the_next(
    enrol, renew, store, reader, snapshot, clock
):
    await enrol(A)
    first = await renew()
    restore = await snapshot()
    clock.push(501)
    second = await renew()
    assert (await reader.get(A)).generation == second

    await restore()

    assert (await reader.get(A)).generation == second
    clock.push(11)
    assert (await reader.get(A)).generation == first  # it is valid for 488 s yet, by the clock
    third = await renew()  # as it was due before
    record = await reader.wait(A, newer_than=second, timeout=0)
    assert record.generation == third > second


async def test_a_report_of_a_token_that_the_store_does_not_know_any_more_is_late(
    enrol, renew, claim, store, reader, snapshot
):
    await enrol(A)
    first = await renew()
    assert await store.reject(A, first) == "accepted"
    restore = await snapshot()
    await renew()
    newer = await reader.get(A)

    await restore()

    await reader.reject(newer)
    assert await store.reject(A, newer.generation) == "late"
    assert (await reader.get(A)).generation == first  # which was refused, and is due for it
    assert [one.account_id for one in (await claim(lane="renew")).accounts] == [A]


async def test_a_step_that_has_returned_since_is_sent_again_when_its_run_ends_again(
    enrol, renew, store, snapshot
):
    await enrol(A)
    runs = Runs(store)
    await runs.open("run", 60, "the step")
    await runs.request("run", [A])
    await runs.seal("run")
    restore = await snapshot()
    await renew()
    assert await runs.begin_release("run") == "the step"
    assert await runs.resume("run", is_redelivered=False)
    await runs.confirm_release("run")
    assert await runs.ripe() == []

    await restore()
    await renew()

    assert await runs.ripe() == ["run"]
    assert await runs.begin_release("run") == "the step"
    assert (await runs.summary("run")).done == 1


async def test_who_was_enrolled_forgotten_or_released_from_quarantine_since_is_as_before(
    enrol, renew, claim, store, reader, snapshot, clock
):
    await enrol(A, B)
    taken = await claim()
    due_ms = store.now_ms() + 86_400_000
    await store.fail([Failure(A, taken.generation, due_ms, "refused_403", True, 5, True)])
    await store.hand_back([(B, taken.generation)])
    restore = await snapshot()
    runs = Runs(store)
    await runs.open("retry", 60, "")
    await runs.request("retry", [A], is_retry=True)
    await store.forget([B])
    await enrol("T11200003")
    await renew()
    assert (await reader.get(A)).account_id == A

    await restore()

    assert [sorted(page) async for page in store.enrolled()] == [[A, B]]
    clock.push(11)
    with pytest.raises(NoTokenError, match="quarantine"):
        await reader.get(A)
    assert [one.account_id for one in (await claim()).accounts] == [B]
