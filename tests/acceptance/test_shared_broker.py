"""Our worker beside a user's own, on one broker."""

import time
from collections.abc import Iterator

import pytest
from celery import Celery, chain
from celery.canvas import Signature

import subtokens
from subtokens.config.queues import QUEUES
from subtokens.workers.processes import Child

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

VISIBILITY_SECONDS = 2
SHORT_TIMES = {
    "call_timeout_seconds": 0.3,
    "batch_deadline_seconds": 0.5,
    "soft_limit_seconds": 1,
    "hard_limit_seconds": 1.5,
    "lease_seconds": 1.8,
    "visibility_timeout_seconds": VISIBILITY_SECONDS,
}
USERAPP = """
import os
from celery import Celery
from redis import Redis

broker = os.environ["SUBTOKENS_BROKER_URL"]
app = Celery("userapp", broker=broker, backend=broker)


@app.task(name="userapp.long", acks_late=True)
def long():
    with Redis.from_url(broker, socket_timeout=None) as redis:
        redis.incr("userapp:starts")
        redis.blpop("userapp:enough", 60)
    return "done"


@app.task(name="userapp.next", bind=True)
def next_step(self, summary):
    return [self.request.hostname, summary["done"]]
"""
CARELESS = f"""
import os
from celery import Celery

app = Celery("careless", broker=os.environ["SUBTOKENS_BROKER_URL"])
app.conf.task_default_queue = "careless"
app.conf.broker_transport_options = {{"visibility_timeout": {VISIBILITY_SECONDS}}}
"""


class Shared:
    """A user's worker with a task that takes long, and the user's side of the broker."""

    def __init__(self, site: Site) -> None:
        self.site = site
        (site.folder / "userapp.py").write_text(USERAPP)
        (site.folder / "careless.py").write_text(CARELESS)
        self.app = Celery("userapp", broker=site.broker_url, backend=site.broker_url)
        self.worker = site.worker("users", "-Q", "celery,users.own", app="userapp")
        self.is_joined = False

    def join(self, name: str, **of: str) -> Child:
        """Start the other worker."""
        self.is_joined = True
        return self.site.worker(name, **of)

    def starts(self) -> int:
        return int(self.site.broker.get("userapp:starts") or 0)

    def seems_lost(self) -> bool:
        """Whether the long task is older than the others' visibility timeout."""
        held = self.site.broker.zrange("unacked_index", 0, 0, withscores=True)
        return bool(held) and held[0][1] < time.time() - VISIBILITY_SECONDS


@pytest.fixture(scope="module")
def shared(
    redis_server: object, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Shared]]:
    """Two brokers, each with a user's worker; ours comes to the first, a careless to the second."""
    folder = tmp_path_factory.mktemp("shared")
    with (
        Site(folder / "ours", upstream.base_url, **SHORT_TIMES) as site,
        Site(folder / "careless", upstream.base_url) as other,
    ):
        shared = [Shared(site), Shared(other)]
        yield shared
        for one in shared:
            forget_results(one.app)


@pytest.fixture
def beside_ours(shared: list[Shared]) -> Shared:
    """The first, with our worker beside it, whichever test comes first."""
    if not shared[0].is_joined:
        await_ready(shared[0].worker, shared[0].join("ours"))
    return shared[0]


def test_a_users_long_task_starts_once_beside_our_worker(shared: list[Shared]) -> None:
    """And, to prove that this would be seen, twice beside a worker that shares kombu's keys."""
    ours, careless = shared
    await_ready(ours.worker, careless.worker)
    results = [one.app.send_task("userapp.long") for one in shared]
    eventually(lambda: ours.seems_lost() and careless.seems_lost())
    await_ready(ours.join("ours"), careless.join("careless", app="careless"))
    eventually(lambda: careless.starts() == 2)
    # A message goes all the way through ours: it has looked for lost ones, as it does at its start.
    ours.site.enrol(account_ids(300, 3))
    with sending_by(ours.site.app):
        subtokens.fan_out.si().apply_async().get(timeout=DEADLINE_SECONDS)
    for one, result in zip(shared, results, strict=True):
        one.site.broker.rpush("userapp:enough", "1", "2")
        assert result.get(timeout=DEADLINE_SECONDS) == "done"
    assert ours.starts() == 1


@pytest.mark.parametrize("queue", ["celery", "users.own"])
def test_a_users_next_step_after_our_own_runs_in_the_users_worker(
    beside_ours: Shared, queue: str
) -> None:
    with sending_by(beside_ours.app):
        step = Signature("userapp.next", options={} if queue == "celery" else {"queue": queue})
        chained = chain(subtokens.fan_out.si(account_ids=account_ids(300, 3)), step)
        assert chained.apply_async().get(timeout=DEADLINE_SECONDS) == ["users@test", 3]


def test_our_worker_leaves_the_default_queue_to_its_user(beside_ours: Shared) -> None:
    ours = beside_ours.site
    found = eventually(ours.app.control.inspect(timeout=0.5).active_queues)
    assert {queue["name"] for queue in found["ours@test"]} == set(QUEUES)
    beside_ours.worker.kill()
    ours.app.send_task("userapp.next", ({"done": 1},), queue="celery")
    with sending_by(ours.app):
        subtokens.fan_out.si().apply_async().get(timeout=DEADLINE_SECONDS)
    assert ours.broker.llen("celery") == 1
