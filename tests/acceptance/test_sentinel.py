"""Fail-over by sentinels: the master is killed, its replica takes over, and the fleet goes on."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.sentinel import MasterNotFoundError

from subtokens.config.settings import Settings, StoreSettings
from subtokens.tasks.fleet import open_store
from subtokens.tasks.tokens.errors import NoTokenError
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.tasks.tokens.selection import save_selection
from subtokens.tasks.tokens.store import TokenStore
from subtokens.workers.application import make_app

from .conftest import (
    KEYS,
    PARTNER,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    forget_results,
)
from .redises import MASTER, Watched

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]
ACCOUNTS = account_ids(1, 40)
PASSWORD = "CANARY-redis-password"


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Watched(tmp_path / "redises") as watched:
        yield watched


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(accounts=len(ACCOUNTS), lifetime_seconds=20) as upstream:
        yield upstream


def killed_and_gone_on(
    watched: Watched, upstream: Upstream, settings: StoreSettings, told: Callable[[], str]
) -> str:
    """Kill the master once all is stored; wait for renewals after it, and tell the times."""
    with TokenReader(settings, cache_seconds=0) as reader:
        # What is claimed and not yet stored at the kill would be due only after its lease.
        eventually(lambda: len(reader.get_many(ACCOUNTS)) == len(ACCOUNTS), told=told)
    watched.kill_master()
    killed_at, at_kill = time.monotonic(), upstream.last()
    eventually(watched.has_failed_over)
    failed_over = time.monotonic() - killed_at
    after = upstream.last()
    eventually(lambda: upstream.calls_of(ACCOUNTS, after=after), within=90, told=told)
    first = time.monotonic() - killed_at
    eventually(lambda: upstream.has_exchanged(ACCOUNTS, after=at_kill), within=90, told=told)
    return (
        f"fail-over after {failed_over:.1f} s, the first renewal by the new master after "
        f"{first:.1f} s, all 40 after {time.monotonic() - killed_at:.1f} s"
    )


def test_the_fleet_goes_on_after_the_master_of_the_store_was_killed(
    new_site: Callable[..., Site], watched: Watched, upstream: Upstream
) -> None:
    site = new_site(upstream.base_url, call_timeout_seconds=1)
    sentinels = ",".join(f"127.0.0.1:{port}" for port in watched.sentinels)
    url = f"redis+sentinel://{sentinels}/{MASTER}/1"
    site.environment["SUBTOKENS_STORE_URL"] = url
    worker = site.worker("worker")
    site.celery("beat", "beat")
    await_ready(worker)
    settings = StoreSettings(
        partner_id=PARTNER, encryption_keys=KEYS, store_url=url, _env_file=None
    )
    print("store:", killed_and_gone_on(watched, upstream, settings, worker.said))  # noqa: T201
    with TokenReader(settings) as reader:
        assert len(reader.get_many(ACCOUNTS)) == len(ACCOUNTS)
    assert save_selection("some", ACCOUNTS[:3], settings=settings) == 3
    done = site.cli("accounts", "list")
    assert done.code == 0, done.err


def test_the_fleet_goes_on_after_the_master_of_the_broker_was_killed(
    new_site: Callable[..., Site], watched: Watched, upstream: Upstream
) -> None:
    site = new_site(upstream.base_url, call_timeout_seconds=1)
    sentinels = ",".join(f"127.0.0.1:{port}" for port in watched.sentinels)
    site.environment["SUBTOKENS_BROKER_URL"] = f"redis+sentinel://{sentinels}/{MASTER}/0"
    worker = site.worker("worker")
    site.celery("beat", "beat")
    await_ready(worker)
    told = killed_and_gone_on(watched, upstream, site.own_settings, worker.said)
    print("broker:", told)  # noqa: T201


def test_master_and_sentinels_may_each_ask_for_a_password(tmp_path: Path) -> None:
    with Watched(tmp_path / "redises", PASSWORD) as watched:
        sentinels = ",".join(f"127.0.0.1:{port}" for port in watched.sentinels)
        masters_alone = f"redis+sentinel://:{PASSWORD}@{sentinels}/{MASTER}/1"
        settings = settings_by(masters_alone)
        with TokenReader(settings) as reader, pytest.raises(MasterNotFoundError) as refused:
            reader.get(ACCOUNTS[0])
        assert "CANARY" not in f"{refused.value} {refused.value!r} {settings!r}"

        both = f"{masters_alone}?sentinel_password={PASSWORD}"
        settings = settings_by(both)
        assert save_selection("some", ACCOUNTS[:3], settings=settings) == 3
        with TokenReader(settings) as reader, pytest.raises(NoTokenError, match="not enrolled"):
            reader.get(ACCOUNTS[0])
        asyncio.run(enrol(both))
        app = make_app(settings)
        app.send_task("subtokens.watch_runs", queue="subtokens.sweep", retry=False)
        forget_results(app)
        with Redis(port=watched.master, password=PASSWORD, db=1) as master:
            assert master.llen("subtokens.sweep") == 1


def settings_by(url: str) -> Settings:
    return Settings(
        partner_id=PARTNER,
        client_id="sandbox-client-id",
        client_secret="CANARY-client-secret",
        encryption_keys=KEYS,
        store_url=url,
        broker_url=url,
        _env_file=None,
    )


async def enrol(store_url: str) -> None:
    redis = open_store(store_url)
    keys = PartnerKeys("subtokens", PARTNER)
    store = TokenStore(redis, keys, Sealer(PARTNER, {"k1": bytes(32)}))
    assert await store.enrol([(account, "") for account in ACCOUNTS], "imported") == len(ACCOUNTS)
    await redis.aclose()
