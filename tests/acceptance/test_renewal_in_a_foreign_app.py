"""Renewals in somebody else's app: Celery's defaults, our tasks in its include, our beat entry."""

import sys
import time
from collections.abc import Callable

import pytest

import subtokens
from subtokens.config.schedule import SWEEP_INTERVAL_SECONDS
from subtokens.tasks.tokens.tickets import HELD_SECONDS

from .conftest import (
    DEADLINE_SECONDS,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    rounds_told,
    sending_by,
)

USERAPP = """
import os
from celery import Celery
import subtokens

redis = os.environ["SUBTOKENS_BROKER_URL"]
app = Celery("userapp", broker=redis, backend=redis, include=["subtokens.tasks"])
app.conf.beat_schedule = subtokens.beat_schedule()
"""


@pytest.mark.faults  # it takes seconds
def test_a_foreign_app_renews_tokens_by_its_own_beat(new_site: Callable[..., Site]) -> None:
    accounts = account_ids(1, 20)
    with Upstream(accounts=len(accounts), lifetime_seconds=4) as upstream:
        site = new_site(upstream.base_url)
        (site.folder / "userapp.py").write_text(USERAPP)
        worker = site.worker("users", app="userapp")
        beat = site.celery("beat", "beat", "--loglevel=INFO", app="userapp")
        await_ready(worker)
        site.enrol(accounts)
        reader = site.reader()

        def generations() -> dict[str, int]:
            return {name: found.generation for name, found in reader.get_many(accounts).items()}

        def is_renewed() -> bool:
            now = generations()
            return all(now.get(name, 0) > generation for name, generation in first.items())

        first = eventually(
            lambda: len(found := generations()) == len(accounts) and found, told=worker.said
        )
        for _ in range(2):  # once, and again after that
            eventually(is_renewed, told=worker.said)
            first = eventually(lambda: len(found := generations()) == len(accounts) and found)
        reader.close()
        exchanged = [call for call in upstream.calls() if call.kind == "exchange"]
        assert {call.status for call in exchanged} == {200}
        assert beat.is_alive
        assert "Traceback" not in worker.said() + beat.said()
        assert not rounds_told(beat, worker)


@pytest.mark.faults
def test_tickets_that_a_killed_worker_had_not_begun_keep_nobody_waiting_for_long(
    new_site: Callable[..., Site],
) -> None:
    """By Celery's defaults a process hoards four messages; its successor gets none of them."""
    accounts = account_ids(1, 30)
    with Upstream(accounts=len(accounts)) as upstream:
        # Three tickets of ten accounts; the worker begins one of them.
        small = {"batch_size": 10, "concurrency": 10, "discovery_interval_seconds": 0}
        site = new_site(upstream.base_url, **small)
        (site.folder / "userapp.py").write_text(USERAPP)
        worker = site.worker("users", "--concurrency=1", app="userapp")
        await_ready(worker)
        site.enrol(accounts)
        with sending_by(site.app):
            subtokens.fan_out.si().apply_async().get(timeout=DEADLINE_SECONDS)
        last = upstream.last()
        tickets = next(key for key in site.keys.for_scripts if key.endswith(":renew_tickets"))

        with upstream.troubled(latency_seconds=5):
            now_ms = int(time.time() * 1000)
            site.store.zadd(site.keys.due, dict.fromkeys(accounts, now_ms), xx=True)
            beat = site.celery("beat", "beat", "--loglevel=INFO", app="userapp")
            eventually(lambda: site.store.hlen(site.keys.claims) == 10, told=worker.said)
            eventually(lambda: site.broker.hlen("unacked") >= 3, told=worker.said)
            worker.kill()
        killed_at = upstream.now()
        assert site.store.zcard(tickets) == 3
        claimed = {account_id.decode() for account_id in site.store.hkeys(site.keys.claims)}
        waiting = [account_id for account_id in accounts if account_id not in claimed]
        assert len(waiting) == 20
        successor = site.worker("successor", "--concurrency=1", app="userapp")
        await_ready(successor)
        ready_at = upstream.now()
        eventually(lambda: upstream.has_exchanged(waiting, last), within=70, told=beat.said)
        renewed_at = upstream.calls_of(waiting, last)[-1].seconds
        sys.stdout.write(f"renewed {renewed_at - killed_at:.1f} s after the worker was killed\n")
        assert renewed_at <= max(killed_at + HELD_SECONDS, ready_at) + 3 * SWEEP_INTERVAL_SECONDS
