"""Runs: who is waited for, how they end, and that the parked step comes back."""

import pytest

from subtokens.tasks.tokens.runs import Runs
from subtokens.tasks.tokens.store import Failure

A, B, C = "T11200001", "T11200002", "T11200003"
RUN = "a-run"


@pytest.fixture
def runs(store):
    return Runs(store)


@pytest.fixture
def start(runs):
    async def start(*accounts, run=RUN, timeout_seconds=60, continuation="the step"):
        await runs.open(run, timeout_seconds, continuation)
        await runs.request(run, accounts)
        return await runs.seal(run)

    return start


@pytest.fixture
def complete_all(claim, store, token):
    async def complete_all():
        claimed = await claim()
        return await store.complete(
            [token(one.account_id, claimed.generation) for one in claimed.accounts]
        )

    return complete_all


async def test_a_run_ends_with_the_completion_of_its_last_account(
    enrol, start, claim, store, token, runs
):
    await enrol(A, B)
    assert not await start(A, B)
    claimed = await claim()

    first = await store.complete([token(A, claimed.generation)])
    last = await store.complete([token(B, claimed.generation)])

    assert first.ended_runs == ()
    assert last.ended_runs == (RUN,)
    summary = await runs.summary(RUN)
    assert (summary.accounts, summary.done, summary.open, summary.ended) == (2, 2, 0, True)


async def test_a_request_makes_accounts_with_a_fresh_token_due(enrol, complete_all, start, claim):
    await enrol(A)
    await complete_all()
    assert not (await claim()).accounts

    await start(A)

    assert [claimed.account_id for claimed in (await claim()).accounts] == [A]


async def test_an_account_that_backs_off_by_its_own_fault_fails_a_run_at_once(
    enrol, claim, store, start, runs, clock
):
    await enrol(A, B)
    generation = (await claim()).generation
    due_ms = int(clock() * 1000) + 600_000
    await store.fail([Failure(A, generation, due_ms, "refused_403", is_final=True)])
    await store.fail([Failure(B, generation, due_ms, "unreachable", is_final=False)])

    await start(A, B)

    summary = await runs.summary(RUN)
    assert (summary.failed, summary.open) == ({"refused_403": 1}, 1)
    assert not (await claim()).accounts  # each back-off is kept
    clock.push(601)
    assert {one.account_id for one in (await claim()).accounts} == {A, B}


async def test_a_retry_asks_for_it_at_once_and_begins_to_count_anew(
    enrol, claim, store, runs, clock
):
    await enrol(A)
    due_ms = int(clock() * 1000) + 600_000
    failure = Failure(A, (await claim()).generation, due_ms, "refused_403", True, 5, True)
    await store.fail([failure])
    await runs.open(RUN, 60, "")

    await runs.request(RUN, [A], is_retry=True)

    (claimed,) = (await claim()).accounts
    assert (claimed.account_id, claimed.past.attempts, claimed.past.repeats) == (A, 0, 0)


async def test_an_account_in_flight_is_attached_but_not_claimed_twice(
    enrol, claim, start, store, token
):
    await enrol(A)
    claimed = await claim()

    await start(A)

    assert not (await claim()).accounts
    settled = await store.complete([token(A, claimed.generation)])
    assert settled.ended_runs == (RUN,)


async def test_one_exchange_settles_every_run_that_waits_for_the_account(
    enrol, start, complete_all, runs
):
    await enrol(A)
    await start(A, run="one")
    await start(A, run="two")

    settled = await complete_all()

    assert set(settled.ended_runs) == {"one", "two"}
    assert (await runs.summary("two")).done == 1


async def test_accounts_that_are_not_enrolled_fail_at_once_with_that_reason(start, runs):
    assert await start(A)

    assert (await runs.summary(RUN)).failed == {"not_enrolled": 1}


async def test_a_final_failure_settles_and_another_does_not(
    enrol, start, claim, store, runs, clock
):
    await enrol(A, B)
    await start(A, B)
    generation = (await claim()).generation
    due_ms = int((clock() + 5) * 1000)

    await store.fail(
        [
            Failure(A, generation, due_ms, "refused", is_final=True),
            Failure(B, generation, due_ms, "unreachable", is_final=False),
        ]
    )

    summary = await runs.summary(RUN)
    assert (summary.failed, summary.open, summary.ended) == ({"refused": 1}, 1, False)


async def test_forgetting_an_account_settles_the_runs_that_wait_for_it(enrol, start, store, runs):
    await enrol(A)
    await start(A)

    settled = await store.forget([A])

    assert settled.ended_runs == (RUN,)
    assert (await runs.summary(RUN)).failed == {"forgotten": 1}


async def test_a_run_past_its_deadline_ends_with_what_is_open_as_late(
    enrol, start, runs, clock, complete_all
):
    await enrol(A)
    await start(A, timeout_seconds=60)
    clock.push(59)
    assert await runs.ripe() == []

    clock.push(2)

    assert await runs.ripe() == [RUN]
    summary = await runs.summary(RUN)
    assert (summary.open, summary.ended) == (1, True)
    assert "1 late" in str(summary)
    await complete_all()  # what comes later does not change what was reported
    assert await runs.summary(RUN) == summary


async def test_filling_a_run_again_after_a_crash_changes_nothing(enrol, runs, start, complete_all):
    await enrol(A, B)
    assert await runs.open(RUN, 60, "the step") == "opened"
    await runs.request(RUN, [A])
    assert await runs.open(RUN, 60, "the step") == "filling"
    await runs.request(RUN, [A, B])
    await runs.request(RUN, [A, B])
    await complete_all()
    await runs.request(RUN, [A, B])

    assert await runs.seal(RUN)
    summary = await runs.summary(RUN)
    assert (summary.accounts, summary.done) == (2, 2)
    assert await runs.open(RUN, 60, "the step") == "ended"


async def test_a_run_does_not_end_while_it_is_being_filled(enrol, runs, complete_all):
    await enrol(A, B)
    await runs.open(RUN, 60, "the step")
    await runs.request(RUN, [A])

    settled = await complete_all()

    assert settled.ended_runs == ()


async def test_the_parked_step_is_released_once_per_lease_until_it_has_returned(
    enrol, start, complete_all, runs, clock
):
    await enrol(A)
    await start(A)
    assert await runs.begin_release(RUN) is None  # not ended yet
    await complete_all()

    assert await runs.begin_release(RUN) == "the step"
    assert await runs.begin_release(RUN) is None
    clock.push(21)  # whoever released it was killed, or the message was lost
    assert await runs.ripe() == [RUN]
    assert await runs.begin_release(RUN) == "the step"
    assert await runs.resume(RUN, is_redelivered=False)
    await runs.confirm_release(RUN)
    clock.push(1000)
    assert await runs.ripe() == []
    assert await runs.begin_release(RUN) is None


async def test_a_copy_of_the_step_may_not_go_on_but_a_redelivery_may(
    enrol, start, complete_all, runs
):
    await enrol(A)
    await start(A)
    await complete_all()

    assert await runs.resume(RUN, is_redelivered=False)
    assert not await runs.resume(RUN, is_redelivered=False)
    assert await runs.resume(RUN, is_redelivered=True)  # its first worker was killed
    await runs.confirm_release(RUN)
    assert not await runs.resume(RUN, is_redelivered=True)


async def test_everything_about_a_run_goes_away_in_the_end(enrol, start, complete_all, redis):
    await enrol(A, B)
    await start(A, B, C)
    await complete_all()

    lifetimes = [await redis.ttl(key) async for key in redis.scan_iter("*:run:*")]

    assert len(lifetimes) == 4  # meta, done, failed:not_enrolled, reasons
    assert all(0 < lifetime <= 48 * 3600 for lifetime in lifetimes)


async def test_a_run_whose_filling_came_to_a_halt_is_taken_up_by_another(enrol, runs, clock):
    await enrol(A, B)
    await runs.open(RUN, 60, "the step")
    await runs.request(RUN, [A])
    clock.push(4)
    await runs.request(RUN, [A])  # whoever fills it is alive
    clock.push(4)
    assert await runs.ripe() == []
    clock.push(2)

    assert await runs.ripe() == [RUN]
    assert await runs.begin_release(RUN) == "the step"

    assert not (await runs.summary(RUN)).ended
    assert await runs.open(RUN, 60, "the step") == "filling"


async def test_a_run_that_was_never_filled_to_its_end_does_not_pass_for_whole(
    enrol, complete_all, runs, clock
):
    await enrol(A, B)
    await runs.open(RUN, 60, "the step")
    await runs.request(RUN, [A])
    await complete_all()
    clock.push(61)

    assert await runs.ripe() == [RUN]

    summary = await runs.summary(RUN)
    assert (summary.done, summary.ended) == (1, True)
    assert not summary.meets(0.1)
    assert "before all accounts were looked at" in str(summary)


async def test_a_run_that_learns_is_reopened_once_and_not_after_its_deadline(
    enrol, complete_all, runs, clock
):
    await enrol(A, B)
    await runs.open(RUN, 60, "the step")
    await runs.request(RUN, [A])
    await runs.seal(RUN, is_learning=True)
    settled = await complete_all()
    assert settled.ended_runs == (RUN,)
    assert await runs.learning(RUN) == "now"

    assert await runs.reopen(RUN)
    assert not await runs.reopen(RUN)

    assert await runs.learning(RUN) == "done"
    assert await runs.open(RUN, 60, "the step") == "filling"
    await runs.open("late", 60, "")
    await runs.seal("late", is_learning=True)
    clock.push(61)
    assert not await runs.reopen("late")
