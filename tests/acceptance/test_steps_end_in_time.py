"""A step that has started ends by its deadline and five seconds more, whatever is killed.

FAULTS_SEED repeats the kill times of another go; without it, they differ every time.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from celery import chain
from celery.canvas import Signature
from celery.states import READY_STATES, SUCCESS
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

import subtokens
from subtokens.workers.processes import Child

from .conftest import Site, Upstream, account_ids, await_ready, eventually, sending_by
from .test_canvas import step

pytestmark = [
    pytest.mark.kills,
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),  # by Celery
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc"),
]
ACCOUNTS = account_ids(1, 300)
GRACE_SECONDS = 5.0
SPARE_SECONDS = 3.5  # from a step's natural end to its deadline; `ensure` refuses less
SEEN_SECONDS = 25.0  # a step that is late is watched for so long, to tell by how much
KILLS = int(os.environ.get("FAULTS_KILLS", "6"))  # of each kind; 20 for the figures of a release
KILLS_OF_WAVES = max(2, KILLS // 2)
# What a killed worker had claimed is due again while the step still waits.
TIMES = {
    "call_timeout_seconds": 0.5,
    "batch_deadline_seconds": 1,
    "soft_limit_seconds": 2,
    "hard_limit_seconds": 3,
    "lease_seconds": 3.5,
}
# Of a run's id, when it ended and what Celery keeps of it: what is told, and is not so.
Judge = Callable[[Site, str, float, dict[str, Any]], list[str]]
# Whether it is time, by the seconds since the run was opened and by what the store holds of it.
When = Callable[[float, dict[bytes, bytes]], bool]
# What nothing can go on without is there again at the instant that it returns.
Kill = Callable[[], float | None]


class Stage:
    """Two workers that take everything, and a beat; what is killed is replaced."""

    def __init__(self, site: Site, *, has_beat: bool = True) -> None:
        self.site, self._number = site, count(1)
        # One that does not try again: a Redis that is gone must not stop the clock.
        self.results = Redis.from_url(site.broker_url, retry=Retry(NoBackoff(), 0))
        self.workers = [self._worker("one"), self._worker("two")]
        self.beat = self._beat() if has_beat else None
        await_ready(*self.workers)

    def _worker(self, name: str) -> Child:
        options = (f"--hostname={name}@test", "--include=probes")
        return self.site.worker(f"{name}-{next(self._number)}", *options)

    def _beat(self) -> Child:
        return self.site.celery(f"beat-{next(self._number)}", "beat", "--loglevel=INFO")

    def kill_worker(self, chance: random.Random) -> None:
        """With its group; a supervisor starts another at once."""
        self.replace(chance.randrange(2))

    def replace(self, place: int) -> None:
        self.workers[place].kill()
        self.workers[place] = self._worker(("one", "two")[place])

    def kill_workers(self) -> float:
        """Both at once; there can be no end before one of them is back."""
        for worker in self.workers:
            worker.kill()
        for place in (0, 1):
            self.replace(place)
        eventually(lambda: any("ready." in worker.said() for worker in self.workers))
        return time.time()

    def kill_pool_child(self, chance: random.Random) -> None:
        os.kill(chance.choice(children(chance.choice(self.workers).pid)), signal.SIGKILL)

    def kill_redis(self, _chance: random.Random) -> None:
        self.site.server.kill()
        self.site.server.start()

    def kill_beat(self, _chance: random.Random) -> None:
        if self.beat:
            self.beat.kill()

    def tidy(self) -> None:
        """Make it ready for the next step: all is there, and nothing goes on from the one before.

        Whoever was killed held claims and tickets; they are dropped here, not waited for.
        """
        site, keys = self.site, self.site.keys
        for place, worker in enumerate(self.workers):
            if not worker.is_alive:
                self.replace(place)
        await_ready(*self.workers)
        for worker in self.workers:
            # Told when it reconnects; the lines are its own, as each has a log of its own.
            eventually(lambda worker=worker: is_connected(worker), told=worker.said)
            eventually(lambda worker=worker: len(children(worker.pid)) == 2)
        if self.beat and not self.beat.is_alive:
            self.beat = self._beat()
            eventually(lambda: "beat: Starting" in self.beat.said())
        eventually(lambda: not site.store.zcard(keys.runs), within=SEEN_SECONDS)
        tickets = [key for key in keys.for_scripts if key.endswith("_tickets")]
        site.store.zadd(keys.due, dict.fromkeys(ACCOUNTS, 2e12), xx=True)
        held = [key for key in keys.for_scripts if key.endswith((":limiter", ":partner_lock"))]
        site.store.delete(keys.claims, *tickets, keys.failing, *held)
        for account in ACCOUNTS:
            site.store.hdel(keys.state(account), "attempts", "repeats", "is_final")


def is_connected(worker: Child) -> bool:
    """Whether the last it said of its broker is that it is there."""
    said = worker.said()
    return said.rfind("Connected to redis") > said.rfind("onnection to broker lost")


def children(pid: int) -> list[int]:
    """The processes of a worker's pool."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(") ")[2].split()[:2]
        except OSError:
            continue  # it has ended meanwhile
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


@dataclass(frozen=True)
class Outcome:
    """How one step went; seconds are from when its run was open."""

    seconds: float
    past_deadline: float
    ended: bool
    succeeded: bool
    killed_at: float | None
    untruths: list[str]
    end_id: str  # of the task after it
    story: str

    @property
    def in_time(self) -> bool:
        return self.ended and self.past_deadline <= GRACE_SECONDS


def play(
    stage: Stage,
    mine: "Signature[Any]",
    judge: Judge,
    kill: Kill = lambda: None,
    when: When = lambda _seconds, _run: False,
    every: float = 0.01,
) -> Outcome:
    """Send a step and another after it, kill when it is time, and see how it ends."""
    site = stage.site
    with sending_by(site.app):
        end = chain(mine, step("echo")).apply_async()
    run_id = end.parent.id
    kept = eventually(lambda: site.store.hgetall(site.keys.run(run_id)), every=0.001)
    opened_at, deadline_at = (int(kept[name]) / 1000 for name in (b"opened_at", b"deadline_at"))
    killed_at, back_at, ended_at = None, 0.0, 0.0
    meta: dict[str, Any] = {"status": "no end", "result": None}
    while not ended_at and (now := time.time()) <= deadline_at + SEEN_SECONDS:
        if killed_at is None and when(now - opened_at, kept):
            killed_at = now - opened_at
            back_at = kill() or 0.0
        elif killed_at is None:
            kept = site.store.hgetall(site.keys.run(run_id)) or kept
        time.sleep(every)
        if found := result_of(stage, run_id):
            meta, ended_at = found, time.time()
    if killed_at is None:
        kill()  # it ended sooner than the others; the next step finds the same
    ended_at = ended_at or time.time()
    untruths = judge(site, run_id, ended_at, meta)
    return Outcome(
        ended_at - opened_at,
        ended_at - max(deadline_at, back_at),
        meta["status"] in READY_STATES,
        meta["status"] == SUCCESS,
        killed_at,
        untruths,
        end.id,
        f"{run_id} {mine.task} opened at {opened_at:.3f}, killed at {killed_at or -1:.3f} s, "
        f"{meta['status']} after {ended_at - opened_at:.2f} s: {meta['result']!r}",
    )


def result_of(stage: Stage, task_id: str) -> Any:
    """A task's result with its state, once it has ended and a Redis is there to tell."""
    backend = stage.site.app.backend
    try:
        kept = stage.results.get(backend.get_key_for_task(task_id))
    except RedisError:
        return None
    meta = backend.meta_from_decoded(backend.decode_result(kept)) if kept else {"status": ""}
    return meta if meta["status"] in READY_STATES else None


def count_of(site: Site, run_id: str, part: str) -> int:
    return int(site.store.scard(site.keys.run(run_id, part)))


def members(site: Site, run_id: str, part: str) -> set[str]:
    return {member.decode() for member in site.store.smembers(site.keys.run(run_id, part))}


def false_counts(site: Site, run_id: str, ended_at: float, meta: dict[str, Any]) -> list[str]:
    """What its counts and its error say that is not so."""
    succeeded, result = meta["status"] == SUCCESS, meta["result"]
    if not succeeded and not isinstance(result, subtokens.RunFailedError):
        return [f"it ended with {result!r}"]
    counts = result if succeeded else result.summary
    found, told = [], (counts["done"], sum(counts["failed"].values()), counts["open"])
    kept = site.store.hgetall(site.keys.run(run_id))
    is_halted = kept[b"filling"] == b"1"
    # An `ensure` attaches those alone whose token would not last.
    if sum(told) != len(ACCOUNTS) and not is_halted and "valid" not in counts:
        found.append(f"{told} do not add up to {len(ACCOUNTS)}")
    if told[0] != count_of(site, run_id, "done") or told[2] != count_of(site, run_id, "open"):
        found.append(f"{told} is not what the store knows")
    if not succeeded and is_halted and "its deadline came before all" not in str(result):
        found.append(f"it does not say that it was halted: {result}")
    if not succeeded and counts["open"] and ended_at < int(kept[b"deadline_at"]) / 1000:
        found.append(f"it gave up before its deadline: {result}")
    return found


def false_tokens(site: Site, run_id: str, ended_at: float, meta: dict[str, Any]) -> list[str]:
    """What its counts and its error say that is not so, as the readers of tokens see it."""
    found = false_counts(site, run_id, ended_at, meta)
    if found:
        return found
    opened_ms = int(site.store.hget(site.keys.run(run_id), "opened_at"))
    with site.reader() as reader:
        held = reader.get_many(ACCOUNTS, valid_for="2h")
    is_new = {account for account, record in held.items() if record.issued_ms >= opened_ms}
    if false := members(site, run_id, "done") - is_new:
        found.append(f"{len(false)} are told as done, and have no new token: {min(false)}")
    if len({record.access_token for record in held.values()}) != len(held):
        found.append("accounts share a token")
    if meta["status"] == SUCCESS and len(is_new) != len(ACCOUNTS):
        found.append(f"it succeeded, and {len(is_new)} accounts have a new token")
    return found


def told(kind: str, outcomes: list[Outcome], natural: float, stage: Stage) -> str:
    """A row of the table, under its head."""
    going_on = [outcome for outcome in outcomes if outcome.succeeded]
    ends_at = time.monotonic() + 3
    while not all(has_gone_on(stage, outcome) for outcome in going_on):
        if time.monotonic() > ends_at:
            break  # what comes after a step is the user's, who chose how it is acknowledged
        time.sleep(0.05)
    row = {
        "killed": kind,
        "steps": len(outcomes),
        "in time": sum(outcome.in_time for outcome in outcomes),
        "success": sum(outcome.succeeded for outcome in outcomes),
        "failed": sum(outcome.ended and not outcome.succeeded for outcome in outcomes),
        "untrue": sum(bool(outcome.untruths) for outcome in outcomes),
        "next ran": sum(has_gone_on(stage, outcome) for outcome in outcomes),
        "past natural end": f"{max(o.seconds for o in outcomes) - natural:.2f} s",
        "past deadline": f"{max(o.past_deadline for o in outcomes):.2f} s",
    }
    widths = [max(len(name), len(str(cell)), 11) + 2 for name, cell in row.items()]
    lines = [f"undisturbed {natural:.2f} s, deadline {natural + SPARE_SECONDS:.2f} s"]
    lines += [
        "".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        for cells in (row.keys(), row.values())
    ]
    return "\n".join(lines) + "\n"


def has_gone_on(stage: Stage, outcome: Outcome) -> bool:
    """Whether the task after the step has run; Celery keeps a failed step's error for it too."""
    found = result_of(stage, outcome.end_id)
    return bool(found) and found["status"] == SUCCESS


def stories(outcomes: list[Outcome]) -> str:
    return "\n".join(
        f"{'' if o.in_time else 'TOO LATE '}{o.story} {'; '.join(o.untruths)}" for o in outcomes
    )


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(accounts=len(ACCOUNTS), latency_seconds=0.05) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def stage(
    redis_server: object, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("killed") / "here"
    settings = TIMES | {"rate_limit": 200, "discovery_interval_seconds": 0}
    with Site(folder, upstream.base_url, append_only=True, **settings) as site:
        site.enrol(ACCOUNTS)
        stage = Stage(site)
        eventually(lambda: upstream.has_exchanged(ACCOUNTS))
        yield stage


@pytest.fixture(scope="module")
def seed() -> int:
    return int(os.environ.get("FAULTS_SEED") or time.time())


def a_step(stage: Stage, number: int, timeout: float) -> "Signature[Any]":
    """By turns the two that exchange; each finds that all accounts need a token."""
    site = stage.site
    if number % 2:
        return subtokens.fan_out.si(timeout=timeout)
    soon = dict.fromkeys(ACCOUNTS, int((time.time() + 60) * 1000))
    site.store.zadd(site.keys.expiry, soon)
    return subtokens.ensure.si(valid_for="2h", timeout=timeout)


@pytest.fixture(scope="module")
def natural(stage: Stage) -> float:
    """How long a step takes that nobody disturbs; the first of all warms the workers up."""
    seconds = []
    for number in range(5):
        stage.tidy()
        outcome = play(stage, a_step(stage, number, 30), false_tokens)
        assert outcome.succeeded, outcome.story
        assert not outcome.untruths, outcome.untruths
        seconds.append(outcome.seconds)
    return median(seconds[1:])


def hold_out(
    stage: Stage,
    kind: str,
    kills: int,
    natural: float,
    seed: int,
    steps: Callable[[int], "Signature[Any]"],
    judge: Judge,
) -> None:
    """Kill at so many instants, spread over a step's life, in a step of its own each."""
    chance, outcomes = random.Random(f"{seed} {kind} {kills}"), []
    for number in range(kills):
        stage.tidy()
        kill_at = natural * (number + chance.random()) / kills
        outcomes.append(
            play(
                stage,
                steps(number),
                judge,
                lambda: getattr(stage, f"kill_{kind}")(chance),
                lambda seconds, _run, kill_at=kill_at: seconds >= kill_at,
            )
        )
    table = f"FAULTS_SEED={seed} {told(kind, outcomes, natural, stage)}"
    odd = [outcome for outcome in outcomes if not outcome.in_time or outcome.untruths]
    sys.stdout.write(table + stories(outcomes))
    assert not odd, table + stories(odd)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["worker", "pool_child", "redis", "beat"])
def test_a_step_ends_by_its_deadline_whatever_is_killed(
    stage: Stage, natural: float, seed: int, kind: str
) -> None:
    def steps(number: int) -> "Signature[Any]":
        return a_step(stage, number, natural + SPARE_SECONDS)

    hold_out(stage, kind, KILLS, natural, seed, steps, false_tokens)


# The user's task for every account


def ran(site: Site, name: str) -> set[str]:
    return {entry.decode() for entry in site.broker.lrange(f"probe:{name}", 0, -1)}


def waves(stage: Stage, name: str, timeout: float) -> "Signature[Any]":
    """A task of 20 ms for each account; all of them hold a token."""
    site = stage.site
    late = dict.fromkeys(ACCOUNTS, int((time.time() + 3 * 3600) * 1000))
    site.store.zadd(site.keys.expiry, late)
    return subtokens.for_each_account.si(step("settle", name, "", 0.02), timeout=timeout)


def false_waves(site: Site, run_id: str, ended_at: float, meta: dict[str, Any]) -> list[str]:
    """What its counts say that is not so, as the user's tasks see it. The run has their name."""
    found = false_counts(site, run_id, ended_at, meta)
    kept = site.store.hget(site.keys.run(run_id), "message")
    name = json.loads(kept.split(b" ", 2)[2])["args"][0]  # behind its signature
    done, late = members(site, run_id, "done"), members(site, run_id, "open")
    failed = members(site, run_id, "failed:failed") | members(site, run_id, "failed:no_token")
    if false := done - ran(site, name):
        found.append(f"{len(false)} are told as done, and their task never ran: {min(false)}")
    if unknown := set(ACCOUNTS) - done - late - failed:
        found.append(f"{len(unknown)} are in no count: {min(unknown)}")
    return found


@pytest.mark.timeout(200)
def test_a_task_for_each_account_ends_by_its_deadline_when_a_worker_is_killed(
    stage: Stage, seed: int
) -> None:
    seconds = []
    for number in range(3):
        stage.tidy()
        outcome = play(stage, waves(stage, f"calm-{number}", 30), false_waves)
        assert outcome.succeeded, outcome.story
        assert not outcome.untruths, outcome.untruths
        seconds.append(outcome.seconds)
    natural = median(seconds)

    def steps(number: int) -> "Signature[Any]":
        return waves(stage, f"killed-{number}", natural + SPARE_SECONDS)

    hold_out(stage, "worker", KILLS_OF_WAVES, natural, seed, steps, false_waves)


# Without any beat, and with an upstream of no use

TROUBLE: dict[str, dict[str, float]] = {
    "no_partner_token": {"error_share": 1.0},
    "errors": {"error_share": 1.0},
    "no_answers": {"latency_seconds": 8.0},  # less than a call's limit, and not in time
}


@pytest.fixture(scope="module")
def dark_stage(
    redis_server: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stage, Upstream]]:
    """No beat, and all times are the defaults; no call was ever made."""
    folder = tmp_path_factory.mktemp("dark") / "here"
    with (
        Upstream(accounts=len(ACCOUNTS)) as upstream,
        Site(
            *(folder, upstream.base_url),
            append_only=True,
            discovery_interval_seconds=0,
            log_level="DEBUG",
        ) as site,
    ):
        site.enrol(ACCOUNTS)
        site.store.zadd(site.keys.due, dict.fromkeys(ACCOUNTS, 2e12))
        yield Stage(site, has_beat=False), upstream


@pytest.fixture(autouse=True)
def _nothing_of_the_dark_goes_on(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "dark_stage" in request.fixturenames:
        stage, _ = request.getfixturevalue("dark_stage")
        for worker in stage.workers:
            worker.kill()


def get_a_partner_token(stage: Stage) -> None:
    if not stage.site.store.exists(stage.site.keys.partner):
        with sending_by(stage.site.app):
            subtokens.exchange.si(ACCOUNTS[0]).apply_async().get(timeout=30)
        stage.tidy()


@pytest.mark.parametrize(
    ("trouble", "name", "killed"),
    [
        ("no_partner_token", "fan_out", "its_worker"),
        ("no_partner_token", "fan_out", "redis"),
        ("no_partner_token", "ensure", "its_worker"),
        ("no_partner_token", "ensure", "redis"),
        ("errors", "fan_out", "nothing"),
        ("errors", "fan_out", "its_worker"),
        ("errors", "fan_out", "redis"),
        ("no_answers", "fan_out", "its_worker"),
        ("no_answers", "fan_out", "redis"),
    ],
)
def test_without_beat_a_step_ends_by_its_deadline_although_no_account_gets_a_token(
    dark_stage: tuple[Stage, Upstream], trouble: str, name: str, killed: str
) -> None:
    stage, upstream = dark_stage
    site = stage.site
    stage.tidy()
    if trouble != "no_partner_token":
        get_a_partner_token(stage)
    mine = {
        "fan_out": lambda: subtokens.fan_out.si(timeout=3),
        "ensure": lambda: subtokens.ensure.si(valid_for="2h", timeout=3),
    }[name]()

    def kill() -> None:
        (run_id,) = (run.decode() for run in site.store.zrange(site.keys.runs, 0, -1))
        assert site.store.hget(site.keys.run(run_id), "filling") == b"0", "it is not parked yet"
        received = f"{mine.task}[{run_id}] received"
        if killed == "its_worker":
            (parker,) = (worker for worker in stage.workers if received in worker.said())
            parker.kill()
        elif killed == "redis":
            stage.kill_redis(random.Random())

    with upstream.troubled(**TROUBLE[trouble]):
        outcome = play(stage, mine, false_counts, kill, lambda seconds, _run: seconds > 1)
    sys.stdout.write(f"{outcome.past_deadline:.2f} s past its deadline: {outcome.story}")
    assert outcome.in_time, outcome.story
    assert not outcome.succeeded
    assert not outcome.untruths, outcome.untruths


def test_without_beat_a_worker_goes_on_watching_when_its_broker_is_back(
    dark_stage: tuple[Stage, Upstream],
) -> None:
    stage, _ = dark_stage
    stage.tidy()
    before = [watches(worker) for worker in stage.workers]
    eventually(lambda: sum(map(watches, stage.workers)) > sum(before) + 2, within=5)
    stage.kill_redis(random.Random())
    eventually(lambda: not any(map(is_connected, stage.workers)), within=5)
    eventually(lambda: all(map(is_connected, stage.workers)), within=10)
    since = sum(map(watches, stage.workers))
    eventually(lambda: sum(map(watches, stage.workers)) > since + 4, within=10)


def watches(worker: Child) -> int:
    """How often it has looked after the runs."""
    return worker.said().count("Task subtokens.watch_runs[")


# What its run holds when it has come so far; the next command is not sent any more.
MOMENTS: dict[str, Callable[[dict[bytes, bytes]], bool]] = {
    "opened": lambda run: True,
    "parked": lambda run: run[b"filling"] == b"0",
    "ended": lambda run: b"ended_at" in run,
    "sent again": lambda run: b"release_lease" in run,
    "taken up": lambda run: b"resume_lease" in run,
}


@pytest.mark.parametrize("kind", ["workers", "redis"])
def test_without_beat_a_step_ends_in_time_when_it_is_killed_at_any_moment_that_counts(
    dark_stage: tuple[Stage, Upstream], kind: str
) -> None:
    stage, upstream = dark_stage
    kill = {"workers": stage.kill_workers, "redis": lambda: stage.kill_redis(random.Random())}
    outcomes = {}
    for moment, has_come in MOMENTS.items():
        stage.tidy()
        get_a_partner_token(stage)
        with upstream.troubled(error_share=1.0):
            outcomes[moment] = play(
                stage,
                subtokens.fan_out.si(timeout=2),
                false_counts,
                kill[kind],
                lambda _seconds, run, has_come=has_come: has_come(run),
                every=0,  # some last for a few milliseconds
            )
    story = "\n".join(
        f"{moment}: {outcome.past_deadline:.2f} s past its deadline: {outcome.story} "
        f"{'; '.join(outcome.untruths)}"
        for moment, outcome in outcomes.items()
    )
    sys.stdout.write(story)
    assert all(outcome.in_time and not outcome.untruths for outcome in outcomes.values()), story
