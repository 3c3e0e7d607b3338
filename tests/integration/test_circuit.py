"""The circuit: whose fault a failure is, and that nobody but one prober calls while it is open."""

import asyncio

import pytest

from subtokens.tasks.dintero.errors import Blame
from subtokens.tasks.tokens.status import fleet_status

DAY = 86_400


def ids(first, count):
    return [f"T112{n:05d}" for n in range(first, first + count)]


@pytest.fixture
def onboarded(fleet_at, work_off):
    """A fleet whose accounts all have a token that lives for ten days."""

    async def onboarded(accounts):
        fleet, sandbox = await fleet_at(
            accounts=accounts, lifetime_seconds=10 * DAY, partner_lifetime_seconds=16 * DAY
        )
        await enrol(fleet, ids(1, accounts))
        assert await work_off(fleet) == accounts
        return fleet, sandbox

    return onboarded


async def enrol(fleet, accounts):
    await fleet.store.enrol([(account, "") for account in accounts], "imported")


def set_options(sandbox, **options):
    sandbox.options = sandbox.options.model_copy(update=options)
    if options.get("revoked") == "tokens":
        sandbox.tokens.revoke_partners()


def calls(sandbox):
    return len(sandbox.calls.rows())


async def probe_when_due(fleet, clock, work_off):
    """One stint as soon as the next probe may be made; returns after how many seconds."""
    waited = int(await fleet.store.redis.hget(fleet.store.keys.circuit, "probe_at")) / 1000
    waited = max(0.0, waited - clock.now)
    clock.push(waited + 0.001)
    await work_off(fleet, "renew")
    return waited


async def told(fleet):
    entries = await fleet.store.redis.xrange(fleet.store.keys.events)
    of_all = [f[b"event"].decode() for _, f in entries if b"account" not in f]
    return [event for event in of_all if event != "tokens.renewed"]


async def test_a_credential_that_may_no_longer_exchange_suspends_the_partner_and_no_account(
    onboarded, work_off, clock
):
    fleet, sandbox = await onboarded(200)
    set_options(sandbox, revoked="grant")
    clock.push(9 * DAY)  # all are due
    before = calls(sandbox)

    assert await work_off(fleet) == 0

    assert (
        calls(sandbox) - before <= fleet.settings.concurrency + 4
    )  # those in flight, and who was asked
    status = await fleet_status(fleet.store, 100)
    assert (status.failing, status.due, status.claimed, status.valid) == (0, 200, 0, 200)
    assert (status.barred_by, status.pause_reason) == ("credential", "exchange: answered 403")
    assert await told(fleet) == ["partner.suspended"]

    before = calls(sandbox)
    spaced = [await probe_when_due(fleet, clock, work_off) for _ in range(6)]
    assert spaced == pytest.approx([5, 10, 20, 40, 60, 60], abs=1)
    assert calls(sandbox) - before == 6 * 4  # a new token of the partner's, and three witnesses

    set_options(sandbox, revoked="nothing")
    await probe_when_due(fleet, clock, work_off)
    assert (await fleet_status(fleet.store, 100)).fresh == 200
    assert await told(fleet) == ["partner.suspended", "partner.resumed"]


@pytest.mark.parametrize("revoked", ["secret", "tokens"])
async def test_a_revoked_secret_suspends_the_partner_until_it_is_mended(
    onboarded, work_off, clock, revoked
):
    fleet, sandbox = await onboarded(200)
    set_options(sandbox, revoked=revoked)
    clock.push(9 * DAY)

    assert await work_off(fleet) == 0

    status = await fleet_status(fleet.store, 100)
    assert (status.failing, status.due, status.valid) == (0, 200, 200)
    assert status.pause_reason == "partner_token: answered 401"
    before = calls(sandbox)
    for _ in range(3):
        await probe_when_due(fleet, clock, work_off)
    assert calls(sandbox) - before == 3
    set_options(sandbox, revoked="nothing")
    await probe_when_due(fleet, clock, work_off)
    assert (await fleet_status(fleet.store, 100)).fresh == 200
    assert await told(fleet) == ["partner.suspended", "partner.resumed"]


async def test_who_mended_the_credential_need_not_wait_for_the_next_probe(
    onboarded, work_off, clock
):
    fleet, sandbox = await onboarded(20)
    assert not await fleet.circuit.probe_now()  # it is closed
    assert await fleet.store.redis.exists(fleet.store.keys.circuit) == 0
    set_options(sandbox, revoked="secret")
    clock.push(9 * DAY)
    await work_off(fleet)
    set_options(sandbox, revoked="nothing")

    assert await fleet.circuit.probe_now()

    assert await probe_when_due(fleet, clock, work_off) == 0
    assert (await fleet_status(fleet.store, 100)).fresh == 20


@pytest.mark.faults  # it takes seconds
async def test_foreign_accounts_by_the_thousand_do_not_suspend_the_partner(onboarded, work_off):
    fleet, sandbox = await onboarded(50)
    await enrol(fleet, ids(1001, 10_000))
    before = calls(sandbox)

    fleet.settings = fleet.settings.model_copy(update={"batch_deadline_seconds": 100})
    await work_off(fleet)

    status = await fleet_status(fleet.store, 100)
    assert (status.failing, status.valid, status.barred_by) == (10_000, 50, "")
    assert await told(fleet) == []
    assert calls(sandbox) - before <= 10_000 * 1.1


async def test_foreign_accounts_alone_are_to_blame_themselves(fleet_at, work_off):
    fleet, _ = await fleet_at(accounts=0)
    await enrol(fleet, ids(1, 100))
    await work_off(fleet)
    status = await fleet_status(fleet.store, 100)
    assert (status.failing, status.barred_by) == (100, "")


async def test_an_outage_opens_the_circuit_and_one_prober_closes_it(onboarded, work_off, clock):
    fleet, sandbox = await onboarded(500)
    # Calls of no duration would come by the dozen while Redis is being told.
    set_options(sandbox, error_share=1.0, latency_seconds=0.05)
    clock.push(9 * DAY)
    before = calls(sandbox)

    await work_off(fleet)

    assert 20 <= calls(sandbox) - before <= 3 * fleet.settings.concurrency  # by the next flush
    status = await fleet_status(fleet.store, 100)
    assert (status.barred_by, status.pause_reason) == ("upstream", "upstream_failed")
    assert (status.valid, status.quarantined) == (500, {})
    before = calls(sandbox)
    spaced = [await probe_when_due(fleet, clock, work_off) for _ in range(7)]
    assert spaced == pytest.approx([1, 2, 4, 8, 16, 32, 60], abs=1)
    assert calls(sandbox) - before == 7

    set_options(sandbox, error_share=0.0)
    await probe_when_due(fleet, clock, work_off)
    clock.push(60)  # the longest back-off of those that were called before it opened
    await work_off(fleet)
    assert (await fleet_status(fleet.store, 100)).fresh == 500
    assert await told(fleet) == ["upstream.failing", "upstream.recovered"]


async def test_a_brown_out_does_not_open_it(onboarded, work_off, clock):
    fleet, sandbox = await onboarded(500)
    set_options(sandbox, error_share=0.5)
    clock.push(9 * DAY)
    for _ in range(20):
        await work_off(fleet)
        clock.push(30)
    status = await fleet_status(fleet.store, 100)
    assert (status.fresh, status.barred_by) == (500, "")


async def test_of_many_who_come_when_the_next_probe_is_due_one_may_call(onboarded, clock):
    fleet, sandbox = await onboarded(50)
    set_options(sandbox, error_share=1.0)
    clock.push(9 * DAY)
    store = fleet.store
    await store.scripts.run("weigh", store.now_ms(), 0, 20, "unreachable")

    async def knock():
        return await store.claim(10, 60, fleet.rate, "renew")

    assert not any(claim.probe_for for claim in await asyncio.gather(*(knock() for _ in range(8))))
    clock.push(1)
    claims = await asyncio.gather(*(knock() for _ in range(8)))
    assert [c.probe_for for c in claims if c.probe_for] == [Blame.UPSTREAM]
    assert all(claim.is_barred and not claim.accounts for claim in claims)

    clock.push(14)  # the prober was killed: after its lease, another comes
    assert not (await knock()).probe_for
    clock.push(1.001)
    assert (await knock()).probe_for


async def test_a_partner_token_that_cannot_be_renewed_for_now_is_used_while_it_lives(
    onboarded, work_off, clock
):
    fleet, sandbox = await onboarded(50)
    token = await fleet.exchanger.partner_token.get()
    clock.push((token.expires_ms / 1000 - clock.now) * 0.6)  # due at half its life
    fetch = fleet.exchanger._fetch_partner_token
    tried = []

    async def failing(generation):
        tried.append(generation)
        set_options(sandbox, error_share=1.0)
        try:
            return await fetch(generation)
        finally:
            set_options(sandbox, error_share=0.0)

    fleet.exchanger.partner_token._fetch = failing
    await fleet.runs.open("again", 60, "")
    await fleet.runs.request_all("again")

    assert await work_off(fleet) == 50

    assert len(tried) == 1
    assert (await fleet_status(fleet.store, 100)).barred_by == ""


async def test_while_it_is_open_an_operators_retry_has_it_probed_at_once(
    onboarded, work_off, clock
):
    fleet, sandbox = await onboarded(50)
    set_options(sandbox, revoked="tokens")
    clock.push(9 * DAY)
    for _ in range(4):
        await work_off(fleet)
        await probe_when_due(fleet, clock, work_off)
    set_options(sandbox, revoked="nothing")
    await work_off(fleet)
    assert (await fleet_status(fleet.store, 100)).fresh == 0

    await fleet.runs.open("retry", 60, "")
    await fleet.runs.request("retry", ids(1, 1), is_retry=True)
    await work_off(fleet)

    assert (await fleet_status(fleet.store, 100)).fresh == 50
