"""No token and no secret leaves where it belongs, whatever happens.

One deployment, as talkative as can be, lives through success, failure, crash and outage; after each
every place is searched where something may be left behind. What is searched: each command that
Redis was sent, what it keeps, results with their tracebacks, our events and Celery's, the logs,
what the commands print, and what Flower shows. In the end a token is planted in each place, and
found there.
"""

import json
import os
import signal
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

import pytest
from celery import chain
from celery.canvas import Signature

import subtokens
from subtokens.workers.private_redis import free_port
from subtokens.workers.processes import Child

from .conftest import (
    CANARY_SECRET,
    DEADLINE_SECONDS,
    PARTNER,
    Site,
    Upstream,
    account,
    account_ids,
    await_ready,
    eventually,
    sending_by,
)
from .fronts import http_front
from .searching import PLANTED, REDIS_PASSWORD, Traffic, kept, secrets_in, traffic_of

pytestmark = pytest.mark.faults

ACCOUNTS = account_ids(1, 40)
INACTIVE = ACCOUNTS[38:]
FLOWER_PASSWORD = "CANARY-flower-password"
WORKER = ("--loglevel=DEBUG", "-E", "--include=probes,faulty")
# What an upstream may answer with instead of a token, and each holds one.
BAD_ANSWERS: list[tuple[int, bytes]] = [
    (200, PLANTED.encode()),
    (200, json.dumps({"access_token": PLANTED, "token_type": "Bearer"}).encode()),
    (200, json.dumps({"access_token": PLANTED, "token_type": PLANTED, "expires_in": 9}).encode()),
    (200, json.dumps({"access_token": [PLANTED], "expires_in": PLANTED}).encode()),
    (200, json.dumps({PLANTED: PLANTED}).encode()),
    (200, f'{{"access_token": "{PLANTED}\\r\\nX: y", "token_type": "Bearer"'.encode()),
    (200, PLANTED.encode() * 2000),
    *((status, PLANTED.encode()) for status in (302, 400, 401, 403, 404, 418, 500, 503)),
]


class Stage:
    """The deployment, and all places where something may be left behind."""

    def __init__(self, site: Site, upstream: Upstream, answers: dict[str, Any]) -> None:
        self.site, self.upstream, self.answers = site, upstream, answers
        self.processes: dict[str, Child] = {}
        self.said: list[str] = []
        self.results: list[str] = []
        self.flower_url = ""

    def start(self, name: str, *command: str) -> Child:
        self.processes[name] = self.site.celery(name, *command)
        return self.processes[name]

    def start_worker(self, name: str) -> Child:
        common = (f"--hostname={name}@test", "--concurrency=2", "--without-mingle")
        worker = self.start(name, "worker", *common, *WORKER)
        await_ready(worker)
        return worker

    def tell(self, *commands: str, **environment: str) -> list[int]:
        """Run commands at once, each to its end; what they print is searched."""
        whole = self.site.whole_environment | environment
        done = self.site.cli_together(
            {line: tuple(line.split()) for line in commands}, dict.fromkeys(commands, whole)
        )
        self.said.extend(f"{line}: {one.out}{one.err}" for line, one in done.items())
        return [one.code for one in done.values()]

    def heal(self) -> None:
        """Have a token for every account again."""
        step = subtokens.fan_out.si(timeout=25, retry=True, policy=0.9)
        assert self.send(step)["done"] == len(ACCOUNTS) - len(INACTIVE)

    def send(self, step: Any, **options: Any) -> Any:
        """Send it and wait for its end; what is kept of it is searched."""
        result = step.apply_async(**options)
        answer = result.get(timeout=DEADLINE_SECONDS, propagate=False)
        self.results.append(
            f"{answer!r} {answer} {result.traceback} {vars(answer)!r}"
            if isinstance(answer, BaseException)
            else repr(answer)
        )
        return answer

    def flower(self, path: str, body: bytes | None = None, password: str = FLOWER_PASSWORD) -> str:
        """What Flower answers to a GET, or to a POST with a body; an error too."""
        access = b64encode(f"ops:{password}".encode()).decode()
        request = urllib.request.Request(
            self.flower_url + path, body, {"Authorization": f"Basic {access}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.read().decode()
        except HTTPError as error:
            with error:
                return f"{error.code} {error.read().decode()}"

    def flower_pages(self) -> dict[str, str]:
        """All that Flower shows."""
        tasks = json.loads(self.flower("/api/tasks?limit=1000"))
        assert tasks, "Flower has seen no task: it proves nothing"
        failed = [one for one, task in tasks.items() if task["state"] == "FAILURE"][:6]
        some = [*failed, *list(tasks)[:4]]
        workers = list(json.loads(self.flower("/api/workers?refresh=1")))
        paths = [
            *("/api/tasks?limit=1000", "/api/task/types", "/api/workers?refresh=1"),
            *("/api/queues/length", "/metrics", "/healthcheck", "/", "/workers", "/tasks"),
            "/broker",
            *(
                f"/{kind}/{one}"
                for kind in ("task", "api/task/info", "api/task/result")
                for one in some
            ),
            *(f"/worker/{quote(name)}" for name in workers),
        ]
        return {path: self.flower(path) for path in paths}

    def places(self, traffic: Traffic) -> dict[str, bytes]:
        """Every place, with all that is in it now."""
        site = self.site
        return {
            "traffic": traffic.so_far(),
            "broker and results": kept(site.broker),
            "store": kept(site.store),
            "our events": repr(site.store.xrange(site.keys.events)).encode(),
            "slow log": repr(site.store.execute_command("SLOWLOG", "GET", "10000")).encode(),
            "results with tracebacks": "\n".join(self.results).encode(),
            "commands": "".join(self.said).encode(),
            "Flower": "\n".join(self.flower_pages().values()).encode(),
            **{f"log of {name}": child.said().encode() for name, child in self.processes.items()},
        }

    def assert_clean(self, traffic: Traffic) -> None:
        places = self.places(traffic)
        assert secrets_in(places) == {}
        assert [place for place, text in places.items() if len(text) < 100] == []


@pytest.fixture(scope="module")
def stage(redis_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("leaks")
    answers: dict[str, Any] = {}
    with (
        Upstream(accounts=40, inactive=2, refresh_tokens=True) as upstream,
        http_front(upstream.base_url, answers) as base_url,
        Site(
            folder / "here",
            base_url,
            append_only=True,
            log_level="DEBUG",
            token_kind="account",
            call_timeout_seconds=2,
            batch_deadline_seconds=3,
            soft_limit_seconds=4,
            hard_limit_seconds=5,
            lease_seconds=6,
        ) as site,
    ):
        allow(site)
        host = urlsplit(site.broker_url).netloc
        for number, name in enumerate(("BROKER_URL", "STORE_URL")):
            site.environment[f"SUBTOKENS_{name}"] = f"redis://all:{REDIS_PASSWORD}@{host}/{number}"
        port = free_port()
        site.environment["FLOWER_BASIC_AUTH"] = f"ops:{FLOWER_PASSWORD}"
        site.environment["FAULTY"] = str(folder / "faulty")
        stage = Stage(site, upstream, answers)
        stage.start("events", "events", "--dump")
        stage.start("beat", "beat", "--loglevel=DEBUG")
        flower = stage.start(
            "flower",
            "flower",
            f"--port={port}",
            "--address=127.0.0.1",
            "--inspect_timeout=300",
            "--read_only",
            "--logging=debug",
        )
        stage.flower_url = f"http://127.0.0.1:{port}"
        eventually(lambda: "Visit me" in flower.said() or not flower.is_alive, told=flower.said)
        stage.start_worker("first")
        site.enrol(INACTIVE)
        with sending_by(site.app):
            yield stage


def allow(site: Site) -> None:
    """A user of Redis whose password is searched for, and a log of all; a restart forgets both."""
    rules = ("on", f">{REDIS_PASSWORD}", "~*", "&*", "+@all")
    site.broker.execute_command("ACL", "SETUSER", "all", "reset", *rules)
    site.broker.config_set("slowlog-max-len", 10_000)
    site.broker.config_set("slowlog-log-slower-than", 0)


def test_success_leaves_nothing_behind(stage: Stage) -> None:
    with traffic_of(stage.site.broker_url) as traffic:
        echo = Signature("probe.echo", options={"queue": "subtokens.exchange"})
        summary = stage.send(
            chain(subtokens.discover.si(), subtokens.fan_out.si(account_ids=ACCOUNTS[:10]), echo)
        )
        assert summary["done"] == 10
        settle = Signature("probe.echo", options={"queue": "subtokens.exchange"})
        assert stage.send(subtokens.for_each_account.si(settle, policy=0.2))["done"] >= 10
        with stage.site.reader() as reader:
            reader.reject(reader.get(account(1)))
        one = account(1)
        codes = stage.tell(
            *(f"token {one}", f"token {one} --json", f"explain {one}", f"explain {one} --json"),
            *("status", "status --json", "accounts list", "accounts list --json", "acl"),
            *("keys status", "keys status --json", f"keys derive --partner {PARTNER}"),
            *(f"exchange {account(2)}", f"ensure --valid-for 1m {account(3)}", "keys generate"),
            *("accounts discover", "accounts import -", "doctor", "doctor --json"),
        )
        assert codes.count(0) >= 15, stage.said
        stage.assert_clean(traffic)


def test_failure_leaves_nothing_behind(stage: Stage) -> None:
    bad = cycle(BAD_ANSWERS)
    whole = subtokens.fan_out.si(timeout=1.5, retry=True)
    with traffic_of(stage.site.broker_url) as traffic:
        refused = stage.send(subtokens.fan_out.si(account_ids=INACTIVE, retry=True))
        assert set(refused.summary["failed"]) == {"refused_403"}
        with stage.upstream.troubled(error_share=1.0):
            assert isinstance(stage.send(whole), subtokens.RunFailedError)
            stage.tell(f"exchange {account(11)} --timeout 1s")
            stage.send(subtokens.discover.si())
        for end in ("/auth/exchange_token", "/auth/token", "/management/accounts"):
            stage.answers[end] = lambda _: next(bad)
            assert isinstance(stage.send(whole), subtokens.RunFailedError)
            stage.send(subtokens.discover.si())
            stage.tell("accounts discover", "doctor")
            stage.answers.clear()
        assert "invalid_answer" in stage.processes["first"].said()
        wrong = {"SUBTOKENS_CLIENT_SECRET": CANARY_SECRET + "-wrong"}
        stage.tell("accounts discover", "doctor", SUBTOKENS_NAMESPACE="other", **wrong)
        assert "401" in stage.said[-2], stage.said[-2]
        stage.assert_clean(traffic)


def test_a_crash_leaves_nothing_behind(stage: Stage) -> None:
    stage.heal()
    faulty = Path(stage.site.environment["FAULTY"])
    with traffic_of(stage.site.broker_url) as traffic:
        faulty.touch()  # from now on something unexpected happens where locals hold tokens
        failed = stage.send(subtokens.discover.si())
        assert isinstance(failed, AssertionError)
        assert "in parsed" in stage.results[-1]  # its traceback is kept
        stage.send(subtokens.fan_out.si(timeout=1.5, retry=True))
        assert "accounts.abandoned" in stage.processes["first"].said()
        stage.site.store.delete(stage.site.keys.partner)
        stage.start_worker("second")  # knows no partner token, and gets none
        stage.send(subtokens.fan_out.si(timeout=1.5, retry=True))
        faulty.unlink()
        with stage.upstream.troubled(latency_seconds=1.0):
            step = subtokens.fan_out.si(timeout=5, retry=True).apply_async()
            run = stage.site.keys.run(
                step.id
            )  # parked: a message that dies would be long in coming
            eventually(lambda: stage.site.store.hexists(run, "continuation"))
            before = stage.upstream.last()
            eventually(lambda: stage.upstream.calls(before))
            for pid in pool_of(stage.processes["first"]):
                os.kill(pid, signal.SIGKILL)
            stage.processes["second"].kill()
            step.get(timeout=DEADLINE_SECONDS, propagate=False)
        eventually(lambda: "SIGKILL" in stage.processes["first"].said())
        stage.assert_clean(traffic)


def test_an_outage_of_redis_leaves_nothing_behind(stage: Stage) -> None:
    stage.heal()
    subtokens.fan_out.si(timeout=20, retry=True).apply_async()
    stage.site.server.kill()
    log = stage.processes["first"]
    eventually(lambda: "Connection" in log.said()[-5000:])
    stage.tell("status", f"exchange {account(1)}", "doctor", f"token {account(1)}")
    stage.site.server.start()
    eventually(lambda: "WRONGPASS" in log.said() or "invalid username" in log.said())
    stage.tell("status", "doctor")
    allow(stage.site)
    with traffic_of(stage.site.broker_url) as traffic:
        stage.heal()
        stage.assert_clean(traffic)


def test_flower_as_it_is_documented_shows_and_changes_nothing_for_others(stage: Stage) -> None:
    attack = json.dumps({"args": [ACCOUNTS], "kwargs": {}}).encode()
    assert stage.flower("/api/task/async-apply/subtokens.forget", attack).startswith("403")
    assert stage.flower("/api/worker/shutdown/first@test", b"").startswith("403")
    assert stage.flower("/api/tasks", password="wrong").startswith("401")
    assert "first@test" in stage.flower("/api/workers?refresh=1")


def test_a_token_that_is_planted_in_a_place_is_found_there(stage: Stage) -> None:
    stage.heal()
    site, echo = stage.site, "probe.echo"
    with traffic_of(site.broker_url) as traffic:
        assert secrets_in(stage.places(traffic)) == {}
        stage.send(Signature(echo, (PLANTED,), options={"queue": "subtokens.exchange"}))
        stage.send(Signature("faulty.fail", (PLANTED,), options={"queue": "subtokens.exchange"}))
        site.store.xadd(site.keys.events, {"event": PLANTED})
        site.store.hset("planted", "field", PLANTED)
        stage.tell(f"token {account(1)} --reveal")
        for name in stage.processes:
            with site.log_of(name).open("a") as log:
                log.write(PLANTED)
        eventually(lambda: PLANTED in stage.flower("/api/tasks?limit=1000"))
        places = stage.places(traffic)
        assert sorted(secrets_in(places)) == sorted(places)
        # And on each page of Flower that tells of a task.
        shown = [path for path, page in stage.flower_pages().items() if PLANTED[:24] in page]
        assert {path.rpartition("/")[0] for path in shown} >= {
            *("/api", "/task", "/api/task/info", "/api/task/result")
        }


def pool_of(worker: Child) -> list[int]:
    """The processes of its pool."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()
    return [int(pid) for pid in children.split()]
