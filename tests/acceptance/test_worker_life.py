"""How a worker lives and ends: its signs for healthchecks, and what TERM does to its tickets."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subtokens.tasks.exchange import fan_out
from subtokens.workers.processes import Child

from .conftest import (
    DEADLINE_SECONDS,
    EXCHANGING,
    RENEWING,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    exchanges,
    sending_by,
)

pytestmark = pytest.mark.faults

QUICK = ("--without-gossip",)
# compose's and `up`'s grace; a worker must be done by then.
GRACE_SECONDS = 60.0
SILENT_SECONDS = "8"


def health(folder: Path, kind: str, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "subtokens.workers.health", kind, *options],
        env={"SUBTOKENS_HEALTH_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


def is_alive(folder: Path, name: str) -> bool:
    return health(folder, "alive", "--name", name, "--seconds", SILENT_SECONDS)[0] == 0


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    return tmp_path / "signs"


@pytest.fixture
def nowhere(new_site: Callable[..., Site], signs: Path) -> Site:
    """A site whose upstream is not there: signs of life do not depend on it."""
    return new_site("http://127.0.0.1:9/v1", health_folder=signs, discovery_interval_seconds=0)


def test_signs_come_with_consuming_and_go_with_the_worker(nowhere: Site, signs: Path) -> None:
    assert health(signs, "ready") == (1, f"nobody is ready in {signs}\n")
    started = {
        "renewer@test": nowhere.worker("renewer", *RENEWING, *QUICK),
        "worker@test": nowhere.worker("worker", *EXCHANGING, *QUICK),
        "beat": nowhere.celery("beat", "beat"),
    }
    for name in started:
        eventually(lambda name=name: health(signs, "ready", "--name", name)[0] == 0)
        eventually(lambda name=name: is_alive(signs, name), told=lambda: health(signs, "alive"))
    assert health(signs, "alive")[0] == 0  # of all three together
    for child in started.values():
        child.stop(DEADLINE_SECONDS)
    assert list(signs.iterdir()) == []


def test_a_worker_whose_pool_hangs_is_silent_until_it_goes_on(nowhere: Site, signs: Path) -> None:
    worker = nowhere.worker("worker", *EXCHANGING, *QUICK)
    eventually(lambda: is_alive(signs, "worker@test"), told=worker.said)
    os.killpg(worker.pid, signal.SIGSTOP)
    os.kill(worker.pid, signal.SIGCONT)
    eventually(lambda: not is_alive(signs, "worker@test"))
    assert worker.is_alive
    assert health(signs, "ready")[0] == 0  # it still believes so
    os.killpg(worker.pid, signal.SIGCONT)
    eventually(lambda: is_alive(signs, "worker@test"), told=worker.said)


def test_one_stuck_worker_among_well_ones_is_found(nowhere: Site, signs: Path) -> None:
    workers = {name: nowhere.worker(name, *EXCHANGING, *QUICK) for name in ("well", "stuck")}
    for name in workers:
        eventually(lambda name=name: is_alive(signs, f"{name}@test"))
    os.kill(workers["stuck"].pid, signal.SIGSTOP)  # its consumer: the pool has nothing to do
    eventually(lambda: not is_alive(signs, "stuck@test"))
    assert is_alive(signs, "well@test")
    os.kill(workers["stuck"].pid, signal.SIGCONT)
    eventually(lambda: is_alive(signs, "stuck@test"))


def test_a_broker_that_answers_no_more_silences_workers_and_beat(
    nowhere: Site, signs: Path
) -> None:
    nowhere.worker("worker", *EXCHANGING, *QUICK)
    nowhere.celery("beat", "beat")
    for name in ("worker@test", "beat"):
        eventually(lambda name=name: is_alive(signs, name))
    nowhere.broker.execute_command("CLIENT", "PAUSE", 60_000, "ALL")
    for name in ("worker@test", "beat"):
        eventually(lambda name=name: not is_alive(signs, name))


def test_a_healthcheck_is_quick_and_needs_a_folder() -> None:
    code = "import sys, subtokens.workers.health; print({'celery', 'pydantic'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    assert loaded == b"set()\n"
    done = subprocess.run(
        [sys.executable, "-m", "subtokens.workers.health", "alive"], env={}, capture_output=True
    )
    assert (done.returncode, done.stderr) == (1, b"SUBTOKENS_HEALTH_FOLDER is not set\n")


# A rolling restart


@pytest.fixture
def busy() -> Iterator[Upstream]:
    with Upstream(accounts=1500, latency_seconds=0.1) as upstream:
        yield upstream


@pytest.fixture
def loaded(new_site: Callable[..., Site], busy: Upstream) -> Site:
    """All accounts have tokens; what the next workers do goes at fifty a second."""
    site = new_site(busy.base_url, discovery_interval_seconds=0)
    site.enrol(account_ids(1, 1500))
    first = site.worker("first", *QUICK)
    await_ready(first)
    with sending_by(site.app):
        fan_out.si().apply_async().get(timeout=DEADLINE_SECONDS)
    first.stop(GRACE_SECONDS)
    site.environment["SUBTOKENS_RATE_LIMIT"] = "50"
    return site


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_rolling_restart_of_four_workers_loses_and_doubles_nothing(
    loaded: Site, busy: Upstream, record_property: Callable[[str, Any], None]
) -> None:
    def worker(name: str) -> Child:
        return loaded.worker(name, *EXCHANGING, *QUICK)

    before = busy.last()
    renewer = loaded.worker("renewer", *RENEWING, *QUICK)
    old = {number: worker(f"old{number}") for number in range(4)}
    await_ready(renewer, *old.values())
    with sending_by(loaded.app):
        run = fan_out.si().apply_async()
    eventually(lambda: busy.last() >= before + 100)
    took = []
    for number, child in old.items():
        began = time.monotonic()
        os.kill(child.pid, signal.SIGTERM)
        new = worker(f"new{number}")
        eventually(lambda child=child: not child.is_alive, within=GRACE_SECONDS)
        took.append(time.monotonic() - began)
        await_ready(new)
    is_under_load = busy.last() < before + 1500
    result = run.get(timeout=GRACE_SECONDS)
    calls = exchanges(busy.calls(before))
    figures = {
        "seconds from TERM to the end": [round(seconds, 1) for seconds in took],
        "under load to the last restart": is_under_load,
        "lost": 1500 - len(calls),
        "doubled": sum(len(times) - 1 for times in calls.values()),
        "run": result,
    }
    print(figures)  # noqa: T201 - with -rP
    record_property("figures", figures)
    assert figures["lost"] == figures["doubled"] == 0
    assert is_under_load
    assert max(took) < 10
