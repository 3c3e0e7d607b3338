"""The store in a Redis Cluster: all of a partner's keys lie in one slot."""

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from itertools import product

import pytest
from pydantic import SecretStr
from redis.cluster import key_slot

from subtokens.config.settings import StoreSettings
from subtokens.tasks.fleet import open_store
from subtokens.tasks.tokens import reading
from subtokens.tasks.tokens.async_reader import AsyncTokenReader
from subtokens.tasks.tokens.errors import NoTokenError
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.limiter import Rate
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.roles import PASSWORD, Scope, rules
from subtokens.tasks.tokens.runs import Runs
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.tasks.tokens.selection import save_selection
from subtokens.tasks.tokens.store import TokenStore
from subtokens.tasks.tokens.tickets import Tickets

from .conftest import KEYS, account_ids
from .redises import Cluster

pytestmark = pytest.mark.faults

PARTNERS = ["T11000000", "T12200000", "T13100000"]  # on a node each


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("redises") / "cluster") as cluster:
        yield cluster


def settings_of(cluster: Cluster, partner_id: str) -> StoreSettings:
    nodes = ",".join(f"127.0.0.1:{port}" for port in cluster.nodes[:2])
    return StoreSettings(
        partner_id=partner_id,
        encryption_keys=KEYS,
        store_url=f"redis+cluster://{nodes}",
        _env_file=None,
    )


@pytest.mark.parametrize("partner_id", PARTNERS)
def test_accounts_are_enrolled_exchanged_by_a_run_and_read(
    cluster: Cluster, partner_id: str
) -> None:
    settings = settings_of(cluster, partner_id)
    accounts = [partner_id[:4] + one[4:] for one in account_ids(1, 30)]
    asyncio.run(exchange_all(settings, accounts))
    with TokenReader(settings) as reader:
        assert reader.get(accounts[0]).access_token == "CANARY-token"
        assert set(reader.get_many(accounts)) == set(accounts)
        reader.reject(reader.get(accounts[1]))
        with pytest.raises(NoTokenError, match="not enrolled"):
            reader.get(partner_id[:4] + "00099")
    assert save_selection("some", accounts[:3], settings=settings) == 3

    async def read() -> int:
        async with AsyncTokenReader(settings) as reader:
            with pytest.raises(NoTokenError, match="not enrolled"):
                await reader.get(partner_id[:4] + "00099")
            return len(await reader.get_many(accounts))

    assert asyncio.run(read()) == 30


def test_more_are_read_at_once_than_one_command_takes(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(cluster, "T12400000")
    accounts = [f"T124{one[4:]}" for one in account_ids(1, 30)]
    asyncio.run(exchange_all(settings, accounts))
    monkeypatch.setattr(reading, "_MOST_IN_A_COMMAND", 20)

    with TokenReader(settings) as reader:
        assert len(reader.get_many(accounts)) == 30

    async def read() -> int:
        async with AsyncTokenReader(settings) as reader:
            return len(await reader.get_many(accounts))

    assert asyncio.run(read()) == 30


async def exchange_all(settings: StoreSettings, accounts: list[str]) -> None:
    redis = open_store(settings.store_url.get_secret_value())
    keys = PartnerKeys(settings.namespace, settings.chosen_partner_id())
    store = TokenStore(redis, keys, Sealer(keys.partner_id, settings.master_keys))
    runs = Runs(store)
    assert await store.enrol([(account, "") for account in accounts], "imported") == 30
    assert await runs.open("run", 60, "message") == "opened"
    await runs.request_all("run")
    assert not await runs.seal("run")
    assert await Tickets(store, 100, 50).look(is_sweep=True, discovery_lease_seconds=1)
    claim = await store.claim(100, 60, Rate(100_000), "exchange")
    now = store.now_ms()
    records = [
        TokenRecord(
            account_id=one.account_id,
            kind=Kind.EXCHANGE,
            generation=claim.generation,
            access_token="CANARY-token",
            issued_ms=now,
            renew_ms=now + 1_800_000,
            expires_ms=now + 3_600_000,
        )
        for one in claim.accounts
    ]
    assert (await store.complete(records)).ended_runs == ("run",)
    summary = await runs.summary("run")
    assert summary is not None
    assert (summary.done, summary.ended) == (30, True)
    assert await runs.begin_release("run") == "message"
    assert len(await store.expiries(accounts)) == 30
    assert len(await redis.time()) == 2
    await redis.aclose()


def test_worker_and_reader_do_their_work_as_their_own_roles(cluster: Cluster) -> None:
    settings = settings_of(cluster, "T13200000")
    scope, hashed = Scope("subtokens", ["T13200000"], (), is_cluster=True), sha256(b"CANARY")
    for role, port in product(("worker", "reader"), cluster.nodes):
        told = " ".join(rules(role, scope, for_6_2=True))
        told = told.replace(PASSWORD, f"#{hashed.hexdigest()}")
        assert cluster.ask(port, "ACL", "SETUSER", role, *told.split())

    def logged_in(role: str) -> StoreSettings:
        url = settings.store_url.get_secret_value().replace("://", f"://{role}:CANARY@")
        return settings.model_copy(update={"store_url": SecretStr(url)})

    accounts = [f"T132{one[4:]}" for one in account_ids(1, 30)]
    asyncio.run(exchange_all(logged_in("worker"), accounts))
    with TokenReader(logged_in("reader")) as reader:
        assert len(reader.get_many(accounts)) == 30


def test_the_partners_lie_on_a_node_each() -> None:
    slots = {key_slot(PartnerKeys("subtokens", one).due.encode()) * 3 // 16_384 for one in PARTNERS}
    assert len(slots) == 3
