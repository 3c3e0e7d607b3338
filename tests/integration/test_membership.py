"""Membership: who is gone, and who only seems to be, by the sandbox's own list."""

import asyncio

import pytest
from celery import Celery

from subtokens.tasks import accounts, look
from subtokens.tasks.accounts import discover_accounts
from subtokens.tasks.dintero.errors import DinteroError, ThrottledError
from subtokens.tasks.tokens.membership import is_too_many
from subtokens.tasks.tokens.tickets import Tickets


def ids(first, count):
    return [f"T112{n:05d}" for n in range(first, first + count)]


@pytest.fixture
def listing(clock):
    """One complete discovery; the next begins later than this one ends."""
    app = Celery(set_as_current=False)

    async def listing(fleet, **options):
        clock.push(60)
        found = await discover_accounts(fleet, app, **options)
        clock.push(60)
        return found

    return listing


async def enrolled(fleet):
    return sorted([account async for page in fleet.store.enrolled() for account in page])


async def test_new_accounts_are_enrolled_and_two_listings_without_one_drop_it(fleet_at, listing):
    fleet, sandbox = await fleet_at(accounts=120)
    sandbox.accounts.hide(ids(101, 20))
    assert (await listing(fleet)).enrolled == 100
    sandbox.accounts.show(ids(101, 20))
    assert (await listing(fleet)).enrolled == 20
    sandbox.accounts.hide(ids(1, 3))

    assert (await listing(fleet)).gone == 0
    assert (await listing(fleet)).gone == 3

    assert await enrolled(fleet) == ids(4, 117)
    sandbox.accounts.show(ids(1, 3))
    assert (await listing(fleet)).enrolled == 3  # gone is not forgotten


async def test_an_account_that_is_seen_again_in_between_is_not_gone(fleet_at, listing):
    fleet, sandbox = await fleet_at(accounts=30)
    await listing(fleet)
    for _ in range(3):
        sandbox.accounts.hide(ids(1, 1))
        assert (await listing(fleet)).gone == 0
        sandbox.accounts.show(ids(1, 1))
        assert (await listing(fleet)).gone == 0


@pytest.mark.parametrize("change", ["close", "delete"])
async def test_inactive_and_deleted_count_as_missing(fleet_at, listing, change):
    fleet, sandbox = await fleet_at(accounts=30)
    await listing(fleet)
    getattr(sandbox.accounts, change)(ids(5, 1))

    assert [(await listing(fleet)).gone for _ in range(2)] == [0, 1]
    assert ids(5, 1)[0] not in await enrolled(fleet)


async def test_an_imported_account_is_never_dropped_by_discovery(fleet_at, listing):
    fleet, sandbox = await fleet_at(accounts=30)
    await fleet.store.enrol([(ids(1, 1)[0], "")], "imported")
    await listing(fleet)
    await fleet.store.enrol([(ids(2, 1)[0], "")], "imported")  # after it was discovered
    sandbox.accounts.hide(ids(1, 3))

    assert [(await listing(fleet)).gone for _ in range(3)] == [0, 1, 0]
    assert await enrolled(fleet) == [*ids(1, 2), *ids(4, 27)]


async def test_forgotten_holds_against_discovery_until_it_is_imported(fleet_at, listing):
    fleet, _ = await fleet_at(accounts=30)
    await listing(fleet)
    await fleet.store.forget(ids(1, 1))

    assert (await listing(fleet)).enrolled == 0
    await fleet.store.enrol([(ids(1, 1)[0], "")], "imported")
    assert ids(1, 1)[0] in await enrolled(fleet)


async def test_too_many_at_once_wait_for_an_operator(fleet_at, listing):
    fleet, sandbox = await fleet_at(accounts=200)
    await listing(fleet)
    sandbox.accounts.hide(ids(1, 11))

    first, second, third = [await listing(fleet) for _ in range(3)]

    assert (first.held_back, second.held_back, third.held_back) == (0, 11, 11)
    assert len(await enrolled(fleet)) == 200
    dropped = await listing(fleet, drop_missing=True)
    assert (dropped.gone, dropped.held_back) == (11, 0)
    assert await enrolled(fleet) == ids(12, 189)


@pytest.mark.parametrize(
    ("gone", "members", "too_many"),
    [
        (10, 20, False),
        (11, 200, True),
        (11, 220, False),
        (5000, 100_000, False),
        (5001, 100_000, True),
    ],
)
def test_more_than_ten_and_more_than_a_twentieth_are_too_many(gone, members, too_many):
    assert is_too_many(gone, members) is too_many


async def test_a_listing_that_breaks_off_drops_nobody(fleet_at, listing):
    fleet, sandbox = await fleet_at(accounts=250)
    await listing(fleet)
    sandbox.accounts.hide(ids(1, 2))
    await listing(fleet)
    page = sandbox.accounts.page
    sandbox.accounts.page = lambda limit, after: page(limit, after) if after is None else None

    with pytest.raises(DinteroError):
        await listing(fleet)

    assert len(await enrolled(fleet)) == 250


async def test_a_listing_that_overlaps_with_another_is_no_second_witness(fleet_at, listing, clock):
    fleet, sandbox = await fleet_at(accounts=30)
    await listing(fleet)
    sandbox.accounts.hide(ids(1, 1))
    listed = sandbox.accounts.page

    async def overlap():
        clock.push(5)
        return await discover_accounts(fleet, Celery(set_as_current=False))

    fetch, inner = fleet.client.list_accounts, []

    async def fetch_with_another_in_between(*arguments):
        if not inner:
            inner.append(None)
            inner.append(await overlap())
            clock.push(5)
        return await fetch(*arguments)

    fleet.client.list_accounts = fetch_with_another_in_between
    outer = await discover_accounts(fleet, Celery(set_as_current=False))

    assert (inner[1].gone, outer.gone) == (0, 0)
    assert listed is not None
    assert (await listing(fleet)).gone == 1


async def test_the_sweep_claims_discovery_once_an_hour_however_many_sweeps_there_are(
    fleet_at, listing, clock
):
    fleet, _ = await fleet_at(accounts=30)
    sweepers = [Tickets(fleet.store, 10, 50) for _ in range(2)]

    async def claimed_in(seconds):
        claims = []
        for second in range(seconds):
            clock.push(1)
            looks = [await s.look(is_sweep=True, discovery_lease_seconds=600) for s in sweepers]
            claims += [second for outlook in looks if outlook.is_discovery_due]
        return claims

    assert await claimed_in(599) == [0]  # claimed by the first, once
    assert await claimed_in(10) == [1]  # nobody did it: it is due again when the lease is over
    await discover_accounts(fleet, Celery(set_as_current=False))
    assert await claimed_in(3_599) == []
    assert await claimed_in(5) == [0]
    looks = [await s.look(discovery_lease_seconds=600) for s in sweepers]
    assert not any(outlook.is_discovery_due for outlook in looks)


async def test_a_discovery_that_was_cut_short_is_sent_again_within_a_minute(fleet_at, clock):
    fleet, _ = await fleet_at(accounts=30, error_share=1.0)
    lease = look.DISCOVERY_LEASE_SECONDS

    async def is_due():
        outlook = await fleet.tickets.look(is_sweep=True, discovery_lease_seconds=lease)
        return outlook.is_discovery_due

    assert await is_due()
    with pytest.raises(DinteroError):
        await discover_accounts(fleet, Celery(set_as_current=False))
    assert not await is_due()
    clock.push(61)
    assert await is_due()


async def test_a_discovery_that_goes_on_is_not_sent_again(fleet_at, clock, monkeypatch):
    monkeypatch.setattr(accounts, "_HELD_EVERY_SECONDS", 0.01)
    fleet, _ = await fleet_at(accounts=30)
    redis, key = fleet.store.redis, fleet.store.keys.fleet
    fetch, seen = fleet.client.list_accounts, []

    async def is_due():
        outlook = await fleet.tickets.look(is_sweep=True, discovery_lease_seconds=60)
        return outlook.is_discovery_due

    async def fetch_for_ten_minutes(*arguments):
        for _ in range(11):
            before = await redis.hget(key, "discovery_due_at")
            clock.push(55)
            async with asyncio.timeout(5):
                while await redis.hget(key, "discovery_due_at") == before:
                    await asyncio.sleep(0.01)
            seen.append(await is_due())
        return await fetch(*arguments)

    fleet.client.list_accounts = fetch_for_ten_minutes
    assert await is_due()
    await discover_accounts(fleet, Celery(set_as_current=False))
    assert seen == [False] * 11


async def test_a_discovery_holds_no_slot_for_as_long_as_a_pause_lasts(fleet_at, monkeypatch):
    fleet, sandbox = await fleet_at(accounts=3)
    monkeypatch.setattr(accounts, "PAGE_SECONDS", 0.2)
    await fleet.exchanger.partner_token.get()
    await fleet.limiters["renew"].pause(3600, "answered 429")

    async with asyncio.timeout(5):
        with pytest.raises(DinteroError, match="accounts: no page within"):
            await discover_accounts(fleet, Celery(set_as_current=False))

    assert sum(sandbox.calls.stats(0)["calls"].values()) == 1


async def test_a_429_to_the_listing_lets_nobody_call_for_as_long_as_it_says(fleet_at, monkeypatch):
    fleet, _ = await fleet_at(accounts=3)
    monkeypatch.setattr(accounts, "PAGE_SECONDS", 0.5)

    async def throttled(*_):
        raise ThrottledError("accounts", "answered 429", status=429, retry_after_seconds=300)

    monkeypatch.setattr(fleet.client, "list_accounts", throttled)
    with pytest.raises(DinteroError):
        await discover_accounts(fleet, Celery(set_as_current=False))

    await fleet.store.enrol([(one, "") for one in ids(1, 3)], "imported")
    claim = await fleet.store.claim(3, 60, fleet.rate, "exchange")
    assert claim.accounts == ()
    assert 200 < claim.schedule.wait_seconds <= 300
