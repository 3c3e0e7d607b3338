"""`subtokens doctor` against real set-ups, of which each has one thing wrong."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from hashlib import sha256
from io import StringIO
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest
from redis import Redis

from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.workers.cli.commands import run
from subtokens.workers.private_redis import PrivateRedis
from subtokens.workers.sandbox.tokens import TOKEN_MARK

from .conftest import (
    CANARY_SECRET,
    PARTNER,
    Finished,
    Site,
    Upstream,
    account,
    account_ids,
    await_ready,
    eventually,
)
from .fronts import http_front, old_redis

pytestmark = pytest.mark.faults

PASSWORD = "CANARY-redis-password"
KEY, OTHER_KEY = (base64.b64encode(sha256(word).digest()).decode() for word in (b"one", b"other"))
SECRETS = ("CANARY", KEY, OTHER_KEY, TOKEN_MARK.rstrip("."))
CLOCK = """
import os, time
now, ahead = time.time, float(os.environ.get("CLOCK_AHEAD", 0))
time.time = lambda: now() + ahead
"""
# What a namespace that no worker serves is warned of.
UNSERVED = "! beat and workers"


@dataclass(frozen=True)
class SetUp:
    """A change of the good environment, and what doctor makes of it."""

    code: int
    marks: set[str]  # the lines that are not a ✓, by symbol and name
    words: str  # all of these, between bars, are said
    change: Mapping[str, str] = field(default_factory=dict)
    options: str = ""
    files: Mapping[str, str] = field(default_factory=dict)  # in its folder, read by all
    without: tuple[str, ...] = ()


def env(**values: str) -> dict[str, str]:
    return {f"SUBTOKENS_{name.upper()}": value for name, value in values.items()}


# {…} in a value stands for a place that the fixture makes.
SET_UPS = {
    # settings
    "nothing is set": SetUp(
        2,
        {"✗ settings"},
        "SUBTOKENS_PARTNER_ID is not set|SUBTOKENS_CLIENT_ID|SUBTOKENS_CLIENT_SECRET|"
        "SUBTOKENS_ENCRYPTION_KEYS is not set|It does not work: 4 failures",
        without=("SUBTOKENS_",),
    ),
    "a needed name is misspelt": SetUp(
        2,
        {"! names", "✗ settings"},
        "is SUBTOKENS_CLIENT_SECRET meant?|SUBTOKENS_CLIENT_SECRET is not set",
        env(client_secert=CANARY_SECRET),
        without=("SUBTOKENS_CLIENT_SECRET",),
    ),
    "another name is misspelt": SetUp(
        0, {"! names"}, "SUBTOKENS_RATELIMIT is no setting|RATE_LIMIT meant?", env(ratelimit="9")
    ),
    "a colon in .env": SetUp(
        0,
        {"! names", "! files"},
        "SUBTOKENS_CLIENT_SECRET has no equals sign|chmod 600 .env",
        files={".env": "SUBTOKENS_CLIENT_SECRET:CANARYofthecolon\n"},
    ),
    ".env is no text": SetUp(
        2, {"✗ settings"}, ".env is not UTF-8", files={".env": "SUBTOKENS_CLIENT_ID=\udcff\n"}
    ),
    "times that cross": SetUp(
        2, {"✗ settings"}, "LEASE_SECONDS (400) must be less than", env(lease_seconds="400")
    ),
    "a toy for a key": SetUp(
        0,
        {"! encryption keys", UNSERVED},
        "typed by hand, not 32 random bytes|openssl rand",
        env(encryption_keys=f"k1:{base64.b64encode(bytes(32)).decode()}", namespace="toy"),
    ),
    "a partners' file that is not there": SetUp(
        2,
        {"✗ settings"},
        "FileNotFoundError",
        env(partners_file="missing.toml"),
        without=("SUBTOKENS_CLIENT", "SUBTOKENS_PARTNER_ID"),
    ),
    "two partners of whom one is not the client's": SetUp(
        1,
        {"! files", "✗ T11300000 credential", "! T11300000 beat and workers"},
        "read partners.toml T112.secret|T11300000's own|✓ T11200000 credential",
        env(partners_file="partners.toml"),
        files={
            "partners.toml": "".join(
                f'[[partner]]\nid = "{partner}"\nclient_id = "sandbox-client-id"\n'
                'client_secret_file = "T112.secret"\n'
                for partner in (PARTNER, "T11300000")
            ),
            "T112.secret": CANARY_SECRET,
        },
        without=("SUBTOKENS_CLIENT", "SUBTOKENS_PARTNER_ID"),
    ),
    "an account of another environment": SetUp(
        2, set(), "different environments", options="--account P11200001"
    ),
    # Redis
    "no store": SetUp(
        3, {"✗ store"}, "cannot be reached|SUBTOKENS_STORE_URL", env(store_url="{nowhere}")
    ),
    "no broker": SetUp(
        3, {"✗ broker"}, "cannot be reached|✓ exchange", env(broker_url="{nowhere}")
    ),
    "no result backend": SetUp(
        3, {"✗ result"}, "SUBTOKENS_RESULT_URL", env(result_url="{nowhere}")
    ),
    "a wrong password": SetUp(
        3,
        {"✗ store"},
        "does not accept the password",
        env(store_url="redis://:CANARYwrong@{locked}/1"),
    ),
    "no password": SetUp(
        3, {"✗ store"}, "wants one|SUBTOKENS_STORE_URL", env(store_url="redis://{locked}/1")
    ),
    "no such database": SetUp(
        3, {"✗ store"}, "has no such database", env(store_url="redis://{server}/99")
    ),
    "a store without TLS": SetUp(
        3,
        {"✗ store"},
        "does not answer within 5 s|rediss:// where it has no TLS?",
        env(store_url="rediss://{server}/1"),
    ),
    "an old Redis": SetUp(
        1, {"✗ store"}, "is Redis 5|6.2 or later", env(store_url="redis://{old}/1")
    ),
    "a replica": SetUp(
        1, {"✗ store"}, "takes no writes|the primary", env(store_url="redis://{replica}/1")
    ),
    "a store that evicts": SetUp(
        1,
        {"✗ store eviction", "! store persistence", UNSERVED},
        "allkeys-lru|noeviction",
        env(store_url="redis://{evicting}/1"),
    ),
    "a broker that evicts": SetUp(
        0,
        {"! broker eviction"},
        "broker eviction    maxmemory-policy is allkeys-lru|two servers",
        env(broker_url="redis://{evicting}/0"),
    ),
    "a store without persistence": SetUp(
        0,
        {"! store persistence", UNSERVED},
        "neither an append-only file nor a replica|It works, with 2 warnings.",
        env(store_url=f"redis://:{PASSWORD}@{{locked}}/1"),
    ),
    "a user who may not look": SetUp(
        0,
        {"! store"},
        "could not be looked at|+info|one server, two databases",
        env(store_url=f"redis://blind:{PASSWORD}@{{server}}/1"),
    ),
    "a user who may only read": SetUp(
        1,
        {"✗ store rights"},
        "refuses a command that workers need",
        env(store_url=f"redis://reader:{PASSWORD}@{{server}}/1"),
    ),
    "one database for both": SetUp(
        0,
        {"! broker and store"},
        "one database|such as /1",
        env(broker_url="redis://{server}/1"),
    ),
    "another app on the broker": SetUp(
        0, set(), "shares the broker (unacked, unacked_index)", env(broker_url="redis://{server}/3")
    ),
    # clocks
    "a clock that is 5 s ahead": SetUp(
        0,
        {"! clock of Redis", "! clock of Dintero"},
        "5 s ahead of the store's|NTP",
        {"CLOCK_AHEAD": "5"},
    ),
    "a clock that is a minute behind": SetUp(
        1,
        {"✗ clock of Redis", "✗ clock of Dintero"},
        "60 s behind the store's|s behind Dintero's",
        {"CLOCK_AHEAD": "-60"},
    ),
    "an upstream whose clock is off": SetUp(
        1, {"✗ clock of Dintero"}, "s behind Dintero's", env(base_url="{fast}")
    ),
    # Dintero
    "a wrong client secret": SetUp(
        1,
        {"✗ credential"},
        "partner_token: answered 401|correct client id and secret",
        env(client_secret="CANARY-another"),
    ),
    "an address that redirects": SetUp(
        1, {"✗ credential"}, "redirect 302|https://api.dintero.com/v1", env(base_url="{moved}")
    ),
    "an upstream that is not there": SetUp(
        1, {"✗ credential"}, "no answer|can this machine reach", env(base_url="http://{closed}/v1")
    ),
    "an upstream without TLS": SetUp(
        1, {"✗ credential"}, "no answer|TLS certificate", env(base_url="{plain}")
    ),
    "an upstream that is throttled": SetUp(
        0, {"! credential"}, "answered 429|SUBTOKENS_RATE_LIMIT", env(base_url="{throttling}")
    ),
    "no scope for the account list": SetUp(
        1, {"✗ account list", "! exchange"}, "admin:accounts or read:acc", env(base_url="{scoped}")
    ),
    "no sub-account": SetUp(
        0,
        {"! account list", "! exchange", UNSERVED},
        "it is empty|none that is active",
        env(base_url="{empty}", namespace="empty"),
    ),
    "an account that is not active": SetUp(
        1, {"✗ exchange"}, "answered 403|active", options=f"--account {account(5)}"
    ),
    "a kind of token that is not taken": SetUp(
        1,
        {"✗ token kind"},
        "exchange is set and does not work|set SUBTOKENS_TOKEN_KIND=account "
        "SUBTOKENS_AUDIENCE=account|accepted: account, audience account",
        env(base_url="{accounts_only}"),
    ),
    "the wrong audience": SetUp(
        1,
        {"✗ token kind"},
        "account, audience account is set and does not work|SUBTOKENS_TOKEN_KIND=exchange",
        env(token_kind="account", audience="account"),
    ),
    "the right audience": SetUp(
        0,
        set(),
        "account, audience account is set and works",
        env(base_url="{accounts_only}", token_kind="account", audience="account"),
    ),
    "a rate too low to call twice": SetUp(
        0,
        {"! calls", UNSERVED},
        "gave no permit within 5 s",
        env(rate_limit="0.05", namespace="slow"),
    ),
    "no calls wanted": SetUp(
        0, set(), "✓ reader|All is well", env(base_url="http://{closed}/v1"), "--no-calls"
    ),
    # what is stored, and who is at work
    "a key of the same name": SetUp(
        1, {"✗ records"}, "4 of 4 do not open", env(encryption_keys=f"k1:{OTHER_KEY}")
    ),
    "a key of another name": SetUp(
        1,
        {"✗ records"},
        "sealed with key 'k1'|behind the first",
        env(encryption_keys=f"k2:{OTHER_KEY}"),
    ),
    "records that are gone": SetUp(
        0, {"! records", UNSERVED}, "1 of 1 are gone before their time", env(namespace="gone")
    ),
    "no beat": SetUp(
        0, {UNSERVED}, "s ago: no beat, or no worker for subtokens.sweep", env(namespace="stopped")
    ),
    "a fleet that is paused": SetUp(
        0,
        {"! calls", "! pause", UNSERVED},
        "partner_token: answered 401|nobody calls Dintero|never swept",
        env(namespace="paused"),
    ),
    "a partner that is suspended": SetUp(
        1,
        {"✗ credential", "! pause", UNSERVED},
        "partner_token: answered 401|correct client id and secret",
        env(namespace="suspended", client_secret="CANARY-another"),
    ),
    "a partner that is suspended, although its credential was put right": SetUp(
        0,
        {"! pause", UNSERVED},
        "the partner's token was got|but a prober, by the fault of our credential: "
        "partner_token: answered 401|exchange --retry",
        env(namespace="suspended"),
    ),
    "accounts in quarantine": SetUp(
        0,
        {"! accounts", UNSERVED},
        "in quarantine: 1 refused_403|exchange --retry",
        env(namespace="quarantined"),
    ),
}
# The others run in this process: to start one takes most of a second.
IN_A_PROCESS = (
    "a store without TLS",
    "a rate too low to call twice",
    "nothing is set",
    "two partners of whom one is not the client's",
    "an account of another environment",
    "no store",
    "a wrong password",
    "a clock that is 5 s ahead",
    "a clock that is a minute behind",
    "a wrong client secret",
)


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def good(
    redis_server: PrivateRedis, stack: ExitStack, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Site, Upstream]:
    """A deployment at work: every active account has its token, and nothing is to be said."""
    upstream = stack.enter_context(Upstream(accounts=5, inactive=1))
    folder = tmp_path_factory.mktemp("doctor") / "here"
    made = Site(folder, upstream.base_url, encryption_keys=f"k1:{KEY}")
    site = stack.enter_context(made)
    site.store.config_set("appendonly", "yes")
    (site.folder / "sitecustomize.py").write_text(CLOCK)
    site.enrol(account_ids(1, 4))
    await_ready(site.worker("worker", "--beat", "--concurrency=1"))
    eventually(lambda: site.store.zcount(site.keys.expiry, time.time() * 1000, "+inf") == 4)
    return site, upstream


@pytest.fixture(scope="module")
def places(good: tuple[Site, Upstream], stack: ExitStack) -> dict[str, str]:
    """What the set-ups point to, made once for all of them."""
    site, upstream = good

    def server(configure: Callable[[Redis], object]) -> str:
        made = stack.enter_context(PrivateRedis())
        with Redis.from_url(made.url(0)) as redis:
            configure(redis)
        return made.url(0).removeprefix("redis://").removesuffix("/0")

    def evict(redis: Redis) -> None:
        redis.config_set("maxmemory", "100mb")
        redis.config_set("maxmemory-policy", "allkeys-lru")

    def follow(redis: Redis) -> None:
        redis.execute_command("REPLICAOF", host, port)

    address = site.broker_url.removeprefix("redis://").removesuffix("/0")
    host, port = address.split(":")
    _prepare(site)
    url = upstream.base_url
    fronts = {
        "moved": {"auth/token": 302},
        "throttling": {"auth/token": 429},
        "scoped": {"management/accounts": 403},
    }
    accounts_only = Upstream(accounts=4, accepts="account", audience="account")
    empty = Upstream(accounts=0)
    return {
        "server": address,
        "nowhere": "redis://127.0.0.1:1/0",
        "closed": "127.0.0.1:1",
        "plain": url.replace("http:", "https:"),
        "locked": server(lambda redis: redis.config_set("requirepass", PASSWORD)),
        "evicting": server(evict),
        "replica": server(follow),
        "old": f"127.0.0.1:{stack.enter_context(old_redis(int(port)))}",
        "fast": stack.enter_context(http_front(url, date_shift_seconds=60)),
        "accounts_only": stack.enter_context(accounts_only).base_url,
        "empty": stack.enter_context(empty).base_url,
    } | {name: stack.enter_context(http_front(url, what)) for name, what in fronts.items()}


def _prepare(site: Site) -> None:
    """Users, and namespaces in which something is as it should not be."""
    for user, rights in {
        "blind": "+@all -info",
        "reader": "+@read +@connection +select +info +time",
    }.items():
        given = ("on", f">{PASSWORD}", "~*", "&*", *rights.split())
        site.store.execute_command("ACL", "SETUSER", user, *given)
    with Redis.from_url(site.broker_url.removesuffix("0") + "3") as shared:
        shared.hset("unacked", "theirs", "…")
        shared.zadd("unacked_index", {"theirs": 1})
    now = time.time()
    gone, stopped, paused, suspended, quarantined = (
        PartnerKeys(name, PARTNER)
        for name in ("gone", "stopped", "paused", "suspended", "quarantined")
    )
    site.store.zadd(gone.expiry, {account(1): (now + 3600) * 1000})
    site.store.hset(stopped.fleet, "swept_at", int((now - 60) * 1000))
    pause = {"paused_until": int((now + 600) * 1e6), "pause_reason": "partner_token: answered 401"}
    site.store.hset(paused.limiter, mapping=pause)
    circuit = {
        "blame": "credential",
        "reason": "partner_token: answered 401",
        "opened_at": int(now * 1000),
        "probe_at": int((now + 600) * 1000),
        "trips": 6,
    }
    site.store.hset(suspended.circuit, mapping=circuit)
    site.store.zadd(quarantined.quarantine, {account(1): (now + 3600) * 1000})
    site.store.hset(quarantined.state(account(1)), "history", f"{int(now)}:refused_403")


@pytest.fixture(scope="module")
def told(
    good: tuple[Site, Upstream], places: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Finished]:
    """What doctor said of each set-up; four of them at a time."""
    site, _ = good
    folder = tmp_path_factory.mktemp("set-ups")

    def try_out(name: str, by: Callable[..., Finished]) -> Finished:
        set_up, where = SET_UPS[name], folder / name.replace(" ", "-").strip(".")
        where.mkdir()
        for file, text in set_up.files.items():
            (where / file).write_bytes(text.encode("utf-8", "surrogateescape"))
            (where / file).chmod(0o644)
        gone = set_up.without or ("nothing",)
        kept = {k: v for k, v in site.whole_environment.items() if not k.startswith(gone)}
        change = {k: v.format_map(places) for k, v in set_up.change.items()}
        return by(where, kept | change, *set_up.options.split())

    with ThreadPoolExecutor(max_workers=4) as pool:
        apart = pool.map(lambda name: try_out(name, doctor), IN_A_PROCESS)
        said = dict(zip(IN_A_PROCESS, apart, strict=True))
    return said | {name: try_out(name, doctor_here) for name in SET_UPS if name not in said}


def doctor(folder: Path, environment: dict[str, str], *options: str) -> Finished:
    """Run `subtokens doctor` in a folder, as a process."""
    done = subprocess.run(
        [sys.executable, "-m", "subtokens.workers.cli", "doctor", *options],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def doctor_here(folder: Path, environment: dict[str, str], *options: str) -> Finished:
    """Run it without a process of its own, which takes a second less; its warnings are errors."""
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(sys, "argv", ["subtokens", "doctor", *options]),
        chdir(folder),
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
        pytest.raises(SystemExit) as ended,
    ):
        run()
    return Finished(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def marks(out: str) -> set[str]:
    """The lines of a report that are not a ✓, by symbol and name."""
    return {line.split("  ")[0] for line in out.splitlines() if line.startswith(("!", "✗"))}


@pytest.mark.parametrize("name", SET_UPS)
def test_what_is_wrong_is_named_with_its_remedy(told: dict[str, Finished], name: str) -> None:
    expected, (code, out, err) = SET_UPS[name], told[name]
    assert not [word for word in expected.words.split("|") if word not in out + err], out + err
    assert (code, marks(out)) == (expected.code, expected.marks), out + err


@pytest.mark.parametrize("name", SET_UPS)
def test_a_report_holds_no_secret_and_no_traceback(told: dict[str, Finished], name: str) -> None:
    said = told[name].out + told[name].err
    assert not [secret for secret in ("Traceback", *SECRETS) if secret in said], said


@pytest.mark.parametrize("name", SET_UPS)
def test_each_line_that_is_no_check_mark_is_followed_by_a_remedy(
    told: dict[str, Finished], name: str
) -> None:
    lines = told[name].out.splitlines()
    for line, after in pairwise(lines):
        assert line.startswith(("!", "✗")) == after.startswith("  → "), line


def test_a_good_set_up_is_well_in_all_and_is_left_as_it_was(good: tuple[Site, Upstream]) -> None:
    site, upstream = good
    before, kept = upstream.last(), site.store.keys("subtokens:*token:*")
    code, out, err = doctor(site.folder, site.whole_environment)
    assert (code, marks(out), err) == (0, set(), ""), out + err
    assert out.endswith("All is well, in 19 checks.\n")
    calls = [(call.kind, call.status) for call in upstream.calls(before)]
    assert calls == [
        ("partner_token", 200),
        ("accounts", 200),
        ("exchange", 200),
        ("settings", 200),
        ("account_token", 200),
        ("settings", 401),
        ("account_token", 403),
    ]
    assert site.store.keys("subtokens:*token:*") == kept


def test_json_tells_the_same_in_one_object(good: tuple[Site, Upstream]) -> None:
    site, upstream = good
    before = upstream.last()
    code, out, _ = doctor(site.folder, site.whole_environment, "--json", "--no-calls")
    report = json.loads(out)
    assert (code, report["exit_code"]) == (0, 0)
    assert report["sentence"].startswith("All is well")
    assert {"name": "settings", "level": "ok", "text": f"usable, for {PARTNER}", "remedy": ""} in (
        report["findings"]
    )
    assert upstream.last() == before


def test_a_terminal_without_a_check_mark_does_not_stop_it(good: tuple[Site, Upstream]) -> None:
    site, _ = good
    plain = site.whole_environment | {"PYTHONIOENCODING": "latin-1"}
    code, out, err = doctor(site.folder, plain, "--no-calls")
    assert (code, err) == (0, "")
    assert out.startswith("? settings")
