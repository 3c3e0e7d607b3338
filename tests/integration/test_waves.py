"""The waves of a run: a message of the user's for each account, sent once where nothing fails."""

import asyncio
import json

import pytest

from subtokens.tasks import waves

RUN = "a-run"


@pytest.fixture
def run_of(fleet_of):
    """A run of waves over so many accounts; returns its fleet."""

    async def run_of(accounts, at_once):
        fleet = fleet_of(112)
        await fleet.runs.open(RUN, 3600, "the step")
        message = {"task": "settle", "args": [], "kwargs": {}, "options": {}}
        await fleet.runs.keep_message(RUN, json.dumps(message), at_once)
        await fleet.runs.enlist(RUN, [f"T112{n:05d}" for n in range(1, accounts + 1)])
        await fleet.runs.seal(RUN)
        return fleet

    return run_of


@pytest.mark.parametrize(("at_once", "expected"), [(100, 100), (200, 200), (5000, 5000)])
async def test_a_wave_that_takes_long_to_send_is_not_sent_again_by_another_look_meanwhile(
    run_of, monkeypatch, clock, at_once, expected
):
    fleet, loop = await run_of(6000, at_once), asyncio.get_running_loop()
    sent, again = [], []

    def publish(_app, _partner_id, _run_id, _message, accounts):
        sent.extend(accounts)
        clock.push(0.002 * len(accounts))  # as measured, with the broker beside it
        lapsed = fleet.store.redis.zcount(fleet.store.keys.run(RUN, "sending"), 0, clock() * 1000)
        again.append(asyncio.run_coroutine_threadsafe(lapsed, loop).result(5))

    monkeypatch.setattr(waves, "_publish", publish)

    await waves.send_wave(fleet, None, RUN)

    assert again
    assert set(again) == {0}
    assert len(sent) == len(set(sent)) == expected
    await waves.send_wave(fleet, None, RUN)
    assert len(sent) == expected


async def test_the_next_wave_is_sent_once_half_of_the_one_before_is_done(run_of, monkeypatch):
    fleet, sent = await run_of(6000, 1000), []
    monkeypatch.setattr(waves, "_publish", lambda *arguments: sent.extend(arguments[-1]))
    await waves.send_wave(fleet, None, RUN)
    assert len(sent) == 1000
    for account in sent[:499]:
        await fleet.runs.account_done(RUN, account, "")
    await waves.send_wave(fleet, None, RUN)
    assert len(sent) == 1000

    await fleet.runs.account_done(RUN, sent[499], "")
    await waves.send_wave(fleet, None, RUN)

    assert len(set(sent)) == len(sent) == 1500
