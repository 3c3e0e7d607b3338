"""`subtokens.ensure` and `.for_each_account` as steps of canvases, without beat."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, chain, chord, group

import subtokens

from .conftest import (
    DEADLINE_SECONDS,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    forget_results,
    sending_by,
)
from .test_canvas import alone, get, step

pytestmark = [
    pytest.mark.usefixtures("app"),
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),  # by Celery
]
HOUR = 3600
ACCOUNTS, INACTIVE = account_ids(1, 200), account_ids(191, 10)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(accounts=200, inactive=10) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def site(
    redis_server: object, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A worker of its own for sweeps and renewals, one for the rest; nothing was exchanged yet."""
    folder = tmp_path_factory.mktemp("ensure") / "here"
    with Site(folder, upstream.base_url, discovery_interval_seconds=0) as site:
        await_ready(site.worker("worker", "--include=probes"))
        site.enrol(ACCOUNTS)
        with sending_by(site.app):
            subtokens.fan_out.si(policy=0.9).apply_async().get(timeout=DEADLINE_SECONDS)
        yield site


def ensure(**arguments: Any) -> Any:
    return subtokens.ensure.si(**{"valid_for": "2h"} | arguments)


def make_short(site: Site, accounts: list[str], seconds: float) -> None:
    """Let the store take these tokens for ones that end so soon."""
    site.store.zadd(site.keys.expiry, dict.fromkeys(accounts, int((time.time() + seconds) * 1000)))


def test_before_any_token_is_known_one_batch_tells_how_long_they_live(
    new_site: Callable[..., Site],
) -> None:
    with Upstream(accounts=200) as upstream:
        site = new_site(upstream.base_url, discovery_interval_seconds=0)
        site.enrol(ACCOUNTS)
        site.store.zadd(site.keys.due, dict.fromkeys(ACCOUNTS, 2e12))  # not by themselves
        await_ready(site.worker("worker"))
        with sending_by(site.app):
            refused = ensure(valid_for="5h").apply_async()
            with pytest.raises(
                subtokens.InputError, match="tokens live 14400 s, and 200 exchanges"
            ):
                get(refused)
            assert len(upstream.calls_of(ACCOUNTS)) == 100  # a batch
            assert get(ensure().apply_async())["valid"] == 200
        assert sorted(call.account for call in upstream.calls_of(ACCOUNTS)) == ACCOUNTS
        site.store.flushdb()
        site.enrol(ACCOUNTS)
        site.store.zadd(site.keys.due, dict.fromkeys(ACCOUNTS, 2e12))
        with sending_by(site.app):  # both stages in one run
            assert get(ensure().apply_async())["done"] == 200


def test_only_those_that_would_not_last_are_exchanged_and_each_once(
    site: Site, upstream: Upstream
) -> None:
    summary = get(ensure(policy=0.9).apply_async())
    assert (summary["accounts"], summary["valid"]) == (200, 190)
    assert (summary["failed"], summary["open"]) == ({"refused_403": 10}, 0)
    site.let_failing_rest()
    before = upstream.last()
    make_short(site, ACCOUNTS[:7], 1.9 * HOUR)
    summary = get(ensure(policy=0.9).apply_async())
    assert (summary["accounts"], summary["valid"]) == (200, 190)
    assert sorted(call.account for call in upstream.calls_of(ACCOUNTS, before)) == ACCOUNTS[:7]


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_it_stands_in_every_place_of_a_chain(site: Site, upstream: Upstream, place: str) -> None:
    site.let_failing_rest()
    chosen, before = account_ids(20, 5), upstream.last()
    make_short(site, chosen[:2], 60)
    mine = ensure(account_ids=chosen)
    steps = {
        "first": [mine, step("echo")],
        "middle": [alone("echo", "before"), mine, step("echo")],
        "last": [alone("echo", chosen), subtokens.ensure.s(valid_for=2 * HOUR)],
    }[place]
    summary = get(chain(*steps).apply_async())
    assert (summary["accounts"], summary["valid"], summary["done"]) == (5, 5, 2)
    assert sorted(call.account for call in upstream.calls_of(chosen, before)) == chosen[:2]


def test_it_stands_in_groups_and_on_both_sides_of_chords(site: Site) -> None:
    parts = [account_ids(40 + 5 * number, 5) for number in range(4)]
    make_short(site, parts[0] + parts[2], 60)
    together = group(ensure(account_ids=part) for part in parts[:2])
    assert [found["valid"] for found in get(together.apply_async())] == [5, 5]
    header = [ensure(account_ids=part) for part in parts[2:]]
    assert [found["valid"] for found in get(chord(header)(step("echo")))] == [5, 5]
    body = chord(alone("echo", account) for account in parts[3])(subtokens.ensure.s(valid_for=60))
    assert get(body)["accounts"] == 5


def test_a_policy_that_is_not_met_fails_the_step_with_the_counts_and_nothing_follows(
    site: Site,
) -> None:
    name = uuid4().hex
    steps = chain(ensure(account_ids=INACTIVE[:2] + ACCOUNTS[:2]), alone("note", f"next-{name}"))
    steps.link_error(step("errback", f"errors-{name}"))
    result = steps.apply_async()
    with pytest.raises(subtokens.RunFailedError, match="2 of 4 accounts have a token for 7200 s"):
        get(result.parent)
    assert eventually(lambda: site.broker.llen(f"probe:errors-{name}")) == 1
    assert not site.broker.exists(f"probe:next-{name}")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"valid_for": "two hours"}, "is no duration"),
        ({"valid_for": -1}, "is no duration"),
        ({"selection": "never-stored"}, "there is no selection"),
        ({"selection": "a b"}, "is no name"),
        ({"selection": "one", "account_ids": ACCOUNTS[:1]}, "one of the two"),
        ({"valid_for": "3h59m59s"}, "the largest valid_for that fits is"),
        ({"valid_for": "5h"}, "tokens live 14400 s"),
    ],
)
def test_what_cannot_be_is_refused_at_once_and_no_call_is_spent(
    upstream: Upstream, site: Site, arguments: dict[str, Any], text: str
) -> None:
    before, began = upstream.last(), time.monotonic()
    with pytest.raises(subtokens.InputError) as refused:
        get(ensure(**arguments).apply_async())
    assert text in str(refused.value)
    assert time.monotonic() - began < 5
    assert not upstream.calls_of(ACCOUNTS[:190], before)
    eventually(lambda: not site.store.zcard(site.keys.runs))


def test_it_works_by_name_alone_from_another_app(site: Site) -> None:
    other = Celery("other", broker=site.broker_url, backend=site.broker_url)
    arguments = {"valid_for": "1h", "account_ids": ACCOUNTS[:3]}
    sent = other.send_task("subtokens.ensure", kwargs=arguments, queue="subtokens.sweep")
    assert sent.get(timeout=DEADLINE_SECONDS)["valid"] == 3
    forget_results(other)


def test_a_timedelta_is_taken_as_it_is_written(site: Site) -> None:
    two_hours = timedelta(hours=2)
    steps = chain(alone("echo", ACCOUNTS[:2]), subtokens.ensure.s(valid_for=two_hours))
    assert get(steps.apply_async())["valid_for_seconds"] == 7200
    sent = subtokens.ensure.apply_async(kwargs={"valid_for": two_hours, "policy": 0.9})
    assert get(sent)["valid_for_seconds"] == 7200


def test_an_error_is_caught_by_its_name_by_who_merely_imports_the_package(site: Site) -> None:
    code = """
import subtokens
from celery import Celery
import os, sys
url = os.environ["SUBTOKENS_BROKER_URL"]
app = Celery("sender", broker=url, backend=url)
wanted = {"valid_for": "1h", "account_ids": ["T11200195"]}
sent = app.send_task("subtokens.ensure", kwargs=wanted, queue="subtokens.sweep")
try:
    sent.get(timeout=30)
except subtokens.RunFailedError as error:
    print(error.summary["accounts"])
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=site.whole_environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stdout == "1\n", told.stderr


def test_a_fleet_of_nobody_is_no_success(new_site: Callable[..., Site], upstream: Upstream) -> None:
    site = new_site(upstream.base_url, discovery_interval_seconds=0)
    await_ready(site.worker("worker"))
    with sending_by(site.app):
        for step_of_all in (ensure(), subtokens.fan_out.si()):
            with pytest.raises(subtokens.RunFailedError, match="no account is enrolled"):
                get(step_of_all.apply_async())
        assert get(ensure(account_ids=[]).apply_async())["accounts"] == 0


def test_a_stored_selection_takes_the_place_of_many_ids(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    assert subtokens.save_selection("nightly", ACCOUNTS[:30]) == 30
    assert subtokens.save_selection("nightly", ACCOUNTS[:20]) == 20
    assert get(ensure(selection="nightly").apply_async())["accounts"] == 20
    assert get(subtokens.fan_out.si(selection="nightly").apply_async())["done"] == 20


# The user's own task for each account


def tasks_of(site: Site, name: str) -> list[str]:
    return [entry.decode() for entry in site.broker.lrange(f"probe:{name}", 0, -1)]


def test_a_users_task_runs_once_for_each_ready_account_and_the_next_step_gets_the_counts(
    site: Site,
) -> None:
    name = uuid4().hex
    steps = chain(
        ensure(account_ids=ACCOUNTS[:60]),
        subtokens.for_each_account.si(step("settle", name), account_ids=ACCOUNTS[:60], at_once=8),
        step("echo"),
    )
    summary = get(steps.apply_async())
    assert (summary["accounts"], summary["done"], summary["failed"]) == (60, 60, {})
    assert sorted(tasks_of(site, name)) == ACCOUNTS[:60]
    assert int(site.broker.get(f"probe:most:{name}") or 0) <= 8


def test_accounts_without_a_token_and_tasks_that_fail_are_counted_by_the_reason(
    site: Site,
) -> None:
    name = uuid4().hex
    chosen = ACCOUNTS[:6] + INACTIVE[:2]
    work = subtokens.for_each_account.si(
        step("settle", name, ACCOUNTS[3]), account_ids=chosen, policy=0.6
    )
    summary = get(work.apply_async())
    assert (summary["done"], summary["failed"]) == (5, {"no_token": 2, "failed": 1})
    strict = chain(alone("echo", chosen), subtokens.for_each_account.s(step("settle", name)))
    with pytest.raises(subtokens.RunFailedError, match="6 of 8 accounts are done, 2 no_token"):
        get(strict.apply_async())


def test_waves_go_on_where_a_worker_was_killed_between_taking_and_sending_one(
    site: Site,
) -> None:
    name = uuid4().hex
    taken = """
    local run = KEYS[1]
    for _ = 1, 3 do
      redis.call('ZADD', run .. ':sending', 0, redis.call('LPOP', run .. ':todo'))
    end"""
    with sending_by(site.app):
        work = subtokens.for_each_account.si(
            step("settle", name, "", 0.2), account_ids=ACCOUNTS[:30], at_once=2
        )
        result = work.apply_async()
        run = site.keys.run(result.id)
        eventually(lambda: int(site.store.llen(f"{run}:todo")) in range(10, 28))
        site.store.eval(taken, 1, run)
        assert get(result)["done"] == 30
    assert sorted(set(tasks_of(site, name))) == ACCOUNTS[:30]


def test_the_message_for_a_hundred_thousand_accounts_is_small(
    new_site: Callable[..., Site], upstream: Upstream
) -> None:
    site = new_site(upstream.base_url)
    with sending_by(site.app):
        ensure(selection="all-of-them").apply_async()
        (message,) = site.broker.lrange("subtokens.sweep", 0, -1)
    assert len(message) < 2_000
    assert json.loads(message)["headers"]["task"] == "subtokens.ensure"


def test_a_signature_that_is_none_is_refused(site: Site) -> None:
    with pytest.raises(subtokens.InputError, match="no task's signature"):
        get(subtokens.for_each_account.si("settle").apply_async())
