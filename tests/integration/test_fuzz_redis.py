"""Garbage in Redis, under every key there is: it heals, or an error names the key; none is lost."""

import asyncio

import pytest
from redis.exceptions import RedisError

from subtokens.config.errors import SubtokensError
from subtokens.tasks.tokens.async_reader import AsyncTokenReader
from subtokens.tasks.tokens.coming_day import fleet_forecast
from subtokens.tasks.tokens.errors import NoTokenError
from subtokens.tasks.tokens.key_use import sealed_records, workers_of
from subtokens.tasks.tokens.membership import absent_twice
from subtokens.tasks.tokens.renewal import Cadence
from subtokens.tasks.tokens.scripts import misplaced
from subtokens.tasks.tokens.status import fleet_status
from subtokens.workers.cli.explain import account_facts
from subtokens.workers.cli.rows import account_rows

A, B, C = ACCOUNTS = ["T11200001", "T11200002", "T11200003"]
LIFETIME, DEADLINE_SECONDS = 4 * 3600, 5
FIXED = {
    "zset": ["due", "expiry", "quarantine", "runs", "waves", "renew_tickets", "exchange_tickets"],
    "hash": ["claims", "limiter", "fleet", "absent", "workers", "circuit", "waiting"],
    "string": ["generation", "follow_up", "partner", "partner_lock", "epoch"],
    "set": ["forgotten", "failing"],
    "stream": ["rejections", "events"],
}
OF_ACCOUNT = {"hash": [f"state:{A}", "run:r"], "string": [f"token:{A}"]}
OF_RUN = {"set": ["run:r:open", "run:r:done", "run:r:reasons"]}
TYPES = {
    name: kind
    for kinds in (FIXED, OF_ACCOUNT, OF_RUN)
    for kind, names in kinds.items()
    for name in names
}
# Where these held what is not theirs, the accounts' places are lost with them.
INDEXES = {"due", "expiry"}
# One account's or run's, or of no other use than to be replaced: wrong types heal as well.
HEALS = {"partner", "partner_lock", f"token:{A}", f"state:{A}"}
NUMBERS = [
    *("generation", "attempts", "repeats", "is_final", "quarantined_at", "expires_at"),
    *("is_recovering", "rejected_at", "next_at", "renew_next_at", "exchange_next_at"),
    *("paused_until", "deadline_at", "ended_at", "exchanged", "renewed", "failed", "lapses"),
    *("uncovered_ms", "onboarding_ms", "swept_at", "discovered_at", "discovery_due_at"),
    *("listed", "held_back", "expired_until", "rejections", "rejections_since"),
    *("opened_at", "probe_at", "trips", "since", "answered"),
]
TEXTS = [
    "fingerprint",
    "history",
    "name",
    "pause_reason",
    "message",
    "blame",
    "reason",
    "prober",
    *ACCOUNTS,
]


def hash_of(value):
    return lambda redis, key: redis.hset(key, mapping=dict.fromkeys([*NUMBERS, *TEXTS], value))


def text_of(value):
    return lambda redis, key: redis.set(key, value)


GARBAGE = {
    "hash": {
        "words": hash_of("garbage"),
        "bytes": hash_of(b"\xff\xfe\0"),
        "endless numbers": hash_of("9" * 400),
    },
    "string": {
        "words": text_of("garbage"),
        "bytes": text_of(b"\xff\xfe\0"),
        "an endless number": text_of("9" * 400),
        "no number": text_of("nan"),
    },
    "zset": {"strangers": lambda r, k: r.zadd(k, {"garbage": 1, b"\xff": -1, "T99": "inf"})},
    "set": {"strangers": lambda r, k: r.sadd(k, "garb age", b"\xff\xfe", "T99")},
    "stream": {"strangers": lambda r, k: r.xadd(k, {"a": "b", b"\xff": b"\xfe"})},
    "list": {"a list": lambda r, k: r.rpush(k, "garbage")},
}
OF_ITS_TYPE = [(n, k, what) for n, k in TYPES.items() for what in GARBAGE[k] if n not in INDEXES]


@pytest.fixture
async def fleet(fleet_at, work_off):
    """A fleet of three accounts with their tokens, and a run that waits for one of them."""
    fleet, _ = await fleet_at(accounts=3, lifetime_seconds=LIFETIME)
    await fleet.store.enrol([(one, "") for one in ACCOUNTS], "imported")
    assert await work_off(fleet) == 3
    await fleet.tickets.look(is_sweep=True)
    await fleet.runs.open("r", 60, "{}")
    await fleet.runs.request("r", [A])
    await fleet.runs.seal("r")
    return fleet


@pytest.fixture
async def reader(settings, clock):
    async with AsyncTokenReader(settings, clock=clock, cache_seconds=0) as reader:
        yield reader


@pytest.fixture
def put(fleet, redis):
    """Puts garbage in a key's place; returns the key."""

    async def put(name, kind, what):
        key = fleet.store.keys.due.removesuffix("due") + name
        await redis.delete(key)
        await GARBAGE[kind][what](redis, key)
        return key

    return put


async def explained(store):
    facts = await account_facts(store, A)
    return facts.sentences(), facts.as_dict()


async def looks(fleet, reader):
    """What an operator, a job and a sweep look at: each either tells or raises; by name."""
    store = fleet.store
    yield "status", fleet_status(store, 10)
    yield "explain", explained(store)
    yield "list", account_rows(store)
    yield "forecast", fleet_forecast(store, 10, 1, Cadence(10))
    yield "keys", sealed_records(store)
    yield "workers", workers_of(store)
    yield "get", reader.get(A)
    yield "get_many", reader.get_many(ACCOUNTS)
    yield "summary", fleet.runs.summary("r")
    yield "look", fleet.tickets.look(is_sweep=True)
    yield "ripe", fleet.runs.ripe()
    yield "reject", store.reject(A, 1)
    yield "kept waiting", fleet.runs.is_kept_waiting()


async def complaints(fleet, reader):
    """What each look complains about. Anything but an error raised on purpose is a fault."""
    told = {}
    async for name, work in looks(fleet, reader):
        try:
            await asyncio.wait_for(work, DEADLINE_SECONDS)
        except (SubtokensError, RedisError) as error:
            told[name] = str(error)
    return told


async def served(fleet, reader, work_off, clock):
    """Whether every account gets a new token once its old one has expired."""
    clock.push(LIFETIME + 1)
    await fleet.tickets.look(is_sweep=True)
    for _ in range(3):  # what one attempt stumbles on is due again after its lease
        try:
            await asyncio.wait_for(work_off(fleet), DEADLINE_SECONDS)
        except RedisError:
            clock.push(fleet.settings.lease_seconds)
    return set(await reader.get_many(ACCOUNTS)) == set(ACCOUNTS)


@pytest.mark.parametrize(("name", "kind", "what"), OF_ITS_TYPE)
async def test_garbage_of_the_right_type_stops_nobody_and_heals(
    fleet, reader, put, redis, work_off, clock, name, kind, what
):
    await put(name, kind, what)
    report = {"account": A, "generation": await redis.hget(fleet.store.keys.state(A), "generation")}
    if name != "rejections" and report["generation"]:
        await redis.xadd(fleet.store.keys.rejections, report)

    told = await complaints(fleet, reader)

    allowed = {"get"} if name in {f"token:{A}", f"state:{A}"} else set()
    assert set(told) <= allowed
    assert "garbage" not in "".join(told.values())
    assert await served(fleet, reader, work_off, clock)


@pytest.mark.parametrize("name", TYPES)
async def test_a_key_of_another_type_is_named_with_the_remedy_and_no_account_is_lost(
    fleet, reader, put, redis, work_off, clock, name
):
    key = await put(name, "list", "a list")

    told = await complaints(fleet, reader)

    if name in {*FIXED["zset"], *FIXED["hash"], *FIXED["set"], *FIXED["stream"], "generation"}:
        assert f"{key} is of type list, not {TYPES[name]}" in await misplaced(
            redis, fleet.store.keys
        )
    for text in told.values():
        assert key in text or A in text or "WRONGTYPE" in text
    if "look" in told:  # the sweep logs this each second
        assert key in told["look"]
        assert "delete what stands there" in told["look"]
    if name not in HEALS:
        await redis.delete(key)
        await fleet.store.enrol([(one, "") for one in ACCOUNTS], "imported")
    assert await served(fleet, reader, work_off, clock)


async def test_one_accounts_garbage_does_not_keep_the_others_from_their_turn(
    fleet, put, redis, work_off, clock
):
    await put(f"state:{A}", "list", "a list")
    clock.push(LIFETIME + 1)

    assert await work_off(fleet) == 3


async def test_strangers_in_the_due_set_do_not_keep_the_accounts_from_their_turn(
    fleet, reader, redis, work_off, clock
):
    clock.push(LIFETIME + 1)
    await redis.zadd(fleet.store.keys.due, {b"\xff\xfe": 1, "garbage": 1})

    assert await work_off(fleet) == 3

    assert set(await reader.get_many(ACCOUNTS)) == set(ACCOUNTS)


@pytest.mark.parametrize("score", ["inf", "-inf", 1e300, -1e300, 1.8e15, -1.8e15])
async def test_an_account_due_at_no_instant_at_all_comes_back_by_the_sweep_and_it_is_told_once(
    fleet, reader, redis, work_off, clock, caplog, score
):
    clock.push(LIFETIME + 1)
    await redis.zadd(fleet.store.keys.due, {A: score})
    assert set(await complaints(fleet, reader)) <= {"get"}  # which includes a look

    assert await work_off(fleet) == 3

    assert set(await reader.get_many(ACCOUNTS)) == set(ACCOUNTS)
    told = [r.msg for r in caplog.records if r.msg["event"] == "due.mended"]
    assert [(one["partner_id"], one["count"]) for one in told] == [(reader.partner_id, 1)]
    caplog.clear()
    await fleet.tickets.look(is_sweep=True)
    assert not caplog.records


async def test_a_token_of_ten_years_is_due_at_an_instant_even_for_a_clock_that_lost_its_time(
    fleet, redis, clock
):
    due = {A: int((clock() + 0.8 * 315_360_000) * 1000)}
    await redis.zadd(fleet.store.keys.due, due)

    await fleet.tickets.look(is_sweep=True)
    clock.now = 0.0  # a machine without a battery, before it has heard of the time
    await fleet.tickets.look(is_sweep=True)

    assert await redis.zscore(fleet.store.keys.due, A) == due[A]


@pytest.mark.parametrize("value", ["garbage", b"\xff\xfe\0", "9" * 400])
@pytest.mark.parametrize("field", ["quarantined_at", "expires_at", "history"])
async def test_why_there_is_no_token_is_told_whatever_stands_in_the_accounts_state(
    fleet, reader, redis, field, value
):
    await redis.delete(fleet.store.keys.token(A))
    await redis.hset(fleet.store.keys.state(A), field, value)

    with pytest.raises(NoTokenError, match=A):
        await reader.get(A)


async def test_garbage_about_who_was_absent_stops_no_discovery_and_drops_nobody(fleet, redis):
    store = fleet.store
    await store.enrol([("T11200009", "")], "discovered")
    await redis.hset(store.keys.due.removesuffix("due") + "absent", "T11200009", "garbage")

    gone = await absent_twice(store, ACCOUNTS, store.now_ms())

    assert gone == ([], 4)
    assert await absent_twice(store, ACCOUNTS, store.now_ms() + 1) == (["T11200009"], 4)


async def test_strangers_among_those_covered_longest_are_no_witnesses(fleet, redis):
    await redis.zadd(fleet.store.keys.expiry, {b"\xff": 9e15, "garbage": "inf"})

    assert await fleet.prober._witnesses() == list(reversed(ACCOUNTS))


@pytest.mark.parametrize("value", ["garbage", b"\xff\xfe\0", "9" * 400])
@pytest.mark.parametrize("field", ["ended_at", "deadline_at"])
async def test_a_run_with_garbage_in_it_keeps_no_ticket_from_its_work(fleet, redis, field, value):
    keys = fleet.store.keys
    await redis.zadd(keys.runs, {"r": fleet.store.now_ms()})
    await redis.hset(keys.run("r"), field, value)

    assert await fleet.runs.is_kept_waiting() is False
