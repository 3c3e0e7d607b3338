"""A token on every request, and a newer one after a 401: sync and async, at last over real HTTP."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from subtokens.config.errors import InputError
from subtokens.config.settings import StoreSettings
from subtokens.tasks.tokens.async_reader import AsyncTokenReader
from subtokens.tasks.tokens.auth import SubAccountAuth
from subtokens.tasks.tokens.errors import NoTokenError
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.workers.sandbox import SandboxOptions, serving

A, B = "T11200001", "T11200002"


class Upstream:
    """Answers 401 to the generations that it refuses, as `token` spells them: to all at first."""

    def __init__(self):
        self.refuses, self.seen = lambda generation: True, []
        self.transport = httpx.MockTransport(self.answer)

    def answer(self, request):
        self.seen.append(request.headers.get("Authorization", "none"))
        is_refused = self.refuses(int(self.seen[-1].rpartition("-")[2]))
        return httpx.Response(401 if is_refused else 200, text=request.read().decode())


class Caller:
    """Requests by a client of either kind with one auth; each is awaited."""

    def __init__(self, is_async, reader, upstream, account=A, **options):
        self.is_async = is_async
        self.auth = SubAccountAuth(reader, account, **options)
        kind = httpx.AsyncClient if is_async else httpx.Client
        self.client = kind(transport=upstream.transport, auth=self.auth, base_url="https://api")

    async def request(self, method="GET", **options):
        if self.is_async:
            return await self.client.request(method, "/", **options)
        return await asyncio.to_thread(self.client.request, method, "/", **options)


@pytest.fixture
def settings(environment, redis):
    names = ("partner_id", "store_url", "encryption_keys")
    values = {name: environment[f"SUBTOKENS_{name.upper()}"] for name in names}
    return StoreSettings(**values, namespace="test")


@pytest.fixture
async def readers(settings, clock):
    async with AsyncTokenReader(settings, clock=clock) as reader:
        with TokenReader(settings, clock=clock) as sync_reader:
            yield {True: reader, False: sync_reader}


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture(params=[True, False], ids=["AsyncClient", "Client"])
async def caller_with(request, readers, upstream):
    callers = []

    def caller_with(**options):
        reader = readers[request.param]
        callers.append(Caller(request.param, reader, upstream, **{"wait_seconds": 10} | options))
        return callers[-1]

    yield caller_with
    for caller in callers:
        await caller.client.aclose() if caller.is_async else caller.client.close()


@pytest.fixture
def give(store, redis, claim, token, enrol):
    """Gives the account a new token as an exchange does; returns the record."""

    async def give(account=A, access_token="", **life):
        await enrol(account)
        await redis.zadd(store.keys.due, {account: -store.now_ms()})
        claimed = await claim(1, lane="exchange")
        record = token(account, claimed.generation, **life)
        record = replace(record, access_token=access_token or record.access_token)
        await store.complete([record])
        return record

    return give


@pytest.fixture
def reports(redis, store):
    async def reports(least=0):
        async with asyncio.timeout(10):
            while await redis.xlen(store.keys.rejections) < least:
                await asyncio.sleep(0.005)
        entries = await redis.xrange(store.keys.rejections)
        return [(row[b"account"].decode(), int(row[b"generation"])) for _, row in entries]

    return reports


async def test_a_request_is_signed_with_the_accounts_token(caller_with, upstream, give, reports):
    record = await give()
    upstream.refuses = lambda generation: False

    answer = await caller_with().request()

    assert answer.status_code == 200
    assert upstream.seen == [f"Bearer {record.access_token}"]
    assert await reports() == []


async def test_after_a_401_the_token_is_reported_and_a_newer_one_is_tried(
    caller_with, upstream, give, reports
):
    older = await give()
    upstream.refuses = older.generation.__eq__
    call = asyncio.create_task(caller_with().request("POST", json={"all": "of it"}))
    assert await reports(1) == [(A, older.generation)]

    newer = await give()
    answer = await call

    assert (answer.status_code, answer.json()) == (200, {"all": "of it"})
    assert upstream.seen == [f"Bearer {r.access_token}" for r in (older, newer)]
    assert len(await reports()) == 1


async def test_a_newer_one_that_is_there_already_is_tried_without_a_report(
    caller_with, upstream, give, reports
):
    older = await give()
    upstream.refuses = lambda generation: False
    caller = caller_with()
    await caller.request()  # has the older one at hand from now on
    newer = await give()
    upstream.refuses = older.generation.__eq__

    assert (await caller.request()).status_code == 200
    assert upstream.seen == [f"Bearer {r.access_token}" for r in (older, older, newer)]
    assert await reports() == []


async def test_it_is_tried_once_more_and_no_more(caller_with, upstream, give, reports):
    await give()
    call = asyncio.create_task(caller_with().request())
    await reports(1)
    await give()

    assert (await call).status_code == 401
    assert len(upstream.seen) == 2


async def test_where_none_comes_the_401_is_given_back_and_not_reported_again(
    caller_with, upstream, give, reports
):
    older = await give()
    caller = caller_with(wait_seconds=0.05)

    for _ in range(3):
        answer = await caller.request("POST", content=b"the body")
        assert (answer.status_code, answer.text) == (401, "the body")

    assert len(upstream.seen) == 3
    assert await reports() == [(A, older.generation)]


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_another_refusal_is_no_matter_of_the_token(
    caller_with, upstream, give, reports, status
):
    await give()
    upstream.transport.handler = lambda request: httpx.Response(status)

    assert (await caller_with().request()).status_code == status
    assert await reports() == []


async def test_the_401_of_another_host_that_got_no_token_is_not_reported(
    caller_with, upstream, give, reports
):
    await give()

    def redirect(request):
        if request.url.host == "api":
            return httpx.Response(307, headers={"Location": "https://elsewhere/"})
        assert "Authorization" not in request.headers
        return httpx.Response(401)

    upstream.transport.handler = redirect

    assert (await caller_with().request(follow_redirects=True)).status_code == 401
    assert await reports() == []


async def test_without_a_token_nothing_is_sent(caller_with, upstream, give, enrol):
    await give(lifetime_seconds=30)

    with pytest.raises(NoTokenError, match="although 60 s were asked for"):
        await caller_with().request()
    await give(B, lifetime_seconds=30)
    assert (await caller_with(account=B, valid_for="20s", wait_seconds=0).request()).is_error
    assert len(upstream.seen) == 1


async def test_the_wrong_kind_of_reader_is_refused_with_the_remedy(readers, upstream, give):
    await give()

    with pytest.raises(InputError, match=r"takes SubAccountAuth\(TokenReader\(\)"):
        await Caller(False, readers[True], upstream).request()
    with pytest.raises(InputError, match=r"takes SubAccountAuth\(AsyncTokenReader\(\)"):
        await Caller(True, readers[False], upstream).request()
    assert upstream.seen == []


async def test_what_cannot_be_used_is_refused_when_the_auth_is_made(readers):
    with pytest.raises(InputError):
        SubAccountAuth(readers[True], "T112")
    with pytest.raises(InputError):
        SubAccountAuth(readers[False], A, valid_for="soon")


async def test_no_token_is_shown(caller_with, upstream, give):
    await give()
    caller = caller_with(wait_seconds=0)
    answer = await caller.request()

    shown = (caller.auth, answer, answer.request, answer.request.headers)
    assert "CANARY" not in "".join(map(repr, [*shown, *map(vars, shown[:1])]))


@pytest.mark.parametrize("cache_seconds", [10.0, 0])
async def test_five_hundred_401s_at_once_cost_one_report_and_all_end_well(
    settings, clock, upstream, give, reports, redis, cache_seconds
):
    older = await give()
    upstream.refuses = older.generation.__eq__
    async with AsyncTokenReader(settings, clock=clock, cache_seconds=cache_seconds) as reader:
        caller = Caller(True, reader, upstream)
        calls = [asyncio.create_task(caller.request()) for _ in range(500)]
        assert await reports(1) == [(A, older.generation)]
        async with asyncio.timeout(10):
            while len(upstream.seen) < 500:
                await asyncio.sleep(0.005)
        await give()

        answers = await asyncio.gather(*calls)
        await caller.client.aclose()

    assert {answer.status_code for answer in answers} == {200}
    assert len(upstream.seen) == 1000
    assert await reports() == [(A, older.generation)]


async def test_many_threads_at_once_cost_one_report_and_all_end_well(
    readers, upstream, give, reports
):
    older = await give()
    upstream.refuses = older.generation.__eq__
    caller = Caller(False, readers[False], upstream)
    with ThreadPoolExecutor(40) as pool:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(pool, caller.client.get, "/") for _ in range(40)]
        await reports(1)
        await give()
        answers = await asyncio.gather(*calls)
    caller.client.close()

    assert {answer.status_code for answer in answers} == {200}
    assert await reports() == [(A, older.generation)]


@pytest.fixture
def replace_what_is_reported(give, reports):
    async def replace_what_is_reported(access_token):
        await reports(1)
        return await give(access_token=access_token)

    return replace_what_is_reported


@pytest.fixture(params=[True, False], ids=["AsyncClient", "Client"])
async def at_sandbox(request, readers, clock):
    """Asks for the account's settings with an auth over real HTTP; and the sandbox."""
    kind = httpx.AsyncClient if request.param else httpx.Client
    auth = SubAccountAuth(readers[request.param], A)
    path = f"/accounts/{A}/management/settings"
    async with serving(SandboxOptions(accounts=1), clock=clock) as sandbox:
        client = kind(base_url=sandbox.base_url, auth=auth)

        def issue():
            return sandbox.state.tokens.issue("exchange", A, clock() + 3600)

        async def ask(*parts):
            content = (async_parts if request.param else iter)(parts) if parts else None
            if request.param:
                return await client.request("GET", path, content=content)
            return await asyncio.to_thread(client.request, "GET", path, content=content)

        yield ask, issue, sandbox.state.calls
        await client.aclose() if request.param else client.close()


async def async_parts(parts):
    for part in parts:
        yield part


async def test_a_tampered_token_is_refused_reported_and_replaced_over_real_http(
    at_sandbox, give, reports, replace_what_is_reported, redis, store, clock
):
    ask, issue, calls = at_sandbox
    older = await give(access_token=issue())
    key = store.keys.token(A)
    tampered = replace(older, access_token=older.access_token[:-9] + "CANARY-xx")
    await redis.set(key, store.sealer.seal(tampered, key))

    answer, newer = await asyncio.gather(ask(), replace_what_is_reported(issue()))

    assert (answer.status_code, answer.json()["account_id"]) == (200, A)
    assert newer.generation > older.generation
    assert (await ask()).status_code == 200
    assert calls.stats(clock())["statuses"]["settings"] == {401: 1, 200: 2}
    assert await reports() == [(A, older.generation)]


async def test_a_body_that_is_gone_is_not_sent_again_but_its_401_is_reported(
    at_sandbox, give, reports, replace_what_is_reported, clock
):
    ask, issue, calls = at_sandbox
    older = await give()

    answer, _ = await asyncio.gather(ask(b"once"), replace_what_is_reported(issue()))

    assert answer.status_code == 401
    assert (await ask(b"once")).status_code == 200
    assert calls.stats(clock())["statuses"]["settings"] == {401: 1, 200: 1}
    assert await reports() == [(A, older.generation)]
