"""Our steps in canvases of our own app: `celery -A subtokens.workers worker`, without beat."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from celery import chain, chord, group
from celery.canvas import Signature
from celery.result import AsyncResult

import subtokens
from subtokens.tasks.errors import NotAWorkerError

from .conftest import (
    DEADLINE_SECONDS,
    PARTNER,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    sending_by,
)

pytestmark = [
    pytest.mark.usefixtures("app"),
    # What Celery 5.6 still calls to note a chord's size, redis 8 would have called otherwise.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),  # by Celery
]
INACTIVE = account_ids(391, 10)


def step(name: str, *arguments: Any) -> Any:
    """A user's step, by its name; its module is on the worker's side."""
    return Signature(f"probe.{name}", args=arguments, options={"queue": "subtokens.exchange"})


def alone(name: str, *arguments: Any) -> Any:
    """A user's step that takes nothing from the step before."""
    signature = step(name, *arguments)
    signature["immutable"] = True
    return signature


def get(result: AsyncResult) -> Any:
    return result.get(timeout=DEADLINE_SECONDS)


def whole(accounts: list[str]) -> dict[str, Any]:
    """What the summary of a run says if every account got its token, but for its id."""
    return {
        "partner_id": PARTNER,
        "accounts": len(accounts),
        "done": len(accounts),
        "failed": {},
        "open": 0,
        "ended": True,
    }


def without_id(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name != "run_id"}


# Where a step may stand


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_fan_out_works_in_every_place_of_a_chain(
    site: Site, upstream: Upstream, place: str
) -> None:
    accounts = account_ids(1, 20)
    before = upstream.last()
    fan_out = subtokens.fan_out.si(account_ids=accounts)
    steps = {
        "first": [fan_out, step("echo")],
        "middle": [alone("echo", "before"), fan_out, step("echo")],
        "last": [alone("echo", "before"), fan_out],
    }[place]
    summary = get(chain(*steps).apply_async())
    assert without_id(summary) == whole(accounts)
    assert sorted(call.account for call in upstream.calls_of(accounts, before)) == accounts


def test_a_fan_out_takes_its_ids_from_the_step_before(upstream: Upstream) -> None:
    accounts, before = account_ids(21, 5), upstream.last()
    summary = get(chain(alone("echo", accounts), subtokens.fan_out.s()).apply_async())
    assert without_id(summary) == whole(accounts)
    assert sorted(call.account for call in upstream.calls_of(accounts, before)) == accounts


def test_a_fan_out_of_no_ids_takes_every_enrolled_account(site: Site) -> None:
    accounts = site.store.zcard(site.keys.due)
    summary = get(subtokens.fan_out.si(policy=0.9).apply_async())
    assert summary["accounts"] == accounts
    assert summary["failed"] == {"refused_403": len(INACTIVE)}


def test_discovery_exchange_and_fan_out_stand_in_one_chain(upstream: Upstream) -> None:
    one, others = account_ids(30, 1), account_ids(31, 4)
    before = upstream.last()
    steps = chain(
        subtokens.discover.si(),
        subtokens.exchange.si(one[0]),
        subtokens.fan_out.si(account_ids=others),
        step("echo"),
    )
    assert without_id(get(steps.apply_async())) == whole(others)
    assert sorted(call.account for call in upstream.calls_of(one + others, before)) == one + others


def test_fan_outs_are_members_of_a_chords_header() -> None:
    first, second = account_ids(41, 5), account_ids(46, 7)
    header = [
        subtokens.fan_out.si(account_ids=first),
        subtokens.fan_out.si(account_ids=second),
        alone("echo", "another"),
    ]
    one, other, echoed = get(chord(header)(step("echo")))
    assert (without_id(one), without_id(other)) == (whole(first), whole(second))
    assert echoed == "another"


def test_a_fan_out_is_a_chords_body_and_takes_what_its_header_found() -> None:
    accounts = account_ids(55, 3)
    found = chord(alone("echo", account_id) for account_id in accounts)(subtokens.fan_out.s())
    assert without_id(get(found)) == whole(accounts)


def test_a_chain_that_begins_with_a_fan_out_is_a_chords_body() -> None:
    accounts = account_ids(60, 3)
    body = chain(subtokens.fan_out.si(account_ids=accounts), step("echo"))
    header = [alone("echo", 1), subtokens.fan_out.si(account_ids=accounts)]
    assert without_id(get(chord(header)(body))) == whole(accounts)


def test_a_group_of_fan_outs_gives_every_summary() -> None:
    parts = [account_ids(70 + 5 * number, 5) for number in range(4)]
    results = group(subtokens.fan_out.si(account_ids=part) for part in parts).apply_async()
    summaries = results.get(timeout=DEADLINE_SECONDS)
    assert [without_id(summary) for summary in summaries] == [whole(part) for part in parts]
    assert len({summary["run_id"] for summary in summaries}) == len(parts)


def test_the_caller_gets_the_summary_under_the_id_it_chose() -> None:
    accounts, task_id = account_ids(90, 2), str(uuid4())
    subtokens.fan_out.si(account_ids=accounts).apply_async(task_id=task_id)
    assert get(AsyncResult(task_id)) == whole(accounts) | {"run_id": task_id}


# Where a run does not meet its policy


def test_a_run_below_its_policy_fails_with_its_counts_and_stops_the_chain(site: Site) -> None:
    accounts, key = account_ids(95, 3) + INACTIVE[:2], uuid4().hex
    canvas = chain(
        subtokens.fan_out.si(account_ids=accounts), alone("note", f"next-{key}")
    ).on_error(step("errback", f"error-{key}"))
    result = canvas.apply_async()
    with pytest.raises(subtokens.RunFailedError) as failed:
        get(result.parent)
    expected = {"accounts": 5, "done": 3, "failed": {"refused_403": 2}, "open": 0, "ended": True}
    assert failed.value.summary == expected | {
        "run_id": result.parent.id,
        "partner_id": PARTNER,
    }
    assert "3 of 5 accounts have their token, 2 refused_403" in str(failed.value)
    (said,) = eventually(lambda: site.broker.lrange(f"probe:error-{key}", 0, -1))
    assert said.startswith(b"RunFailedError: run ")
    assert not site.broker.exists(f"probe:next-{key}")


def test_a_run_that_meets_its_policy_goes_on_in_spite_of_failures() -> None:
    accounts = account_ids(98, 3) + INACTIVE[:1]
    steps = chain(subtokens.fan_out.si(account_ids=accounts, policy=0.75), step("echo"))
    assert get(steps.apply_async())["failed"] == {"refused_403": 1}


def test_a_failing_member_of_a_header_keeps_the_body_from_running(site: Site) -> None:
    key = uuid4().hex
    header = [
        subtokens.fan_out.si(account_ids=account_ids(101, 2)),
        subtokens.fan_out.si(account_ids=INACTIVE[2:4]),
    ]
    body = step("note", f"body-{key}").on_error(step("errback", f"error-{key}"))
    result = chord(header)(body)
    with pytest.raises(Exception, match="0 of 2 accounts have their token, 2 refused_403"):
        get(result)
    eventually(lambda: site.broker.lrange(f"probe:error-{key}", 0, -1))
    assert not site.broker.exists(f"probe:body-{key}")


def test_accounts_that_are_not_enrolled_fail_a_run_at_once(upstream: Upstream) -> None:
    stranger = f"{PARTNER[:4]}99999"
    with pytest.raises(subtokens.RunFailedError, match="1 not_enrolled"):
        get(subtokens.exchange.si(stranger).apply_async())


def test_a_run_whose_upstream_is_down_ends_at_its_deadline_with_the_truth(
    site: Site, upstream: Upstream
) -> None:
    accounts, before = account_ids(110, 4), upstream.last()
    with (
        upstream.troubled(error_share=1.0),
        pytest.raises(subtokens.RunFailedError, match=r"0 of 4 .* 4 late") as failed,
    ):
        get(subtokens.fan_out.si(account_ids=accounts, timeout=1.5).apply_async())
    assert failed.value.summary["open"] == 4
    assert failed.value.summary["ended"] is True
    assert {call.status for call in upstream.calls_of(accounts, before)} == {500}


@pytest.mark.faults  # it takes seconds
def test_a_deadline_holds_although_a_later_look_is_under_way_already(
    new_site: Callable[..., Site],
) -> None:
    stubborn, other = account_ids(1, 1), account_ids(2, 1)
    with Upstream(accounts=2) as upstream:
        site = new_site(upstream.base_url)
        await_ready(site.worker("worker"))
        site.enrol(stubborn + other)
        with sending_by(site.app):
            get(subtokens.fan_out.si().apply_async())
            site.store.hset(site.keys.state(stubborn[0]), "attempts", 16)  # up to 60 s to the next
            site.store.zadd(site.keys.due, {stubborn[0]: -1})  # and its back-off is over
            before = upstream.last()
            with upstream.troubled(error_share=1.0):
                subtokens.fan_out.si(account_ids=stubborn, timeout=60).apply_async()
                eventually(lambda: upstream.calls_of(stubborn, before))
                second = subtokens.fan_out.si(account_ids=other, timeout=1).apply_async()
                with pytest.raises(subtokens.RunFailedError, match="1 late"):
                    second.get(timeout=5)


# While steps wait


def test_more_waiting_steps_than_slots_leave_the_slots_to_others(upstream: Upstream) -> None:
    parts, before = [account_ids(120 + 2 * number, 2) for number in range(10)], upstream.last()
    with upstream.troubled(error_share=1.0):
        waiting = [subtokens.fan_out.si(account_ids=part).apply_async() for part in parts]
        eventually(lambda: all(upstream.calls_of(part, before) for part in parts))
        assert get(alone("echo", "meanwhile").apply_async()) == "meanwhile"
        assert not any(result.ready() for result in waiting)
    assert [without_id(get(result)) for result in waiting] == [whole(part) for part in parts]


def test_a_continuation_that_is_sent_thrice_runs_the_next_step_once(
    site: Site, upstream: Upstream
) -> None:
    key, accounts = uuid4().hex, account_ids(150, 2)
    next_step, last = alone("note", f"next-{key}"), alone("echo", "end")
    with upstream.troubled(error_share=1.0):
        end = chain(subtokens.fan_out.si(account_ids=accounts), next_step, last).apply_async()
        run_id = end.parent.parent.id
        eventually(lambda: site.store.hexists(site.keys.run(run_id), "continuation"))
        parked = site.parked_step(run_id)
        parked.apply_async()
    parked.apply_async()
    assert get(end) == "end"
    parked.apply_async()
    parked.apply_async()
    log = site.log_of("worker")
    copy = f"subtokens.fan_out[{run_id}]"
    # The step itself, four copies, and the release: all but one of them are dropped.
    eventually(lambda: log.read_text().count(f"{copy} ignored") == 5)
    assert site.broker.lrange(f"probe:next-{key}", 0, -1) == [b"ran"]


# Input that cannot be used


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"account_ids": ["T112"]}, "'T112' is not an account id"),
        ({"account_ids": ["P11200160"]}, "different environments"),
        ({"account_ids": [PARTNER]}, "the partner itself"),
        ({"account_ids": account_ids(160, 1) * 5001}, "5001 account ids are too many"),
        ({"account_ids": account_ids(160, 1), "policy": "most"}, "policy 'most'"),
        ({"account_ids": account_ids(160, 1), "policy": 1.5}, "policy 1.5"),
        ({"account_ids": account_ids(160, 1), "timeout": 0}, "timeout 0"),
        ({"account_ids": account_ids(160, 1), "timeout": 90_000}, "timeout 90000"),
        ({"account_ids": account_ids(160, 1), "partner_id": "T11300000"}, "is not configured here"),
        ({"account_ids": "T11200160"}, "a list of account ids"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_bad_input_fails_clearly_before_anything_is_called(
    upstream: Upstream, arguments: dict[str, Any], text: str
) -> None:
    before = upstream.last()
    result = subtokens.fan_out.si(**arguments).apply_async()
    with pytest.raises(subtokens.InputError) as refused:
        get(result)
    assert text in str(refused.value)
    assert not upstream.calls_of(account_ids(160, 1), before)


def test_a_step_that_is_called_in_place_says_how_to_send_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotAWorkerError, match=r"send it with \.delay"):
        subtokens.fan_out(account_ids=account_ids(160, 1))


# Where a worker dies


@pytest.mark.faults  # it takes seconds
def test_a_killed_workers_accounts_are_all_exchanged_by_the_next(
    new_site: Callable[..., Site],
) -> None:
    accounts = account_ids(1, 300)
    with Upstream(accounts=300, latency_seconds=0.05) as upstream:
        site = new_site(
            upstream.base_url,
            rate_limit=300,
            call_timeout_seconds=0.5,
            batch_deadline_seconds=1,
            soft_limit_seconds=2,
            hard_limit_seconds=3,
            lease_seconds=4,
            visibility_timeout_seconds=5,
        )
        site.enrol(accounts)
        with sending_by(site.app):
            doomed = site.worker("doomed", "--include=probes")
            await_ready(doomed)
            result = chain(subtokens.fan_out.si(), step("echo")).apply_async()
            eventually(lambda: len(upstream.calls_of(accounts)) > 60)
            doomed.kill()
            seen = len(upstream.calls_of(accounts))
            assert seen < 300, "it was killed too late to prove anything"
            site.worker("heir", "--include=probes", "--beat")
            assert without_id(get(result)) == whole(accounts)
    assert sorted(site.reader().get_many(accounts)) == accounts
