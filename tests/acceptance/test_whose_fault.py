"""A credential that is refused, an upstream that fails: what the sandbox sees of it.

For a release: WHOSE_FAULT_ACCOUNTS=10000 make test-faults ARGS=tests/acceptance/test_whose_fault.py
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

import subtokens
from subtokens.workers.processes import Child

from .conftest import (
    DEADLINE_SECONDS,
    PARTNER,
    Call,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    partners_file,
    sending_by,
)

pytestmark = pytest.mark.faults

ACCOUNTS = int(os.environ.get("WHOSE_FAULT_ACCOUNTS", "2000"))
RATE = 400
LATENCY_SECONDS = 0.05
OTHER = "P11300000"
OTHERS = [f"P113{number:05d}" for number in range(1, 101)]


@pytest.fixture
def upstreams() -> Iterator[dict[str, Upstream]]:
    """The partner's own token is due every ten seconds, so that a fan-out meets its renewal."""
    with (
        Upstream(
            accounts=ACCOUNTS, latency_seconds=LATENCY_SECONDS, partner_lifetime_seconds=20
        ) as big,
        Upstream(accounts=len(OTHERS), partner_id=OTHER, latency_seconds=0.02) as small,
    ):
        yield {PARTNER: big, OTHER: small}


def alarms(workers: list[Child]) -> int:
    return sum(worker.said().count("partner.suspended") for worker in workers)


@pytest.mark.parametrize("revoked", ["secret", "tokens"])
def test_a_secret_revoked_in_the_middle_of_a_fan_out_costs_few_calls_and_no_account(
    new_site: Callable[..., Site], upstreams: dict[str, Upstream], tmp_path: Path, revoked: str
) -> None:
    """And another partner does not notice; once it is mended, the run goes on by itself."""
    big = upstreams[PARTNER]
    site = new_site(
        "", partners_file=partners_file(tmp_path, dict.fromkeys(upstreams.values(), RATE))
    )
    workers = [site.worker("one"), site.worker("other")]
    await_ready(*workers)
    site.celery("beat", "beat")
    eventually(lambda: site.store.zcard(site.keys.due) == ACCOUNTS)  # by the sweep's discovery

    def ask_on() -> bool:
        """Ask anew where all are served, until the partner's own token is due and refused."""
        if not site.store.zcount(site.keys.due, "-inf", "(0"):
            subtokens.fan_out.si(partner_id=PARTNER, timeout=600).apply_async()
        return bool(site.store.hexists(site.keys.circuit, "opened_at"))

    with sending_by(site.app):
        run = subtokens.fan_out.si(partner_id=PARTNER, timeout=600).apply_async()
        eventually(lambda: big.last() > ACCOUNTS // 5)
        with big.troubled(revoked=revoked):
            eventually(ask_on, every=0.2)
            step = subtokens.ensure.si(valid_for="1h", partner_id=OTHER, timeout=20)
            assert step.apply_async().get(timeout=DEADLINE_SECONDS)["valid"] == len(OTHERS)
            eventually(lambda: int(site.store.hget(site.keys.circuit, "trips") or 0) >= 2)
            calls = big.calls()
            assert not site.store.scard(site.keys.failing), "an account was punished"
        summary = run.get(timeout=120)
    assert (summary["done"], summary["failed"]) == (ACCOUNTS, {})
    received_at = min(call.seconds for call in calls if call.status == 401) + LATENCY_SECONDS
    begun = [call for call in calls if call.seconds > received_at]
    seconds = calls[-1].seconds - received_at
    sys.stdout.write(f"{len(begun)} calls in {seconds:.1f} s after the first refusal\n")
    assert len(begun) <= 50
    assert alarms(workers) == 1


def test_workers_killed_while_the_partner_is_suspended_leave_it_so_and_the_next_resume(
    new_site: Callable[..., Site], upstreams: dict[str, Upstream], tmp_path: Path
) -> None:
    big = upstreams[PARTNER]
    site = new_site(
        "", partners_file=partners_file(tmp_path, dict.fromkeys(upstreams.values(), RATE))
    )
    workers = [site.worker("one")]
    await_ready(*workers)
    site.celery("beat", "beat")
    eventually(lambda: big.last() > ACCOUNTS // 5)
    with big.troubled(revoked="tokens"):
        eventually(lambda: site.store.hexists(site.keys.circuit, "opened_at"))
        opened_at = site.store.hget(site.keys.circuit, "opened_at")
        workers[0].kill()
        workers.append(site.worker("next"))
        await_ready(workers[1])
        before, trips = big.last(), int(site.store.hget(site.keys.circuit, "trips") or 0)
        eventually(lambda: int(site.store.hget(site.keys.circuit, "trips") or 0) > trips)
        assert site.store.hget(site.keys.circuit, "opened_at") == opened_at
        assert len(big.calls(before)) <= 3  # of a probe
        assert not site.store.scard(site.keys.failing), "an account was punished"
    covered = partial(site.store.zcount, site.keys.expiry, 0, "+inf")
    eventually(lambda: covered() == ACCOUNTS, told=covered, within=60)
    assert alarms(workers) == 1


@pytest.fixture
def renewing(
    new_site: Callable[..., Site],
) -> Iterator[tuple[Site, Upstream, list[Child]]]:
    """Renewals of 300 accounts with tokens of 30 seconds, at about 20 a second."""
    with Upstream(accounts=300, lifetime_seconds=30, latency_seconds=0.02) as upstream:
        site = new_site(upstream.base_url, rate_limit=100)
        workers = [site.worker("one"), site.worker("other")]
        await_ready(*workers)
        site.celery("beat", "beat")
        eventually(lambda: upstream.has_exchanged(account_ids(1, 300)))
        yield site, upstream, workers


def polled(site: Site, over: Callable[[], bool]) -> int:
    """Reads all tokens, again and again until it is over; returns how often one was missing."""
    missing, ends_at = 0, time.monotonic() + DEADLINE_SECONDS
    with site.reader() as reader:
        while not over():
            assert time.monotonic() < ends_at, "it did not come about"
            found = reader.get_many(account_ids(1, 300))
            missing += sum(not isinstance(token, subtokens.TokenRecord) for token in found.values())
            time.sleep(0.1)
    return missing


def busiest_second(calls: list[Call]) -> int:
    times = [call.seconds for call in calls]
    return max(sum(start <= at < start + 1 for at in times) for start in times)


def test_while_the_upstream_is_down_one_prober_calls_and_tokens_are_served(
    renewing: tuple[Site, Upstream, list[Child]],
) -> None:
    site, upstream, workers = renewing
    with upstream.troubled(error_share=1.0):
        missing = polled(site, lambda: bool(site.store.hget(site.keys.circuit, "opened_at")))
        time_of_opening = upstream.now()
        missing += polled(site, lambda: int(site.store.hget(site.keys.circuit, "trips") or 0) == 4)
        down = [call.seconds for call in upstream.calls() if call.seconds > time_of_opening + 0.5]
        before = upstream.last()
    recovered_from = upstream.now()
    missing += polled(site, lambda: not site.store.hexists(site.keys.circuit, "opened_at"))
    missing += polled(site, lambda: upstream.now() > recovered_from + 12)
    gaps = [after - before for before, after in pairwise(down)]
    sys.stdout.write(f"probes {', '.join(f'{gap:.1f}' for gap in gaps)} s apart; {missing=}\n")
    assert 2 <= len(down) <= 4
    assert all(gap >= 1.9 for gap in gaps)
    after = upstream.calls(before)
    assert {call.status for call in after if call.seconds > recovered_from + 0.1} == {200}
    assert busiest_second(after) <= 125
    assert missing == 0
    said = [worker.said() for worker in workers]
    assert sum(text.count("upstream.failing") for text in said) == 1
    assert sum(text.count("upstream.recovered") for text in said) == 1


def test_a_brown_out_costs_calls_and_no_token(
    renewing: tuple[Site, Upstream, list[Child]],
) -> None:
    site, upstream, _ = renewing
    before, begins_at = upstream.last(), upstream.now()
    with upstream.troubled(error_share=0.5):
        missing = polled(site, lambda: upstream.now() > begins_at + 20)
    calls = upstream.calls(before)
    failed = sum(call.status == 500 for call in calls)
    sys.stdout.write(f"{len(calls)} calls, {failed} failed, {missing=}\n")
    assert failed > 50
    assert missing == 0
    assert busiest_second(calls) <= 125
