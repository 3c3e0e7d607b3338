"""The tasks' names and what makes each safe: a contract with canvases and messages under way."""

from typing import Any

import pytest
from celery import Celery

import subtokens
from subtokens.config.queues import QUEUES

SWEEP, RENEW, EXCHANGE, ACCOUNTS = QUEUES

# name: queue, acknowledged late, sent again if its worker is lost, result ignored
TASKS = {
    "subtokens.account_done": (ACCOUNTS, True, True, True),
    "subtokens.discover": (ACCOUNTS, True, None, False),
    "subtokens.ensure": (SWEEP, True, True, False),
    "subtokens.exchange": (SWEEP, True, True, False),
    "subtokens.fan_out": (SWEEP, True, True, False),
    "subtokens.for_each_account": (SWEEP, True, True, False),
    "subtokens.forget": (SWEEP, True, None, False),
    "subtokens.reject": (SWEEP, True, None, False),
    "subtokens.renew_due": (SWEEP, False, None, True),
    "subtokens.watch_runs": (SWEEP, False, None, True),
    "subtokens.work": (EXCHANGE, True, True, True),
}


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    """The tasks of ours in somebody else's app with Celery's defaults."""
    assert subtokens.work  # a process that passed through without Celery loads them now
    app = Celery("foreign", include=["subtokens.tasks"], set_as_current=False)
    app.loader.import_default_modules()
    app.finalize()
    return {name: task for name, task in app.tasks.items() if name.startswith("subtokens.")}


def test_these_are_all_the_tasks(tasks: dict[str, Any]) -> None:
    assert sorted(tasks) == sorted(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_brings_along_what_makes_it_safe(tasks: dict[str, Any], name: str) -> None:
    task = tasks[name]
    assert (task.queue, task.acks_late, task.reject_on_worker_lost, task.ignore_result) == (
        TASKS[name]
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_no_rate_limit_of_celerys_and_does_not_retry_by_itself(
    tasks: dict[str, Any], name: str
) -> None:
    assert tasks[name].rate_limit is None
    assert not hasattr(tasks[name], "autoretry_for")


def test_what_the_package_offers_are_these_tasks() -> None:
    for name in TASKS:
        assert getattr(subtokens, name.removeprefix("subtokens.")).name == name


def test_the_queues_are_ours_by_name() -> None:
    assert tuple(f"subtokens.{n}" for n in ("sweep", "renew", "exchange", "accounts")) == QUEUES
