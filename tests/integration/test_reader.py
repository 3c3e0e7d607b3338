"""Readers, sync and async alike: tokens out of Redis, and why there is none."""

import asyncio
import inspect
import time
from datetime import timedelta

import pytest

import subtokens
from subtokens.config.errors import InputError
from subtokens.config.settings import StoreSettings
from subtokens.tasks.tokens.async_reader import AsyncTokenReader
from subtokens.tasks.tokens.errors import NoTokenError, SealError
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.sealing import FORMAT
from subtokens.tasks.tokens.store import Failure

A, B, C = "T11200001", "T11200002", "T11200003"


class Reads:
    """A reader of either kind: each method is awaited, and steps to Redis are counted."""

    def __init__(self, reader):
        self.reader, self.round_trips = reader, []
        take = reader._take

        def counted(step):
            if isinstance(step, list):
                self.round_trips.append([command[0] for command in step])
            return take(step)

        reader._take = counted

    def __getattr__(self, name):
        method = getattr(self.reader, name)

        async def call(*arguments, **options):
            if inspect.iscoroutinefunction(method):
                return await method(*arguments, **options)
            return await asyncio.to_thread(method, *arguments, **options)

        return call


@pytest.fixture(params=[TokenReader, AsyncTokenReader])
async def reader_with(request, store_settings, clock):
    opened = []

    def reader_with(settings=store_settings, **options):
        opened.append(request.param(settings, **{"clock": clock} | options))
        return Reads(opened[-1])

    yield reader_with
    for reader in opened:
        await reader.aclose() if hasattr(reader, "aclose") else reader.close()


@pytest.fixture
def store_settings(environment, redis):
    names = ("partner_id", "store_url", "encryption_keys")
    values = {name: environment[f"SUBTOKENS_{name.upper()}"] for name in names}
    return StoreSettings(**values, namespace="test")


@pytest.fixture
def reader(reader_with):
    return reader_with()


@pytest.fixture
def give(store, redis, claim, token, enrol):
    """Gives each account a new token as an exchange does; returns the records."""

    async def give(*accounts, **life):
        await enrol(*accounts)
        await redis.zadd(store.keys.due, dict.fromkeys(accounts, -store.now_ms()))
        claimed = await claim(len(accounts), lane="exchange")
        records = [token(account, claimed.generation, **life) for account in accounts]
        await store.complete(records)
        return records

    return give


@pytest.fixture
def fail(store, claim):
    async def fail(account, reason, **options):
        claimed = await claim(1, lane="exchange")
        due_ms = store.now_ms() + 60_000
        await store.fail(
            [Failure(account, claimed.generation, due_ms, reason, is_final=True, **options)]
        )

    return fail


async def message(call):
    with pytest.raises(NoTokenError) as caught:
        await call
    assert "CANARY" not in repr(caught.value)
    return str(caught.value)


async def test_a_token_is_had_in_one_round_trip_with_all_its_instants(reader, give):
    [stored] = await give(A)

    assert await reader.get(A) == stored
    assert reader.round_trips == [["MGET"]]


@pytest.mark.parametrize("valid_for", [3599, 3599.5, "59m", timedelta(minutes=59)])
async def test_a_token_that_lasts_as_long_as_was_asked_is_given(reader, give, valid_for):
    [stored] = await give(A)

    assert await reader.get(A, valid_for=valid_for) == stored


async def test_a_token_that_ends_sooner_is_told_with_its_end_and_what_was_asked(
    reader, give, clock
):
    await give(A)
    clock.push(1800)

    told = await message(reader.get(A, valid_for="45m"))

    assert told == (
        f"{A} has a token, but it is valid only until 2027-01-15 09:00:00 UTC, "
        f"although 2700 s were asked for; to replace it: subtokens exchange {A}"
    )


async def test_who_asks_for_more_than_a_tokens_lifetime_is_told_that_none_lasts_so_long(
    reader, give
):
    await give(A)

    told = await message(reader.get(A, valid_for="1h30m"))

    assert told == (
        f"{A} has a token, but it is valid only until 2027-01-15 09:00:00 UTC, although 5400 s "
        "were asked for; a new one will not last so long either: they live 3600 s"
    )
    assert reader.round_trips == [["MGET"]]


async def test_an_account_that_is_not_enrolled_is_told_in_one_more_round_trip(reader):
    told = await message(reader.get(A))

    assert f"{A} has no valid token: it is not enrolled" in told
    assert "subtokens accounts discover" in told
    assert reader.round_trips == [["MGET"], ["ZSCORE", "ZSCORE", "HMGET"]]


async def test_an_account_that_was_never_exchanged_is_told_with_its_last_attempt(
    reader, enrol, fail
):
    await enrol(A)
    assert "was never exchanged; last attempt: none" in await message(reader.get(A))

    await fail(A, "upstream_failed")

    told = await message(reader.get(A))
    assert "was never exchanged; last attempt: upstream_failed" in told
    assert f"subtokens explain {A}" in told


async def test_a_quarantined_account_is_told_with_the_instant_and_the_reason(reader, enrol, fail):
    await enrol(A)
    await fail(A, "refused_403", repeats=5, is_quarantined=True)

    assert await message(reader.get(A)) == (
        f"{A} has no valid token: it is in quarantine since 2027-01-15 08:00:00 UTC for "
        f"refused_403; once that is put right: subtokens exchange --retry {A}"
    )


@pytest.mark.parametrize("is_in_redis", [True, False])
async def test_an_expired_account_is_told_since_when(reader, give, redis, clock, is_in_redis):
    await give(A, lifetime_seconds=600)
    clock.push(601)  # Redis goes by a clock of its own, and may be late
    if not is_in_redis:
        await redis.delete(f"test:{{T11200000}}:token:{A}")

    told = await message(reader.get(A))

    assert "it has expired since 2027-01-15 08:10:00 UTC; last attempt: exchanged" in told


async def test_after_a_retry_out_of_quarantine_the_tokens_own_end_is_told(
    reader, give, store, fail, clock, redis
):
    await give(A, lifetime_seconds=600)
    clock.push(700)
    await redis.delete(store.keys.token(A))
    await redis.zadd(store.keys.due, {A: -store.now_ms()})
    await fail(A, "refused_403", repeats=5, is_quarantined=True)
    clock.push(7000)
    await store.scripts.run("request", "run", store.now_ms(), "1", A)

    assert "it has expired since 2027-01-15 08:10:00 UTC" in await message(reader.get(A))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["T112"], {}),
        ([None], {}),
        ([["T11200001"]], {}),
        (["P11200001"], {}),
        ([A], {"valid_for": "soon"}),
        ([A], {"valid_for": -1}),
    ],
)
async def test_what_cannot_be_used_is_refused_before_redis_is_asked(reader, arguments, options):
    for method in ("get", "wait"):
        with pytest.raises(InputError):
            await getattr(reader, method)(*arguments, **options)
    with pytest.raises(InputError):
        await reader.get_many(arguments, **options)
    assert reader.round_trips == []


async def test_many_are_had_in_one_round_trip_in_the_order_of_the_ids(reader, give, redis):
    ids = [f"T112{n:05d}" for n in range(1, 2501)]
    stored = await give(*ids)
    asked = [*reversed(ids), "T11299999"]
    await redis.config_resetstat()

    found = await reader.get_many(asked)

    assert list(found.values()) == stored[::-1]
    assert reader.round_trips == [["MGET"] * 3]
    assert (await redis.info("commandstats"))["cmdstat_mget"]["calls"] == 3
    assert await reader.get_many([]) == {}


async def test_many_leaves_out_who_has_none_that_lasts(reader, give, enrol):
    await give(A)
    await give(B, lifetime_seconds=60)
    await enrol(C)

    assert set(await reader.get_many([A, B, C, A])) == {A, B}
    assert set(await reader.get_many([A, B, C], valid_for="30m")) == {A}


async def test_a_record_that_cannot_be_opened_is_lost_alone_and_told(
    reader, give, redis, store, caplog
):
    await give(A, B)
    await redis.copy(store.keys.token(B), store.keys.token(A), replace=True)

    found = await reader.get_many([A, B])

    assert set(found) == {B}
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert (record.msg["event"], record.msg["count"]) == ("tokens.not_opened", 1)
    assert A in record.msg["error"]
    assert "CANARY" not in caplog.text


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda sealed: sealed[:20], "is cut short"),
        (lambda sealed: sealed[:-1], "was altered or moved"),
        (lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1]), "was altered or moved"),
        (lambda sealed: bytes([FORMAT + 1]) + sealed[1:], f"has format {FORMAT + 1}"),
        (lambda sealed: sealed.replace(b"k1", b"k9", 1), "sealed with key 'k9'"),
        (lambda _sealed: b"", "is cut short"),
    ],
    ids=["cut", "cut by a byte", "turned", "of a newer format", "of an unknown key", "emptied"],
)
@pytest.mark.parametrize("method", ["get", "wait", "get_many"])
async def test_a_record_that_cannot_be_opened_is_told_with_its_cause_and_reported_once(
    reader, give, redis, store, spoil, cause, method, caplog
):
    [stored, _] = await give(A, B)
    key = store.keys.token(A)
    await redis.set(key, spoil(await redis.get(key)), keepttl=True)

    if method == "get_many":
        assert set(await reader.get_many([A, B])) == {B}
        [record] = caplog.records
        told = record.msg["error"]
    else:
        options = {"timeout": 0.1} if method == "wait" else {}
        with pytest.raises(SealError) as caught:
            await getattr(reader, method)(A, **options)
        told = str(caught.value)
        assert f"subtokens exchange {A}" in told

    assert told.startswith(f"{key}: ")
    assert cause in told
    assert "CANARY" not in f"{told} {caplog.text}"
    [(_, report)] = await redis.xrange(store.keys.rejections)
    assert report == {b"account": A.encode(), b"generation": str(stored.generation).encode()}
    assert await store.reject(A, stored.generation) == "accepted"


@pytest.mark.parametrize("garbage", ["missing", "a list"])
async def test_a_token_that_is_gone_before_its_end_is_told_so_and_reported(
    reader, give, redis, store, garbage
):
    [stored] = await give(A)
    await redis.delete(store.keys.token(A))
    if garbage == "a list":
        await redis.rpush(store.keys.token(A), "no record")

    told = await message(reader.get(A))

    assert "it is gone from the store before its end at 2027-01-15 09:00:00 UTC" in told
    assert f"subtokens exchange {A}" in told
    [(_, report)] = await redis.xrange(store.keys.rejections)
    assert report[b"generation"] == str(stored.generation).encode()


async def test_a_record_that_was_put_where_no_token_was_is_told_and_nothing_is_reported(
    reader, give, enrol, redis, store
):
    await give(A)
    await enrol(B)
    await redis.copy(store.keys.token(A), store.keys.token(B))

    with pytest.raises(SealError, match="altered or moved"):
        await reader.get(B)

    assert not await redis.exists(store.keys.rejections)


async def test_a_wait_goes_past_a_record_that_cannot_be_opened_to_the_next_one(
    reader, give, redis, store
):
    await give(A)
    await redis.set(store.keys.token(A), b"CANARY-garbage", keepttl=True)

    waiting = asyncio.create_task(reader.wait(A))
    while not await redis.xlen(store.keys.rejections):
        await asyncio.sleep(0.01)
    [newer] = await give(A)

    assert await waiting == newer
    assert await redis.xlen(store.keys.rejections) == 1


async def test_a_record_is_at_hand_for_ten_seconds(reader, give, clock):
    [stored] = await give(A)
    for _ in range(3):
        assert await reader.get(A) == stored
        assert await reader.get_many([A]) == {A: stored}
    assert reader.round_trips == [["MGET"]]

    clock.push(10)
    await reader.get(A)
    assert reader.round_trips == [["MGET"], ["MGET"]]


async def test_many_asks_only_for_those_that_are_not_at_hand(reader, give):
    first, second = await give(A, B)
    await reader.get(B)

    assert list((await reader.get_many([A, B])).values()) == [first, second]
    assert await reader.get(A) == first
    assert reader.round_trips == [["MGET"], ["MGET"]]


async def test_what_is_at_hand_but_too_short_is_looked_for_in_redis(reader, give):
    await give(A, lifetime_seconds=600)
    await reader.get(A)
    [longer] = await give(A)

    assert await reader.get(A, valid_for="30m") == longer
    assert await reader.get(A) == longer


async def test_a_token_that_is_due_for_renewal_is_never_at_hand(reader, give, clock):
    await give(A)
    clock.push(1799)
    await reader.get(A)
    clock.push(2)
    [newer] = await give(A)

    assert await reader.get(A) == newer


async def test_with_no_seconds_every_read_asks_redis(reader_with, give):
    reader = reader_with(cache_seconds=0)
    await give(A)
    for _ in range(3):
        await reader.get(A)

    assert len(reader.round_trips) == 3


async def test_a_wait_ends_with_the_token_as_soon_as_it_is_there(reader, give, enrol):
    await enrol(A)
    waiting = asyncio.create_task(reader.wait(A))
    async with asyncio.timeout(10):
        while len(reader.round_trips) < 3:
            await asyncio.sleep(0.001)

    [stored] = await give(A)

    assert await waiting == stored
    assert all(commands == ["MGET"] for commands in reader.round_trips)


async def test_a_wait_for_a_newer_one_passes_over_what_is_at_hand(reader, give):
    [older] = await give(A)
    await reader.get(A)
    waiting = asyncio.create_task(reader.wait(A, newer_than=older.generation))
    async with asyncio.timeout(10):
        while len(reader.round_trips) < 3:
            await asyncio.sleep(0.001)

    [newer] = await give(A)

    assert await waiting == newer
    assert await reader.get(A) == newer
    assert await reader.wait(A, newer_than=older.generation, timeout=0) == newer


async def test_a_wait_pauses_ever_longer_up_to_a_quarter_of_a_second(reader):
    steps, pauses = reader.reader.waiting(A, 0, timeout=60), []
    step = next(steps)
    while len(pauses) < 10:
        if not isinstance(step, list):
            pauses.append(step)
        step = steps.send([[None]])

    assert pauses[0] == 0.02
    assert pauses == sorted(pauses)
    assert pauses[-1] == 0.25
    hasty = reader.reader.waiting(A, 0, timeout=0.01)
    next(hasty)
    assert hasty.send([[None]]) <= 0.01


async def test_a_wait_in_vain_ends_at_its_deadline_with_the_reason(reader, give, enrol):
    await enrol(A)
    [stored] = await give(B)
    started_at = time.monotonic()

    told = await message(reader.wait(A, timeout=0.1))
    assert "was never exchanged" in told
    assert 0.1 <= time.monotonic() - started_at < 5
    told = await message(reader.wait(B, newer_than=stored.generation, timeout=0.05))
    assert f"{B} has no newer token than that of generation {stored.generation}; " in told
    told = await message(reader.wait(B, valid_for="2h", timeout=0))
    assert "valid only until" in told


async def test_a_rejected_token_is_reported_and_no_longer_at_hand(reader, give, redis, store):
    [stored] = await give(A)
    await reader.get(A)

    await reader.reject(stored)

    [(_, fields)] = await redis.xrange(store.keys.rejections)
    assert fields == {b"account": A.encode(), b"generation": str(stored.generation).encode()}
    await reader.get(A)
    await reader.get(A)
    assert reader.round_trips == [["MGET"], ["XADD"], ["MGET"], ["MGET"]]


async def test_the_stream_of_rejections_is_capped(reader, give, redis, store):
    [stored] = await give(A)
    async with redis.pipeline(transaction=False) as pipe:
        for _ in range(15_000):
            pipe.xadd(store.keys.rejections, {"account": B})
        await pipe.execute()

    await reader.reject(stored)

    assert 10_000 <= await redis.xlen(store.keys.rejections) < 10_200


async def test_a_reader_is_a_context_and_shows_no_secret(store_settings, give):
    [stored] = await give(A)
    with TokenReader(store_settings) as reader:
        assert "CANARY" not in repr(reader)
    async with AsyncTokenReader(store_settings) as reader:
        assert "CANARY" not in repr(reader)
    assert "CANARY" not in repr(stored)


async def test_a_thousand_reads_at_once_share_a_few_connections(store_settings, give, redis, clock):
    ids = [f"T112{n:05d}" for n in range(1, 1001)]
    stored = await give(*ids)
    before = len(await redis.client_list())
    async with AsyncTokenReader(store_settings, clock=clock, cache_seconds=0) as reader:
        assert await asyncio.gather(*map(reader.get, ids)) == stored

        assert len(await redis.client_list()) - before <= 20


async def test_threads_share_a_reader(store_settings, give, clock):
    ids = [f"T112{n:05d}" for n in range(1, 201)]
    stored = {record.account_id: record for record in await give(*ids)}
    with TokenReader(store_settings, clock=clock) as reader:
        reads = [asyncio.to_thread(reader.get, account) for account in ids * 5]

        assert all(stored[record.account_id] == record for record in await asyncio.gather(*reads))


async def test_only_the_three_settings_of_the_store_are_needed(environment, monkeypatch, clock):
    for name in ("PARTNER_ID", "STORE_URL", "ENCRYPTION_KEYS"):
        monkeypatch.setenv(f"SUBTOKENS_{name}", environment[f"SUBTOKENS_{name}"])

    with subtokens.TokenReader() as reader:
        assert reader.get_many([A]) == {}
    async with subtokens.AsyncTokenReader() as reader:
        assert await reader.get_many([A]) == {}
