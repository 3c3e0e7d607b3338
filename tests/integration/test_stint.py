"""Stints against a sandbox over real HTTP: from due account to sealed token."""

import asyncio
import contextlib
import time
from contextlib import suppress
from unittest.mock import AsyncMock

import pytest
from celery import Celery
from pydantic import SecretStr

from subtokens.config.queues import QUEUES
from subtokens.config.settings import Settings
from subtokens.tasks.dintero.errors import ThrottledError
from subtokens.tasks.dintero.transport import open_transport
from subtokens.tasks.fleet import Fleet
from subtokens.tasks.tokens.circuit import CircuitOpenError
from subtokens.tasks.tokens.record import Kind
from subtokens.tasks.tokens.stint import Stint, Tally
from subtokens.tasks.work import _work_on
from subtokens.workers.sandbox import SandboxOptions, serving

SECRET = "sandbox-client-secret"


@pytest.fixture
def open_fleet(redis, environment):
    """A fleet of `options.accounts` enrolled accounts at a sandbox, with real time."""

    @contextlib.asynccontextmanager
    async def open_fleet(options=None, **changes):
        async with serving(options or SandboxOptions(accounts=30)) as sandbox:
            values = {
                name.removeprefix("SUBTOKENS_").lower(): value
                for name, value in environment.items()
            }
            values |= {"client_secret": SECRET, "base_url": sandbox.base_url, "rate_limit": 5000}
            settings = Settings(**(values | changes))
            transport = open_transport(settings.concurrency)
            fleet = Fleet(settings, settings.partners[0], redis, transport)
            ids = [
                f"T112{n:05d}" for n in range(1, (options or sandbox.state.options).accounts + 1)
            ]
            await fleet.store.enrol([(account, "") for account in ids], "imported")
            try:
                yield fleet, sandbox.state
            finally:
                await transport.aclose()

    return open_fleet


def stint_of(fleet, lane="exchange", **settings):
    ended = []

    async def on_ended(runs):
        ended.extend(runs)

    wanted = {"concurrency": 10, "batch_size": 7, "lease_seconds": 60, "batch_deadline_seconds": 20}
    stint = Stint(
        lane,
        fleet.exchanger,
        fleet.prober,
        fleet.limiters[lane],
        fleet.settings.model_copy(update=wanted | settings),
        on_ended,
    )
    return stint, ended


async def with_token(fleet):
    return await fleet.store.redis.zcount(fleet.store.keys.expiry, 0, "+inf")


async def test_every_due_account_gets_one_token_by_one_call(open_fleet):
    async with open_fleet(SandboxOptions(accounts=200)) as (fleet, sandbox):
        stint, _ = stint_of(fleet)

        tally = await stint.run()

        assert (tally.exchanged, tally.lost, sum(tally.failed.values())) == (200, 0, 0)
        stats = sandbox.calls.stats(time.time(), accounts=True)
        assert stats["calls"]["exchange"] == 200
        assert stats["calls"]["partner_token"] == 1
        assert set(stats["accounts"]["exchange"].values()) == {1}
        record = await fleet.store.load("T11200001")
        assert record.kind is Kind.EXCHANGE
        assert record.issued_at < record.renew_at < record.expires_at


async def test_runs_that_end_are_told_while_the_stint_goes_on(open_fleet):
    async with open_fleet() as (fleet, _):
        await fleet.runs.open("run", 60, "the step")
        await fleet.runs.request("run", ["T11200001", "T11200002"])
        await fleet.runs.seal("run")
        stint, ended = stint_of(fleet)

        await stint.run()

        assert ended == ["run"]
        assert (await fleet.runs.summary("run")).done == 2


async def test_the_account_kind_spends_the_exchange_token_on_one_more_call(open_fleet):
    options = SandboxOptions(accounts=20, audience="account", accepts="account")
    async with open_fleet(options, token_kind="account", audience="account") as (fleet, sandbox):
        stint, _ = stint_of(fleet)

        tally = await stint.run()

        assert tally.exchanged == 20
        calls = sandbox.calls.stats(time.time())["calls"]
        assert (calls["exchange"], calls["account_token"]) == (20, 20)
        assert (await fleet.store.load("T11200001")).kind is Kind.ACCOUNT


async def test_a_wrong_audience_never_falls_back_silently(open_fleet):
    options = SandboxOptions(accounts=3, audience="account")
    async with open_fleet(options, token_kind="account", audience="partner") as (fleet, _):
        stint, _ = stint_of(fleet)

        tally = await stint.run()

        assert tally.exchanged == 0
        assert tally.failed["refused_403"] == 3


async def test_refused_accounts_fail_with_the_reason_and_the_others_get_their_tokens(open_fleet):
    async with open_fleet(SandboxOptions(accounts=20, inactive=5)) as (fleet, _):
        stint, _ = stint_of(fleet)

        tally = await stint.run()

        assert (tally.exchanged, dict(tally.failed)) == (15, {"refused_403": 5})


async def test_a_wrong_secret_ends_the_stint_after_one_call_and_punishes_no_account(open_fleet):
    async with open_fleet(client_secret="CANARY-wrong") as (fleet, sandbox):
        stint, _ = stint_of(fleet)

        assert (await stint.run()) == Tally()

        with pytest.raises(CircuitOpenError) as caught:
            fleet.circuit.check()
        assert "CANARY" not in repr(caught.value) + str(caught.value)
        assert sandbox.calls.stats(time.time())["calls"]["partner_token"] == 1
        claim = await fleet.store.claim(1, 60, fleet.rate, "exchange")
        assert claim.accounts == ()
        assert claim.is_barred
        assert claim.schedule.wait_seconds > 1  # for all workers: no storm
        assert await fleet.store.redis.scard(fleet.store.keys.failing) == 0


async def test_a_suspended_partner_and_its_return_are_told_once_each(open_fleet):
    async with open_fleet(client_secret="CANARY-wrong") as (fleet, _):
        store = fleet.store
        for _ in range(3):
            assert (await stint_of(fleet)[0].run()).exchanged == 0
            await store.redis.hset(store.keys.circuit, "probe_at", 0)  # the wait is over
        fleet.exchanger._partner = fleet.partner.model_copy(
            update={"client_secret": SecretStr(SECRET)}
        )

        assert (await stint_of(fleet)[0].run()).exchanged == 30

        entries = await store.redis.xrange(store.keys.events)
        told = [fields for _, fields in entries if b"partner" in fields[b"event"]]
        assert told == [
            {b"event": b"partner.suspended", b"reason": b"partner_token: answered 401"},
            {b"event": b"partner.resumed"},
        ]


async def test_many_401s_at_once_cost_one_new_partner_token(open_fleet):
    async with open_fleet(SandboxOptions(accounts=100)) as (fleet, sandbox):
        await stint_of(fleet)[0].run()
        await fleet.runs.open("again", 60, "")
        await fleet.runs.request_all("again")
        stale = fleet.exchanger.partner_token._known
        broken = type(stale)(
            stale.account_id, stale.access_token[:-4] + "AAAA", stale.kind, stale.generation,
            stale.issued_ms, stale.renew_ms, stale.expires_ms,
        )  # fmt: skip
        sealed = fleet.store.sealer.seal(broken, fleet.store.keys.partner)
        await fleet.store.redis.set(fleet.store.keys.partner, sealed)
        fleet.exchanger.partner_token._known = broken

        tally = await stint_of(fleet, concurrency=100)[0].run()

        assert tally.exchanged == 100
        stats = sandbox.calls.stats(time.time())
        assert stats["calls"]["partner_token"] == 2
        assert stats["statuses"]["exchange"][401] >= 1


async def test_a_token_that_another_process_found_refused_is_not_used_any_more(open_fleet):
    async with open_fleet() as (fleet, sandbox):
        known = await fleet.exchanger.partner_token.get()
        await fleet.store.scripts.run("lock_partner", "another", 1, known.generation)

        tally = await stint_of(fleet)[0].run()

        assert tally.exchanged == 30
        assert sandbox.calls.stats(time.time())["calls"]["partner_token"] == 2


async def test_accounts_are_claimed_ahead_and_calls_stay_within_the_concurrency(
    open_fleet, monkeypatch
):
    async with open_fleet(SandboxOptions(accounts=300, latency_seconds=0.02)) as (fleet, _):
        exchange, claim = fleet.client.exchange, fleet.store.claim
        claimed, asked, answered, under_way = 0, 0, 0, [0]
        held = [0]

        async def watched_claim(*arguments):
            nonlocal claimed
            claim_made = await claim(*arguments)
            claimed += len(claim_made.accounts)
            held.append(claimed - answered)
            return claim_made

        async def watched_exchange(*arguments):
            nonlocal asked, answered
            asked += 1
            under_way.append(asked - answered)
            answer = await exchange(*arguments)
            answered += 1
            return answer

        monkeypatch.setattr(fleet.store, "claim", watched_claim)
        monkeypatch.setattr(fleet.client, "exchange", watched_exchange)
        tally = await stint_of(fleet)[0].run()

        assert tally.exchanged == 300
        assert max(under_way) == 10
        assert 10 < max(held) <= 20


async def test_a_stint_past_its_deadline_hands_back_what_it_claimed_ahead(open_fleet):
    async with open_fleet(SandboxOptions(accounts=400, latency_seconds=0.02)) as (fleet, sandbox):
        tally = await stint_of(fleet, batch_deadline_seconds=0.3)[0].run()

        assert 0 < tally.exchanged < 400
        assert sandbox.calls.stats(time.time())["calls"]["exchange"] == tally.exchanged
        assert await fleet.store.redis.hlen(fleet.store.keys.claims) == 0
        left = await fleet.store.claim(400, 60, fleet.rate, "exchange")
        assert len(left.accounts) == 400 - tally.exchanged


async def test_what_becomes_due_while_a_call_hangs_is_exchanged_meanwhile(open_fleet, monkeypatch):
    async with open_fleet(SandboxOptions(accounts=2)) as (fleet, _):
        exchange, is_answered = fleet.client.exchange, asyncio.Event()
        await fleet.store.forget(["T11200002"])

        async def hanging(partner_id, bearer, account_id):
            if account_id == "T11200001":
                await is_answered.wait()
            return await exchange(partner_id, bearer, account_id)

        monkeypatch.setattr(fleet.client, "exchange", hanging)
        work = asyncio.create_task(stint_of(fleet)[0].run())
        async with asyncio.timeout(10):
            while not await fleet.store.redis.hlen(fleet.store.keys.claims):
                await asyncio.sleep(0.01)
            await fleet.store.enrol([("T11200002", "")], "imported")
            while not await with_token(fleet):
                await asyncio.sleep(0.01)
            is_answered.set()
            assert (await work).exchanged == 2


async def test_a_cancelled_stint_keeps_what_it_got_and_hands_back_the_rest(open_fleet):
    async with open_fleet(SandboxOptions(accounts=400, latency_seconds=0.2)) as (fleet, sandbox):
        work = asyncio.create_task(stint_of(fleet, concurrency=20)[0].run())
        async with asyncio.timeout(10):
            while sandbox.calls.stats(time.time())["calls"]["exchange"] < 25:
                await asyncio.sleep(0.01)

        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

        assert await fleet.store.redis.hlen(fleet.store.keys.claims) == 0
        kept = await with_token(fleet)
        assert kept >= 1
        left = await fleet.store.claim(400, 60, fleet.rate, "exchange")
        assert len(left.accounts) == 400 - kept


async def test_a_token_that_comes_beside_a_429_is_stored_at_once_and_not_when_the_pause_is_over(
    open_fleet, monkeypatch
):
    async with open_fleet() as (fleet, _):
        exchange, pause = fleet.exchanger.exchange, fleet.limiters["exchange"].pause
        is_throttled, is_pausing, is_passed = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def one_is_throttled(account_id, *arguments):
            if not is_throttled.is_set():
                is_throttled.set()
                raise ThrottledError("exchange", "answered 429", retry_after_seconds=60)
            await is_pausing.wait()
            if is_passed.is_set():
                await asyncio.Event().wait()  # the stint has more to do for as long as it may
            is_passed.set()
            return await exchange(account_id, *arguments)

        async def slow(*arguments):
            is_pausing.set()
            while stint.tally.exchanged + len(stint._records) == 0:
                await asyncio.sleep(0.01)
            await pause(*arguments)

        monkeypatch.setattr(fleet.exchanger, "exchange", one_is_throttled)
        monkeypatch.setattr(fleet.limiters["exchange"], "pause", slow)
        stint, _ = stint_of(fleet, concurrency=2, batch_size=100)
        work = asyncio.create_task(stint.run())
        try:
            async with asyncio.timeout(5):
                while await fleet.store.redis.scard(fleet.store.keys.failing) == 0:
                    await asyncio.sleep(0.01)
            assert await with_token(fleet) >= 1
            assert not work.done()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def test_a_stint_that_is_cancelled_while_it_claims_hands_back_what_redis_gave(
    open_fleet, monkeypatch
):
    async with open_fleet(SandboxOptions(accounts=400)) as (fleet, _):
        claim, is_claimed = fleet.store.claim, asyncio.Event()

        async def slow(*arguments):
            claimed = await claim(*arguments)
            is_claimed.set()
            await asyncio.sleep(0.05)  # the answer is on its way
            return claimed

        monkeypatch.setattr(fleet.store, "claim", slow)
        work = asyncio.create_task(stint_of(fleet)[0].run())
        await is_claimed.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

        assert await fleet.store.redis.hlen(fleet.store.keys.claims) == 0


async def test_a_ticket_for_both_lanes_that_gives_way_while_it_claims_hands_back_what_redis_gave(
    open_fleet, monkeypatch
):
    app = Celery("both-lanes", set_as_current=False)
    app.amqp.queues.select(QUEUES)
    async with open_fleet(SandboxOptions(accounts=400)) as (fleet, _):
        claim, is_claimed = fleet.store.claim, asyncio.Event()

        async def slow(most, lease_seconds, rate, lane):
            claimed = await claim(most, lease_seconds, rate, lane)
            if lane == "exchange":
                is_claimed.set()
                await asyncio.sleep(0.05)  # the answer is on its way
            return claimed

        monkeypatch.setattr(fleet.store, "claim", slow)
        working = asyncio.create_task(_work_on(fleet, (), app, "exchange"))
        await is_claimed.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

        async with asyncio.timeout(10):
            while await fleet.store.redis.hlen(fleet.store.keys.claims):
                await asyncio.sleep(0.01)


async def test_what_is_wrong_with_one_partners_store_ends_no_work_for_another(
    open_fleet, fleet_of, redis, monkeypatch
):
    app = Celery("two-partners", set_as_current=False)
    broken = fleet_of(113)
    monkeypatch.setattr(broken.exchanger.partner_token, "get", AsyncMock())
    await redis.set(broken.store.keys.due, "somebody else's")
    async with open_fleet(SandboxOptions(accounts=100, latency_seconds=0.05)) as (fleet, _):
        await _work_on(fleet, [broken], app, "exchange")

        assert await with_token(fleet) == 100


async def test_a_cancellation_that_is_lost_on_the_way_is_heeded_all_the_same(
    open_fleet, monkeypatch
):
    """Python 3.11's asyncio.wait_for, and so any command to Redis, may swallow one."""
    async with open_fleet(SandboxOptions(accounts=400, latency_seconds=0.2)) as (fleet, _):
        work: list[asyncio.Task] = []
        claim = fleet.store.claim

        async def swallowing(*arguments):
            claimed = await claim(*arguments)
            work[0].cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            return claimed

        monkeypatch.setattr(fleet.store, "claim", swallowing)
        work.append(asyncio.create_task(stint_of(fleet, concurrency=20)[0].run()))
        with pytest.raises(asyncio.CancelledError):
            await work[0]

        assert await fleet.store.redis.hlen(fleet.store.keys.claims) == 0
        assert await with_token(fleet) == 0


async def test_errors_of_the_upstream_are_tried_again_until_all_is_well(open_fleet):
    options = SandboxOptions(accounts=40, error_share=0.3, seed=7)
    async with open_fleet(options) as (fleet, _):
        first = await stint_of(fleet)[0].run()
        assert first.failed["upstream_failed"] > 0

        async with asyncio.timeout(20):
            while await with_token(fleet) < 40:
                await stint_of(fleet)[0].run()
                await asyncio.sleep(0.05)

        assert await fleet.store.redis.scard(fleet.store.keys.failing) == 0


async def test_a_refresh_token_is_dropped_and_counted(open_fleet):
    async with open_fleet(SandboxOptions(accounts=5, refresh_tokens=True)) as (fleet, _):
        await stint_of(fleet)[0].run()

        assert fleet.exchanger.refresh_tokens_dropped == 5
