"""A rotation on a real Redis: workers with different settings, and what `keys status` counts."""

import logging

import pytest

from subtokens.config.settings import StoreSettings
from subtokens.tasks.tokens.errors import SealError
from subtokens.tasks.tokens.key_use import sealed_records, workers_of
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.sealing import Sealer, derived_keys
from subtokens.tasks.tokens.store import TokenStore
from subtokens.tasks.tokens.tickets import HELD_SECONDS, Tickets
from subtokens.workers.cli.key_status import key_status
from subtokens.workers.cli.keys import _entry

PARTNER = "T11200000"
OLD = {"k1": b"CANARY-first-master-key-32-bytes"}
NEW = {"k2": b"CANARY-second-master-key-32-byte"}
A, B, C = "T11200001", "T11200002", "T11200003"


class Worker:
    """A worker process, as far as keys go."""

    def __init__(self, name, redis, keys, clock, master_keys):
        self.store = TokenStore(redis, keys, Sealer(PARTNER, master_keys), clock)
        self.store.holder = name
        self.tickets = Tickets(self.store, 10, 50)
        self.look = self.tickets.look

    @property
    def seals_with(self):
        return self.store.sealer.sealing_id


@pytest.fixture
def worker(redis, keys, clock):
    def worker(name, master_keys):
        return Worker(name, redis, keys, clock, master_keys)

    return worker


@pytest.fixture
def exchange(enrol, claim, token):
    """Stores a new token of an account as that worker seals it."""

    async def exchange(worker, account_id):
        await enrol(account_id)
        await worker.store.redis.zadd(worker.store.keys.due, {account_id: -1})
        found = await claim(lane="exchange")
        assert [one.account_id for one in found.accounts] == [account_id]
        settled = await worker.store.complete([token(account_id, found.generation)])
        assert settled.accounts == 1

    return exchange


async def test_a_promoted_key_seals_nothing_until_the_last_live_worker_knows_it(
    worker, exchange, clock
):
    promoted, ignorant = worker("a:1", NEW | OLD), worker("b:2", OLD)
    await ignorant.look()
    await promoted.look()
    await exchange(promoted, A)

    assert promoted.seals_with == "k1"
    assert (await ignorant.store.load(A)).access_token.startswith("CANARY")

    informed = worker("b:3", OLD | NEW)  # restarted; its predecessor is silent from now on
    await informed.look()
    clock.push(60)
    await informed.look()
    await promoted.look()
    assert promoted.seals_with == "k1"
    clock.push(0.001)
    await informed.look()
    await promoted.look()
    await exchange(promoted, B)

    assert promoted.seals_with == "k2"
    assert (await informed.store.load(B)).access_token.startswith("CANARY")
    with pytest.raises(SealError, match="'k2'"):
        await ignorant.store.load(B)


async def test_a_worker_that_comes_back_without_the_key_is_heeded_at_the_next_look(worker):
    promoted, ignorant = worker("a:1", NEW | OLD), worker("b:2", OLD)
    await promoted.look()
    assert promoted.seals_with == "k2"

    await ignorant.look()
    await promoted.look()

    assert promoted.seals_with == "k1"


async def test_a_process_that_begins_with_work_learns_before_it_seals(worker):
    await worker("b:2", OLD).look()
    promoted = worker("a:1", NEW | OLD)

    await promoted.tickets.key_use.learn()

    assert promoted.seals_with == "k1"
    assert HELD_SECONDS < 60


async def test_the_error_names_the_workers_once_a_minute_at_most(worker, clock, caplog):
    promoted, ignorant = worker("a:1", NEW | OLD), worker("b:2", OLD)

    def told():
        return [r for r in caplog.records if "key.held_back" in str(r.msg)]

    with caplog.at_level(logging.ERROR, logger="subtokens"):
        for _ in range(60):
            await ignorant.look()
            await promoted.look()
            clock.push(1)
        assert len(told()) == 1
        assert "b:2" in str(told()[0].msg)
        assert "CANARY" not in str(told()[0].msg)
        await ignorant.look()
        await promoted.look()
        assert len(told()) == 2


async def test_the_look_drops_who_was_silent_for_a_minute(worker, clock):
    stays, goes = worker("a:1", NEW | OLD), worker("b:2", OLD)
    await goes.look()
    await stays.look()
    assert await workers_of(stays.store) == {"a:1": ("k2", "k1"), "b:2": ("k1",)}

    clock.push(60.001)
    await stays.look()

    assert await stays.store.redis.hkeys(stays.store.keys.workers) == [b"a:1"]


async def test_status_counts_the_live_records_by_the_key_that_sealed_each(worker, exchange, clock):
    old, new = worker("a:1", OLD), worker("b:2", NEW)
    await exchange(old, A)
    clock.push(60)
    await exchange(new, B)
    await exchange(new, C)
    await exchange(new, A)
    await exchange(old, B)
    last_ms = (await old.store.load(B)).expires_ms
    status = worker("c:3", {"k9": bytes(32)}).store

    records = await sealed_records(status)

    assert records.by_key == {"k1": 1, "k2": 2}
    assert records.last_expires_ms["k1"] == last_ms
    for account_id, one in ((A, new), (B, old), (C, new)):
        assert await one.store.load(account_id)  # the key that is told does open it

    clock.push((last_ms - status.now_ms()) / 1000)
    assert not (await sealed_records(status)).by_key


async def test_status_tells_what_no_setting_holds_and_what_may_be_promoted(worker, exchange):
    promoted, ignorant = worker("a:1", OLD | NEW), worker("b:2", OLD)
    await exchange(worker("z:9", {"k0": bytes(32)}), A)
    await promoted.look()
    await ignorant.look()

    status = await key_status(promoted.store)
    text = "\n".join(status.sentences())

    assert status.unheld == {"k0": 1}
    assert not status.is_well
    assert status.may_be_first("k1")
    assert not status.may_be_first("k2")
    assert "k2 is not known to b:2: do not promote it yet." in text
    assert "k0 sealed 1 of the records, and no setting holds it: put it back" in text
    by_id = {key["id"]: key for key in status.as_dict()["keys"]}
    assert (by_id["k0"]["is_held"], by_id["k0"]["records"]) == (False, 1)
    assert by_id["k2"]["unknown_to"] == ["b:2"]

    await worker("b:2", OLD | NEW).look()
    assert (await key_status(promoted.store)).may_be_first("k2")


async def test_a_reader_with_the_partners_own_key_reads_that_partner_alone(
    worker, exchange, redis, redis_server, clock
):
    await exchange(worker("a:1", OLD), A)
    own = ",".join(_entry(*pair) for pair in derived_keys(PARTNER, OLD).items())
    others = ",".join(_entry(*pair) for pair in derived_keys("T99900000", OLD).items())
    common = {"partner_id": PARTNER, "store_url": redis_server.url(1), "namespace": "test"}

    with TokenReader(StoreSettings(reader_keys=own, **common), clock=clock) as reader:
        assert reader.get(A).access_token.startswith("CANARY")
    foreign = TokenReader(StoreSettings(reader_keys=others, **common), clock=clock)
    with foreign, pytest.raises(SealError):
        foreign.get(A)
