"""Our tasks in somebody else's app: Celery's defaults, and `subtokens.tasks` in its include."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord
from celery.canvas import Signature

import subtokens
from subtokens.config.queues import QUEUES

from .conftest import (
    DEADLINE_SECONDS,
    PARTNER,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    forget_results,
    sending_by,
)

# What Celery 5.6 still calls to note a chord's size, redis 8 would have called otherwise.
# By Celery, for a chord.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

USERAPP = """
import os
from celery import Celery

app = Celery(
    "userapp",
    broker=os.environ["SUBTOKENS_BROKER_URL"],
    backend=os.environ["SUBTOKENS_BROKER_URL"],
    include=["subtokens.tasks"],
)


@app.task(name="userapp.settle")
def settle(summary):
    return {"settled": summary}
"""


@pytest.fixture(scope="module")
def foreign(
    redis_server: object, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A user's folder with a worker of the user's app, all of whose queues are by default."""
    folder = tmp_path_factory.mktemp("foreign") / "here"
    with Site(folder, upstream.base_url) as site:
        (folder / "userapp.py").write_text(USERAPP)
        worker = site.worker("users", app="userapp")
        site.enrol(account_ids(200, 20))
        await_ready(worker)
        yield site


@pytest.fixture
def app(foreign: Site) -> Iterator[Celery]:
    """The user's app, as the user's own process has it."""
    app = Celery(
        "userapp",
        broker=foreign.broker_url,
        backend=foreign.broker_url,
        include=["subtokens.tasks"],
    )
    with sending_by(app):
        yield app
    forget_results(app)


def settle(*arguments: Any) -> Signature:
    return Signature("userapp.settle", args=arguments)


def test_a_chain_goes_from_our_step_to_the_users(app: Celery) -> None:
    accounts = account_ids(200, 6)
    steps = chain(subtokens.fan_out.si(account_ids=accounts), settle())
    settled = steps.apply_async().get(timeout=DEADLINE_SECONDS)["settled"]
    assert (settled["accounts"], settled["done"], settled["failed"]) == (6, 6, {})


def test_a_chord_of_our_steps_ends_in_the_users(app: Celery) -> None:
    header = [
        subtokens.fan_out.si(account_ids=account_ids(206, 3)),
        subtokens.exchange.si(account_ids(209, 1)[0]),
        settle("another"),
    ]
    one, other, another = chord(header)(settle()).get(timeout=DEADLINE_SECONDS)["settled"]
    assert (one["done"], other["done"], another) == (3, 1, {"settled": "another"})


def test_our_step_is_the_body_of_a_users_chord(app: Celery) -> None:
    body = chain(subtokens.fan_out.si(account_ids=account_ids(210, 2)), settle())
    settled = chord([settle(1), settle(2)])(body).get(timeout=DEADLINE_SECONDS)["settled"]
    assert settled["done"] == 2


def test_a_failing_run_reaches_the_user_as_our_error(app: Celery) -> None:
    steps = chain(subtokens.exchange.si(f"{PARTNER[:4]}99999"), settle())
    with pytest.raises(subtokens.RunFailedError, match="1 not_enrolled"):
        steps.apply_async().parent.get(timeout=DEADLINE_SECONDS)


def test_a_worker_consumes_the_queues_it_was_told_alone(foreign: Site) -> None:
    """Beside one that consumes all by default."""
    chooser = foreign.worker("chooser", "-Q", "mine", app="userapp")
    await_ready(chooser)
    with Celery("asker", broker=foreign.broker_url, backend=foreign.broker_url) as asker:
        queues = eventually(asker.control.inspect(timeout=0.5).active_queues)
    names = {node: {queue["name"] for queue in found} for node, found in queues.items()}
    chooser.kill()
    assert names == {"users@test": {"celery", *QUEUES}, "chooser@test": {"mine"}}


def test_tasks_are_registered_in_an_app_that_comes_after_our_reader() -> None:
    code = """
import sys
import subtokens
subtokens.TokenReader
assert "celery" not in sys.modules
from celery import Celery
app = Celery("late", include=["subtokens.tasks"])
app.loader.import_default_modules()
print(*sorted(name for name in app.tasks if name.startswith("subtokens.")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert set(done.stdout.split()) >= {
        "subtokens.discover",
        "subtokens.exchange",
        "subtokens.fan_out",
        "subtokens.forget",
        "subtokens.renew_due",
        "subtokens.watch_runs",
        "subtokens.work",
    }


def test_a_pipeline_goes_from_readiness_over_the_users_task_for_each_account_to_the_next_step(
    app: Celery, foreign: Site, upstream: Upstream
) -> None:
    accounts = account_ids(205, 8)
    steps = chain(
        subtokens.ensure.si(valid_for="1h", account_ids=accounts),
        subtokens.for_each_account.si(settle(), account_ids=accounts, at_once=3),
        settle(),
    )
    summary = steps.apply_async().get(timeout=DEADLINE_SECONDS)["settled"]
    assert (summary["accounts"], summary["done"], summary["failed"]) == (8, 8, {})
    assert sorted(foreign.reader().get_many(accounts)) == accounts


READY_BY_BEAT = """
app.conf.beat_schedule = {
    "ready": {"task": "subtokens.ensure", "schedule": 1.5, "kwargs": {"valid_for": "1h"},
              "options": {"queue": "subtokens.sweep", "link": app.signature("userapp.note")}},
}


@app.task(name="userapp.note")
def note(summary):
    from redis import Redis
    Redis.from_url(os.environ["SUBTOKENS_BROKER_URL"]).rpush("noted", summary["valid"])
"""


@pytest.mark.faults  # it takes seconds
def test_readiness_is_a_beat_entry_too(new_site: Any, upstream: Upstream) -> None:
    site: Site = new_site(upstream.base_url, discovery_interval_seconds=0)
    (site.folder / "userapp.py").write_text(USERAPP + READY_BY_BEAT)
    site.enrol(account_ids(300, 5))
    await_ready(site.worker("users", app="userapp"))
    site.celery("beat", "beat", "--schedule", str(site.folder.parent / "schedule"), app="userapp")
    assert eventually(lambda: site.broker.lrange("noted", 0, -1))[0] == b"5"
