"""Renewals go on by themselves: once a store is back, and beside a worker that was killed."""

import os
import sys
import time
from collections.abc import Callable, Iterator

import pytest

import subtokens
from subtokens.config.schedule import SWEEP_INTERVAL_SECONDS
from subtokens.tasks.tokens.tickets import HELD_SECONDS
from subtokens.workers.private_redis import PrivateRedis
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
    sending_by,
)

pytestmark = pytest.mark.faults

# A claim that the store took down with it is due again soon.
SHORT_TIMES = {
    "call_timeout_seconds": 0.5,
    "batch_deadline_seconds": 1,
    "soft_limit_seconds": 2,
    "hard_limit_seconds": 3,
    "lease_seconds": 4,
}


@pytest.fixture
def store_server(redis_server: object) -> Iterator[PrivateRedis]:
    """A store that keeps what it holds, beside the broker."""
    with PrivateRedis(append_only=True) as server:
        yield server


def sweeps(worker: Child, *words: str) -> list[str]:
    """The lines about a sweep that hold one of these words."""
    lines = [line for line in worker.said().splitlines() if "Task subtokens.renew_due[" in line]
    return [line for line in lines if any(word in line for word in words)]


def test_a_sweep_without_its_store_fails_and_renewals_go_on_once_it_is_back(
    new_site: Callable[..., Site], store_server: PrivateRedis
) -> None:
    accounts = account_ids(1, 20)
    with Upstream(accounts=len(accounts), lifetime_seconds=4) as upstream:
        site = new_site(
            upstream.base_url, store_url=store_server.url(1), log_level="DEBUG", **SHORT_TIMES
        )
        worker = site.worker("worker")
        await_ready(worker)
        beat = site.celery("beat", "beat", "--loglevel=INFO")
        site.enrol(accounts)
        eventually(lambda: upstream.has_exchanged(accounts), told=worker.said)
        eventually(lambda: sweeps(worker, "succeeded"), told=worker.said)

        store_server.kill()
        eventually(lambda: "sweep.failed" in worker.said(), told=worker.said)
        succeeded = sweeps(worker, "succeeded")
        eventually(lambda: len(sweeps(worker, "raised", "failed")) > 1, told=worker.said)
        assert sweeps(worker, "succeeded") == succeeded, "a sweep without its store succeeded"
        assert worker.is_alive
        assert beat.is_alive
        assert "WorkerLostError" not in worker.said()

        last = upstream.last()
        store_server.start()
        eventually(lambda: upstream.has_exchanged(accounts, last), told=worker.said)
        eventually(lambda: len(sweeps(worker, "succeeded")) > len(succeeded), told=worker.said)
        assert worker.is_alive


def test_a_killed_workers_ticket_keeps_renewals_waiting_for_its_sign_of_life_alone(
    new_site: Callable[..., Site],
) -> None:
    """Its ticket would lapse after the hard limit of a task, 50 s, had it not been held."""
    bait, *others = accounts = account_ids(1, 21)
    with Upstream(accounts=len(accounts)) as upstream:
        site = new_site(upstream.base_url, discovery_interval_seconds=0)
        workers = [site.worker(f"renew-{n}", *RENEWING) for n in (1, 2)]
        exchanger = site.worker("exchange", *EXCHANGING, "--concurrency=1")
        await_ready(*workers, exchanger)
        beat = site.celery("beat", "beat", "--loglevel=INFO")
        site.enrol(accounts)
        with sending_by(site.app):
            subtokens.fan_out.si().apply_async().get(timeout=DEADLINE_SECONDS)

        def make_due(account_ids: list[str]) -> None:
            now_ms = int(time.time() * 1000)
            site.store.zadd(site.keys.due, dict.fromkeys(account_ids, now_ms), xx=True)

        # Its call takes longer than the worker has to live.
        with upstream.troubled(latency_seconds=5):
            make_due([bait])
            claim = eventually(lambda: site.store.hget(site.keys.claims, bait))
            pid = int(claim.decode().rpartition(":")[2])
            holder = next(worker for worker in workers if os.getpgid(pid) == worker.pid)
            holder.kill()
        killed_at, last = upstream.now(), upstream.last()
        make_due(others)
        tickets = next(key for key in site.keys.for_scripts if key.endswith(":renew_tickets"))
        assert site.store.zcard(tickets) == 1, "the ticket is not outstanding"
        eventually(lambda: upstream.has_exchanged(others, last), told=beat.said)
        arrivals = [call.seconds - killed_at for call in upstream.calls_of(others, last)]
        sys.stdout.write(
            f"{len(arrivals)} renewals {arrivals[0]:.1f} to {arrivals[-1]:.1f} s after the worker "
            f"that held their ticket was killed\n"
        )
        assert len(arrivals) == len(others)
        assert arrivals[0] > HELD_SECONDS / 2, "nothing had to wait for the ticket"
        assert arrivals[-1] <= HELD_SECONDS + 3 * SWEEP_INTERVAL_SECONDS
