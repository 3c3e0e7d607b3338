"""The users that `subtokens acl` prints, on a real Redis: what each may do, and nothing more."""

import asyncio
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from subtokens.config.queues import QUEUES
from subtokens.tasks.tokens import roles, scripts
from subtokens.tasks.tokens.errors import SealError
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.limiter import Rate
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.roles import PASSWORD, ROLES, WEAKER, Role, Scope, rules, user_name
from subtokens.tasks.tokens.runs import Runs
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.tasks.tokens.status import fleet_status
from subtokens.tasks.tokens.store import TokenStore
from subtokens.tasks.tokens.tickets import Tickets
from subtokens.workers.cli.explain import account_facts
from subtokens.workers.cli.key_status import key_status
from subtokens.workers.cli.rows import account_rows
from subtokens.workers.monitor.kept import kept_metrics, last_day, quarantined
from subtokens.workers.private_redis import PrivateRedis

MINE, OTHERS = PartnerKeys("subtokens", "T11200000"), PartnerKeys("subtokens", "T11300000")
OWN_TOKEN, OTHERS_TOKEN = MINE.token("T11200001"), OTHERS.token("T11300001")
SCOPE = Scope("subtokens", ["T11200000"], QUEUES)
SECRET = "CANARY-redis-password"
# Who may what, on Redis 7 and on 6.2 besides. All that no role may stands in NOBODY.
ALLOWED: dict[str, tuple[set[Role], set[Role]]] = {
    f"GET {OWN_TOKEN}": ({"worker", "reader"}, set()),
    f"MGET {OWN_TOKEN} {MINE.token('T11200002')}": ({"worker", "reader"}, set()),
    f"SET {OWN_TOKEN} x": ({"worker"}, set()),
    f"DEL {OWN_TOKEN}": ({"worker"}, set()),
    f"XADD {OWN_TOKEN} * a b": ({"worker"}, {"reader"}),
    f"GET {MINE.partner}": ({"worker"}, {"operator"}),
    f"SET {MINE.partner} x": ({"worker"}, {"operator"}),
    f"ZSCORE {MINE.due} T11200001": ({"worker", "reader", "operator"}, set()),
    f"ZSCORE {MINE.expiry} T11200001": ({"worker", "reader", "operator"}, set()),
    f"HMGET {MINE.state('T11200001')} history": ({"worker", "reader", "operator"}, set()),
    f"HGETALL {MINE.state('T11200001')}": ({"worker", "operator"}, set()),
    f"ZADD {MINE.due} 1 T11200001": ({"worker", "operator"}, set()),
    f"ZSCAN {MINE.due} 0": ({"worker", "operator"}, set()),
    f"XADD {MINE.rejections} * account x": ({"worker", "reader", "operator"}, set()),
    f"XRANGE {MINE.rejections} - +": ({"worker", "operator"}, set()),
    f"XRANGE {MINE.events} - +": ({"worker", "operator"}, set()),
    f"HGETALL {MINE.fleet}": ({"worker", "operator"}, set()),
    "LPUSH subtokens.sweep x": ({"broker", "beat"}, set()),
    "RPOP subtokens.sweep": ({"broker"}, set()),
    "HGET subtokens.unacked x": ({"broker"}, set()),
    "GET celery-task-meta-x": ({"broker"}, set()),
    "SET celery-task-meta-x y": ({"broker"}, set()),
    "LPUSH celery x": ({"broker"}, set()),
    "PUBLISH /0.celery.pidbox x": ({"broker"}, set()),
    "PUBLISH celery-task-meta-x y": ({"broker"}, set()),
}
NOBODY = [
    *("KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "FLUSHALL", "FLUSHDB", "INFO", "MONITOR"),
    *("CONFIG GET *", "CONFIG SET requirepass x", "ACL LIST", "ACL WHOAMI", "ACL SETUSER evil on"),
    *("CLIENT LIST", "CLIENT KILL TYPE normal", "CLIENT NO-EVICT on", "SLOWLOG GET", "SAVE"),
    *("BGSAVE", "REPLICAOF no one", "BGREWRITEAOF", "SCRIPT FLUSH", "MODULE LIST", "SWAPDB 0 1"),
    *("SHUTDOWN NOSAVE", "LATENCY DOCTOR", "EVAL return(1) 0", "MIGRATE h 1 k 0 1", "WAIT 0 0"),
    *(f"GET {OTHERS_TOKEN}", f"MGET {OWN_TOKEN} {OTHERS_TOKEN}", f"SET {OTHERS_TOKEN} x"),
    *(f"HMGET {OTHERS.state('T11300001')} history", f"ZSCORE {OTHERS.due} T11300001"),
    *(f"XADD {OTHERS.rejections} * account x", f"GET {OTHERS.partner}", f"DEL {OTHERS.due}"),
    *(f"DUMP {OWN_TOKEN}", f"COPY {OWN_TOKEN} {MINE.due}", f"OBJECT ENCODING {OWN_TOKEN}"),
    *(f"GETRANGE {OWN_TOKEN} 0 -1", f"GETDEL {OWN_TOKEN}", f"GETEX {OWN_TOKEN}"),
    *(f"APPEND {OWN_TOKEN} x", f"UNLINK {OWN_TOKEN}", f"SORT {MINE.due} BY nosort GET {OWN_TOKEN}"),
    *(f"MOVE {OWN_TOKEN} 2", f"RENAME {OWN_TOKEN} {OTHERS_TOKEN}", f"STRLEN {OWN_TOKEN}"),
    *("PSUBSCRIBE *", "SUBSCRIBE __keyspace@0__:x", "PUBLISH elsewhere x", "SET elsewhere x"),
    *("GET subtokens.sweep2", "LPUSH somebody.elses x", "HGETALL unacked"),
]


@pytest.fixture(params=["on 7", "on 6.2"])
def is_old(request: pytest.FixtureRequest, redis_server: PrivateRedis) -> bool:
    with Redis.from_url(redis_server.url()) as client:
        version = client.info("server")["redis_version"]
    if request.param == "on 7" and int(version.split(".")[0]) < 7:
        pytest.skip(f"the Redis here is {version}")
    return request.param == "on 6.2"


@pytest.fixture
def users(redis_server: PrivateRedis, is_old: bool) -> Iterator[dict[Role, str]]:
    """Each role's user, set up as told; by the URL that it logs in with."""
    hashed = "#" + sha256(SECRET.encode()).hexdigest()
    urls: dict[Role, str] = {}
    with Redis.from_url(redis_server.url()) as admin:
        admin.flushall()
        for role in ROLES:
            told = " ".join(rules(role, SCOPE, for_6_2=is_old)).replace(PASSWORD, hashed)
            admin.execute_command("ACL", "SETUSER", user_name(role, SCOPE), *told.split())
            access = f"{user_name(role, SCOPE)}:{SECRET}@"
            urls[role] = redis_server.url(0).replace("://", f"://{access}")
        yield urls
        for role in ROLES:
            admin.acl_deluser(user_name(role, SCOPE))
        admin.flushall()


def is_denied(client: Redis, command: str) -> bool:
    try:
        with client.client() as one:  # a connection of its own, as it may be left subscribed
            one.execute_command(*command.split())
    except NoPermissionError:
        return True
    except ResponseError:
        return False
    return False


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_stands_in_the_table_and_nothing_more(
    users: dict[Role, str], is_old: bool, role: Role
) -> None:
    wrong = []
    with Redis.from_url(users[role]) as client:
        for command in [*ALLOWED, *NOBODY]:
            by_all, by_6_2 = ALLOWED.get(command, (set(), set()))
            may = role in by_all or (is_old and role in by_6_2)
            if is_denied(client, command) is may:
                wrong.append(f"{role} {'may not' if may else 'may'}: {command}")
    assert wrong == []


def test_what_is_weaker_on_6_2_is_told_for_the_roles_that_it_concerns() -> None:
    weaker = {role for _, by_6_2 in ALLOWED.values() for role in by_6_2}
    assert set(WEAKER) == weaker


def test_a_script_of_an_operators_own_reads_no_token(users: dict[Role, str]) -> None:
    with Redis.from_url(users["operator"]) as client:
        sha = client.script_load("return redis.call('GET', ARGV[1])")
        for key in (OWN_TOKEN, OTHERS_TOKEN):
            with pytest.raises(RedisError, match=r"NOPERM|ACL failure|can't run|can't access"):
                client.evalsha(sha, 0, key)


def test_the_line_as_it_is_printed_is_refused_until_a_password_is_put_in(
    redis_server: PrivateRedis,
) -> None:
    with Redis.from_url(redis_server.url()) as admin, pytest.raises(ResponseError):
        admin.execute_command("ACL", "SETUSER", "nobody", *rules("reader", SCOPE, for_6_2=True))


def test_each_role_of_the_store_does_its_work(users: dict[Role, str], is_old: bool) -> None:
    accounts = ["T11200001", "T11200002"]

    async def work() -> None:
        async with AsyncRedis.from_url(users["worker"]) as one:
            store = store_of(one)
            await store.enrol([("T11200001", "A")], "imported")
            await store.forget(["T11200001"])
            await store.enrol([(account_id, "") for account_id in accounts], "imported")
            await exchange(store)
            assert await Tickets(store, 100, 50).look(is_sweep=True, discovery_lease_seconds=1)
        async with AsyncRedis.from_url(users["operator"]) as one:
            store = store_of(one)
            assert (await fleet_status(store, 10.0)).enrolled == 2
            assert (await kept_metrics(store))["exchange:ok:first"] == 2
            assert [row.enrolled for row in await last_day(store)] == [2]
            assert await quarantined(store) == []
            assert (await key_status(store)).records.by_key == {"k1": 2}
            assert (await account_facts(store, "T11200001")).condition == "fresh"
            assert [row.account_id for row in await account_rows(store)] == accounts
            runs = Runs(store)
            await runs.open("run", 60, "")
            await runs.request_all("run", is_retry=True)
            await runs.seal("run")
            await Tickets(store, 100, 50).look(is_sweep=False, discovery_lease_seconds=0)
            assert await runs.ripe() == []
            with pytest.raises(SealError, match="may read no token"):
                await store.load("T11200001")

    asyncio.run(work())


async def exchange(store: TokenStore) -> None:
    """Store a token for each account that is due, as its own worker does."""
    claim = await store.claim(10, 60, Rate(1_000), "exchange")
    now = store.now_ms()
    times = {"issued_ms": now, "renew_ms": now + 1_800_000, "expires_ms": now + 3_600_000}
    records = [
        TokenRecord(one.account_id, "CANARY-token", Kind.EXCHANGE, claim.generation, **times)
        for one in claim.accounts
    ]
    await store.complete(records)


def store_of(redis: AsyncRedis) -> TokenStore:
    return TokenStore(redis, MINE, Sealer("T11200000", {"k1": bytes(32)}))


def test_the_rules_name_each_command_that_a_script_calls() -> None:
    folder = Path(scripts.__file__).with_name("lua")
    called = {
        name.lower()
        for file in folder.glob("*.lua")
        for name in re.findall(r"redis\.p?call\('(\w+)'", file.read_text())
    }
    assert called <= set(roles._IN_SCRIPTS.split())


def test_one_partners_reader_sees_nothing_of_the_others(users: dict[Role, str]) -> None:
    with Redis.from_url(users["reader"]) as client:
        assert client.get(OWN_TOKEN) is None
        for key in (OTHERS_TOKEN, OTHERS.state("T11300001"), OTHERS.partner, MINE.partner):
            with pytest.raises(NoPermissionError):
                client.get(key)
