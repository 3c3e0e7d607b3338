"""What worker processes count of calls and waits, and what comes of it in Redis."""

import sys
import time

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from subtokens.tasks.tokens.metrics import Metrics
from subtokens.tasks.tokens.scripts import Scripts
from subtokens.tasks.tokens.store import Failure
from subtokens.workers.monitor.kept import kept_metrics

from .test_frugality import counted


def calls(kept, call, outcome):
    """How many, and the seconds of all of them."""
    name = f"call:{call}:{outcome}:"
    many = {key.removeprefix(name): n for key, n in kept.items() if key.startswith(name)}
    return sum(n for part, n in many.items() if part != "us"), many.get("us", 0) / 1e6


async def test_each_call_is_timed_with_its_outcome(fleet_at, work_off):
    fleet, sandbox = await fleet_at(accounts=40, latency_seconds=0.03)
    await fleet.store.enrol([(f"T112{n:05}", "") for n in range(1, 51)], "imported")  # 10: unknown
    assert await work_off(fleet, "exchange") == 40

    kept = await kept_metrics(fleet.store)
    served, seconds = calls(kept, "exchange", "ok")
    assert served >= 40  # what is refused may have a witness called, too
    assert seconds >= served * 0.03
    assert kept.get("call:exchange:ok:0", 0) == 0  # none took less than 25 ms
    refused, _ = calls(kept, "exchange", "refused")
    seen = sandbox.calls.stats(0)["statuses"]["exchange"]
    assert (served, served + refused) == (seen[200], sum(seen.values()))
    assert refused >= 10
    assert calls(kept, "partner_token", "ok")[0] == 1
    assert calls(kept, "accounts", "ok")[0] == 0
    assert kept["exchange:ok:first"] == 40
    assert kept["exchange:refused:first"] == 10
    waited = sum(
        n for name, n in kept.items() if name.startswith("wait:exchange:") and "us" not in name
    )
    assert waited >= 50


async def test_what_fails_first_and_succeeds_then_is_told_as_a_retry(
    store, claim, enrol, token, clock
):
    await enrol("T11200001")

    async def attempt(is_refused=None):
        found = await claim()
        given = found.generation
        if is_refused is None:
            await store.complete([token("T11200001", given, 100)])
        else:
            due_ms = store.now_ms() + 1000
            await store.fail([Failure("T11200001", given, due_ms, "why", is_refused)])
        clock.push(60)

    for is_refused in (True, False, None, None, False, None):
        await attempt(is_refused)

    assert await kept_metrics(store) == {
        "exchange:refused:first": 1,
        "exchange:failed:retry": 1,
        "exchange:ok:retry": 1,
        "renewal:ok:first": 1,
        "renewal:failed:first": 1,
        "renewal:ok:retry": 1,
    }


async def test_processes_of_all_machines_add_up(store):
    for seconds in (0.02, 0.3, 70):
        process = Metrics(store.scripts)
        process.note_call("exchange", "ok", seconds)
        process.note_wait("renew", -0.001)
        await process.write(is_last=True)

    assert await kept_metrics(store) == {
        "call:exchange:ok:0": 1,
        "call:exchange:ok:4": 1,
        "call:exchange:ok:9": 1,
        "call:exchange:ok:us": 70_320_000,
        "wait:renew:0": 3,
        "wait:renew:us": 0,
    }


async def test_redis_is_told_every_five_seconds_and_at_the_end(store, redis, monkeypatch):
    now = time.monotonic()
    process = Metrics(store.scripts)
    monkeypatch.setattr("time.monotonic", lambda: now)
    await store.scripts.server_seconds()
    process.note_call("exchange", "ok", 1)
    await process.write(is_last=True)
    async with counted(redis) as (sent, _):
        for _ in range(50):
            process.note_call("exchange", "ok", 1)
            await process.write()
        assert not sent
        now += 5
        await process.write()
        await process.write()
        await process.write(is_last=True)  # nothing is left to be told
    assert sent["evalsha"] == 1
    assert (await kept_metrics(store))["call:exchange:ok:5"] == 51


async def test_a_redis_that_is_gone_costs_figures_and_no_work(keys):
    async with Redis(port=1, retry=Retry(NoBackoff(), 0)) as nobody:
        process = Metrics(Scripts(nobody, keys))
        process.note_call("exchange", "ok", 1)
        await process.write(is_last=True)


@pytest.mark.parametrize("garbage", ["many", "-5", "9" * 400, "1e300", "nan"])
async def test_garbage_in_redis_is_told_as_zero_and_written_over(store, redis, garbage):
    names = {"call:exchange:ok:0": garbage, "rejection:late": garbage, "call:x:y:0": "7"}
    await redis.hset(store.keys.metrics, mapping=names)
    assert not any((await kept_metrics(store)).values())
    process = Metrics(store.scripts)
    process.note_call("exchange", "ok", 0.001)
    await process.write(is_last=True)
    assert (await kept_metrics(store)).get("call:exchange:ok:0", 0) <= 1
    assert "call:x:y:0" not in await kept_metrics(store)


async def test_rejections_are_counted_by_what_became_of_them(store, enrol, claim, token):
    await enrol(*(f"T112{n:05}" for n in range(1, 6)))
    found = await claim()
    given = found.generation
    await store.complete([token(one.account_id, given, 3600) for one in found.accounts])
    for number in (1, 1, 2, 3, 4):
        await store.reject(f"T112{number:05}", given)
    await store.reject("T11200005", given - 1)
    assert {k: n for k, n in (await kept_metrics(store)).items() if k.startswith("rej")} == {
        "rejection:accepted": 3,
        "rejection:known": 1,
        "rejection:held back": 1,
        "rejection:late": 1,
    }


async def test_a_noted_call_costs_microseconds(store):
    process = Metrics(store.scripts)
    began = time.perf_counter()
    for _ in range(20_000):
        process.note_call("exchange", "ok", 0.12)
    each = (time.perf_counter() - began) / 20_000
    sys.stdout.write(f"{each * 1e6:.2f} µs a call\n")
    assert each < 50e-6  # far above what it takes, as machines are busy
