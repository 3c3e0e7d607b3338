"""Failing accounts: the spacing of calls as the sandbox received them, quarantine, and its end."""

from collections import defaultdict
from itertools import pairwise

import pytest

from subtokens.tasks.tokens.blame import QUARANTINED_SECONDS
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.status import fleet_status

DAY = 86_400
LATE = 2.0  # seconds of the real clock that work may take here, beside the pushed one


def ids(first, count):
    return [f"T112{n:05d}" for n in range(first, first + count)]


@pytest.fixture
def calls_at(work_off, push_to_next, clock):
    """Works for so long, always at the next due instant; returns calls by account, in seconds."""

    async def calls_at(fleet, sandbox, seconds):
        ends_at = clock.now + seconds
        while clock.now < ends_at:
            await work_off(fleet)
            await push_to_next(fleet)
        found = defaultdict(list)
        for _, at, kind, account, _ in sandbox.calls.rows():
            if kind == "exchange":
                found[account].append(at)
        return found

    return calls_at


@pytest.mark.faults  # of weeks, call by call
async def test_a_refused_account_is_called_at_ever_wider_spacing_and_then_once_a_day(
    fleet_at, calls_at
):
    fleet, sandbox = await fleet_at(accounts=60, lifetime_seconds=10 * DAY)
    await fleet.store.enrol([(account, "") for account in ids(1, 60)], "imported")
    sandbox.accounts.close(ids(1, 60))

    calls = await calls_at(fleet, sandbox, 3 * DAY)

    gaps = [[after - before for before, after in pairwise(calls[a])] for a in ids(1, 60)]
    for number in range(4):  # five calls in a row, and then quarantine
        spaced = [gap[number] for gap in gaps]
        longest = 30 * 2**number
        assert all(2.99 <= gap <= longest + LATE for gap in spaced)
        assert max(spaced) > longest * 0.8  # full jitter: over the whole width
        assert min(spaced) < longest * 0.2
    for gap in gaps:
        assert len(gap) >= 6
        for later in gap[4:]:
            assert QUARANTINED_SECONDS / 2 <= later <= QUARANTINED_SECONDS + LATE
    status = await fleet_status(fleet.store, 100)
    assert status.quarantined == {"refused_403": 60}
    assert (status.failing, status.never_exchanged) == (60, 0)


async def test_errors_of_the_upstream_are_spaced_ever_wider_and_never_quarantined(
    fleet_at, calls_at
):
    """For so few accounts that they do not open the circuit, which would space them otherwise."""
    fleet, sandbox = await fleet_at(accounts=2, error_share=1.0)
    sandbox.options = sandbox.options.model_copy(update={"error_share": 0.0})
    await fleet.exchanger.partner_token.get()
    sandbox.options = sandbox.options.model_copy(update={"error_share": 1.0})
    await fleet.store.enrol([(account, "") for account in ids(1, 2)], "imported")

    calls = await calls_at(fleet, sandbox, 1800)

    for account in ids(1, 2):
        gaps = [after - before for before, after in pairwise(calls[account])]
        assert len(gaps) > 20  # about one in half a minute, in the end
        for number, gap in enumerate(gaps):
            assert 0.099 <= gap <= min(60, 2**number) + LATE
    status = await fleet_status(fleet.store, 100)
    assert (status.quarantined, status.failing) == ({}, 2)


async def test_a_valid_token_is_served_meanwhile_and_a_retry_ends_the_quarantine_at_once(
    fleet_at, calls_at, work_off, settings, clock
):
    fleet, sandbox = await fleet_at(accounts=30, lifetime_seconds=10 * DAY)
    await fleet.store.enrol([(account, "") for account in ids(1, 30)], "imported")
    await work_off(fleet)
    sandbox.accounts.close(ids(1, 1))
    clock.push(8 * DAY)  # the window has closed: all are due
    await calls_at(fleet, sandbox, 7200)
    reader = TokenReader(settings, clock=clock)

    status = await fleet_status(fleet.store, 100)
    assert (status.quarantined, status.valid, status.expired) == ({"refused_403": 1}, 30, 0)
    assert reader.get(ids(1, 1)[0]).lasts(DAY, clock())

    sandbox.accounts.open(ids(1, 1))
    await fleet.runs.open("retry", 60, "")
    await fleet.runs.request("retry", ids(1, 1), is_retry=True)
    await fleet.runs.seal("retry")
    assert await work_off(fleet) == 1

    assert (await fleet.runs.summary("retry")).done == 1
    status = await fleet_status(fleet.store, 100)
    assert (status.quarantined, status.valid, status.failing) == ({}, 30, 0)
    events = await fleet.store.redis.xrange(fleet.store.keys.events)
    told = [fields[b"event"] for _, fields in events if fields.get(b"account") == b"T11200001"]
    assert told == [b"account.quarantined", b"account.recovered"]
    reader.close()


async def test_quarantined_time_is_counted_apart(fleet_at, calls_at, work_off, clock):
    fleet, sandbox = await fleet_at(accounts=2, lifetime_seconds=3600)
    await fleet.store.enrol([(account, "") for account in ids(1, 2)], "imported")
    await work_off(fleet)
    sandbox.accounts.close(ids(1, 1))
    await calls_at(fleet, sandbox, 3 * DAY)

    status = await fleet_status(fleet.store, 100)

    assert status.quarantined == {"refused_403": 1}
    assert status.quarantined_seconds > DAY
    assert status.uncovered_seconds < 3600  # of the time between its expiry and its quarantine
    assert (status.valid, status.expired) == (1, 0)
