"""What whoever can write to the broker, to the store or to the rejections alone can and cannot do.

Real workers get hostile messages; each must end in an error that names the fault, with no traceback
that holds a secret, nobody else's keys touched, and the fleet as well as before.
"""

import base64
import json
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

import subtokens
from subtokens.config.queues import EXCHANGE_QUEUE, QUEUES, SWEEP_QUEUE
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.workers.processes import Child

from .conftest import (
    DEADLINE_SECONDS,
    PARTNER,
    Site,
    Upstream,
    account,
    account_ids,
    await_ready,
    eventually,
    partners_file,
    sending_by,
)
from .fronts import serving
from .searching import kept, secrets_in

OTHER = "T11300000"
RATE = 2000
TASKS = (
    *("account_done", "discover", "ensure", "exchange", "fan_out", "for_each_account", "forget"),
    *("reject", "renew_due", "watch_runs", "work"),
)
OURS, THEIRS = account_ids(1, 40), [f"T113{number:05}" for number in range(1, 21)]


class Stage(NamedTuple):
    site: Site
    worker: Child
    upstreams: tuple[Upstream, Upstream]
    elsewhere: str  # where a token would be sent to
    visitors: list[str]


@pytest.fixture(scope="module")
def stage(redis_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two partners, a token for each account of theirs, and a place where no token may arrive."""
    visitors: list[str] = []

    class Elsewhere(BaseRequestHandler):
        def handle(self) -> None:
            visitors.append(repr(self.request.recv(65_536)))

    folder = tmp_path_factory.mktemp("attacks")
    with (
        Upstream(accounts=40) as upstream,
        Upstream(accounts=20, partner_id=OTHER) as other,
        serving(ThreadingTCPServer(("127.0.0.1", 0), Elsewhere)) as port,
    ):
        file = partners_file(folder, {upstream: RATE, other: RATE})
        with Site(folder / "site" / "here", "", partners_file=file) as site:
            worker = site.worker("worker", "--loglevel=DEBUG", "--include=probes")
            await_ready(worker)
            with sending_by(site.app):
                for partner_id in (PARTNER, OTHER):
                    subtokens.discover.si(partner_id=partner_id).apply_async().get(
                        timeout=DEADLINE_SECONDS
                    )
                    subtokens.ensure.si(valid_for="30m", partner_id=partner_id).apply_async().get(
                        timeout=DEADLINE_SECONDS
                    )
                yield Stage(
                    site, worker, (upstream, other), f"http://127.0.0.1:{port}/v1", visitors
                )


HUGE_LIST = [account(number) for number in range(1, 30_000)]
NESTED: Any = {"a": [{"b": [[[["c"]]]]}]}
NO_IDS = [
    *(
        "../../etc/passwd",
        "T11200001/../../T11300000",
        "http://127.0.0.1:1/x",
        "*",
        "",
        "T1120000\uff11",
    ),
    *("T11200001\n", "T11200001\r\nAuthorization: Bearer x", "subtokens:{T11200000}:partner"),
    *(None, 7, True, 1e300, ["T11200001"], NESTED, PARTNER, "P11300001", "x" * 100_000),
]
NO_LISTS = [*([bad] for bad in NO_IDS), "T11200001", 7, True, NESTED, HUGE_LIST, [[account(1)]]]
NO_PARTNERS = ["T11900000", "../T11200000", "http://127.0.0.1:1", 7, ["T11200000"], NESTED, "*", []]
NO_NUMBERS = ["1; DEL", [], NESTED, float("nan"), float("inf"), 10**400, -1]
NO_GENERATIONS = ["1; DEL", [], NESTED, float("nan"), 1.5, None]
NO_REASONS = [7, NESTED, "x" * 1000, "a b\n"]
NO_NAMES = ["../x", "x" * 1000, "a b", "", 7, NESTED, [], "{T11200000}:partner*"]
NO_TICKETS = ["x" * 1000, 7, NESTED, [], None]
NO_RUNS = ["", "x:open", "a b", "../x", "x" * 100_000, 7, None, NESTED, f"{OTHER}:run"]
NO_SIGNATURES = [
    *(None, 7, "probe.echo", [], {}, {"task": 7}, {"task": None, "args": []}),
    *({"task": "probe.echo"}, {"task": "probe.echo", "args": "x"}),
    {"task": "probe.echo", "args": [], "kwargs": [], "options": {}},
    {"task": "probe.echo", "args": [], "kwargs": {}, "options": "x"},
]
# Signatures by their form, of which no message can be made.
UNSENDABLE: list[dict[str, Any]] = [
    {"task": "probe.echo", "options": {"countdown": "soon"}},
    {"task": "probe.echo", "options": {"connection": "redis://x"}},
    {"task": "probe.echo", "options": {"serializer": "none-such"}},
    {"task": "probe.echo", "options": {"link": "x", "queue": [1]}},
    {"task": "celery.chain", "kwargs": {"tasks": 7}, "subtask_type": "chain"},
    {"task": "celery.chord", "subtask_type": "chord"},
]


class Attack(NamedTuple):
    name: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


OURSELVES = {"partner_id": PARTNER}
GOOD = {"task": "probe.echo", "args": [], "kwargs": {}, "options": {"queue": EXCHANGE_QUEUE}}
# Every task, with every argument spoilt in every way.
WAYS: list[tuple[list[Any], Callable[[Any], tuple[str, tuple[Any, ...], dict[str, Any]]]]] = [
    (NO_IDS, lambda bad: ("exchange", (bad,), OURSELVES)),
    (NO_IDS, lambda bad: ("reject", (bad, 1), OURSELVES)),
    (NO_IDS, lambda bad: ("account_done", ("run", bad), OURSELVES)),
    (NO_LISTS, lambda bad: ("fan_out", (), OURSELVES | {"account_ids": bad})),
    (NO_LISTS, lambda bad: ("ensure", (), OURSELVES | {"account_ids": bad, "valid_for": 60})),
    (NO_LISTS, lambda bad: ("for_each_account", (GOOD,), OURSELVES | {"account_ids": bad})),
    (NO_LISTS, lambda bad: ("forget", (bad,), OURSELVES)),
    (NO_PARTNERS, lambda bad: ("exchange", (account(1),), {"partner_id": bad})),
    (NO_PARTNERS, lambda bad: ("fan_out", (), {"partner_id": bad})),
    (NO_PARTNERS, lambda bad: ("ensure", (), {"partner_id": bad, "valid_for": 60})),
    (NO_PARTNERS, lambda bad: ("for_each_account", (GOOD,), {"partner_id": bad})),
    (NO_PARTNERS, lambda bad: ("account_done", ("run", account(1)), {"partner_id": bad})),
    (NO_PARTNERS, lambda bad: ("work", (bad, "ticket"), {})),
    (NO_PARTNERS, lambda bad: ("reject", (account(1), 1), {"partner_id": bad})),
    (NO_PARTNERS, lambda bad: ("discover", (), {"partner_id": bad})),
    (NO_PARTNERS, lambda bad: ("forget", ([account(1)],), {"partner_id": bad})),
    (NO_NUMBERS, lambda bad: ("exchange", (account(1),), OURSELVES | {"timeout": bad})),
    (NO_NUMBERS, lambda bad: ("fan_out", (), OURSELVES | {"policy": bad})),
    (NO_NUMBERS, lambda bad: ("ensure", (), OURSELVES | {"valid_for": bad})),
    ([*NO_NUMBERS, 1.5], lambda bad: ("for_each_account", (GOOD,), OURSELVES | {"at_once": bad})),
    (NO_GENERATIONS, lambda bad: ("reject", (account(1), bad), OURSELVES)),
    (NO_NAMES, lambda bad: ("fan_out", (), OURSELVES | {"selection": bad})),
    (NO_NAMES, lambda bad: ("work", (PARTNER, "ticket", bad), {})),
    (NO_TICKETS, lambda bad: ("work", (PARTNER, bad), {})),
    (NO_RUNS, lambda bad: ("account_done", (bad, account(1)), OURSELVES)),
    (NO_REASONS, lambda bad: ("account_done", ("run", account(1), bad), OURSELVES)),
    (NO_SIGNATURES, lambda bad: ("for_each_account", (bad,), OURSELVES)),
]


def send(site: Site, attack: Attack, **options: Any) -> Any:
    """Send it as an attacker does, who needs none of our code; its result is kept to look at."""
    return site.app.send_task(
        f"subtokens.{attack.name}",
        attack.arguments,
        attack.keywords,
        **({"queue": SWEEP_QUEUE, "ignore_result": False} | options),
    )


def envelope(task_id: str, *, body: bytes = b"", **differences: Any) -> str:
    """A message as it lies in a queue, with what differs from a proper one."""
    unchained = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
    proper = json.dumps([[], {"partner_id": PARTNER, "timeout": 5}, unchained]).encode()
    headers = {"task": "subtokens.fan_out", "id": task_id, "root_id": task_id, "lang": "py"}
    properties = {
        "correlation_id": task_id,
        "delivery_info": {"exchange": "", "routing_key": SWEEP_QUEUE},
        "delivery_tag": uuid4().hex,
        "body_encoding": "base64",
    }
    return json.dumps(
        {
            "body": base64.b64encode(body or proper).decode(),
            "content-encoding": "utf-8",
            "content-type": differences.get("content_type", "application/json"),
            "headers": headers | differences.get("headers", {}),
            "properties": properties | differences.get("properties", {}),
        }
    )


def fleet_of(site: Site, partner_id: str) -> dict[bytes, Any]:
    """What the store holds of a partner's accounts, whatever it has counted meanwhile."""
    keys = PartnerKeys("subtokens", partner_id)
    tokens = sorted(site.store.scan_iter(keys.token("*"), count=1000))
    held: dict[bytes, Any] = {key: site.store.get(key) for key in tokens}
    held |= {key: site.store.hgetall(key) for key in site.store.scan_iter(keys.state("*"))}
    for key in (keys.due, keys.expiry):
        held[key.encode()] = site.store.zrange(key, 0, -1, withscores=True)
    return held


def assert_whole(stage: Stage) -> None:
    """The worker lives, both fleets have their tokens, steps end, and no secret has been told."""
    site = stage.site
    assert stage.worker.is_alive, stage.worker.said()[-3000:]
    with sending_by(site.app):
        for partner_id, accounts in ((PARTNER, OURS), (OTHER, THEIRS)):
            ready = subtokens.ensure.si(valid_for="5m", partner_id=partner_id)
            settled = subtokens.for_each_account.si(GOOD, partner_id=partner_id)
            assert ready.apply_async().get(timeout=DEADLINE_SECONDS)["valid"] == len(accounts)
            assert settled.apply_async().get(timeout=DEADLINE_SECONDS)["done"] == len(accounts)
    told = {"log": stage.worker.said().encode(), "broker and results": kept(site.broker)}
    assert secrets_in(told) == {}
    assert stage.visitors == []


def test_hostile_arguments_of_every_task_end_in_an_error_that_names_them(stage: Stage) -> None:
    attacks = [Attack(*way(bad)) for bads, way in WAYS for bad in bads]
    sent = [(attack, send(stage.site, attack)) for attack in attacks]
    ended = [
        (attack, result.get(timeout=DEADLINE_SECONDS, propagate=False)) for attack, result in sent
    ]
    odd = [
        (attack.name, f"{attack.arguments} {attack.keywords}"[:200], answer)
        for attack, answer in ended
        if not isinstance(answer, subtokens.InputError) or len(str(answer)) > 300
    ]
    assert odd == []
    assert_whole(stage)


def test_no_task_takes_an_address(stage: Stage) -> None:
    for word in ("base_url", "url", "store_url", "broker_url", "audience"):
        sent = [send(stage.site, Attack(name, (), {word: stage.elsewhere})) for name in TASKS]
        answers = [one.get(timeout=DEADLINE_SECONDS, propagate=False) for one in sent]
        assert all(isinstance(answer, TypeError) for answer in answers), answers
    assert_whole(stage)


@pytest.mark.faults
def test_a_signature_of_which_no_message_can_be_made_fails_its_own_run_alone(stage: Stage) -> None:
    blank: dict[str, Any] = {"args": [], "kwargs": {}, "options": {}}
    elsewhere = stage.elsewhere.replace("http", "redis")
    spoilt = [*UNSENDABLE, {"task": "probe.echo", "options": {"connection": elsewhere}}]
    sent = [
        send(stage.site, Attack("for_each_account", (blank | bad,), {"partner_id": PARTNER}))
        for bad in spoilt
    ]
    assert_whole(stage)
    for result in sent:
        answer = result.get(timeout=DEADLINE_SECONDS, propagate=False)
        assert isinstance(answer, subtokens.RunFailedError)
        assert answer.summary["failed"] == {"unsendable": len(OURS)}


def test_a_step_that_cannot_be_sent_again_holds_up_no_other(stage: Stage) -> None:
    nowhere = {"delivery_info": {"exchange": "", "routing_key": [1]}}
    run_id = uuid4().hex
    stage.site.broker.lpush(SWEEP_QUEUE, envelope(run_id, properties=nowhere))
    eventually(lambda: stage.site.store.hexists(stage.site.keys.run(run_id), "ended_at"))
    assert_whole(stage)
    assert not stage.site.store.zscore(stage.site.keys.runs, run_id)  # it is not tried for ever


def test_no_run_bears_a_name_by_which_it_would_reach_the_keys_of_another(stage: Stage) -> None:
    site = stage.site
    for task_id in ("victim:open", "victim:done", "a b", "x" * 200):
        sent = send(site, Attack("fan_out", (), {"partner_id": PARTNER}), task_id=task_id)
        answer = sent.get(timeout=DEADLINE_SECONDS, propagate=False)
        assert isinstance(answer, subtokens.InputError)
        assert not site.store.exists(site.keys.run(task_id))
    assert_whole(stage)


def test_ids_of_another_partner_change_nothing_there(stage: Stage) -> None:
    site, ours = stage.site, {"partner_id": PARTNER}
    before = fleet_of(site, OTHER)
    assert len(before) == 2 * len(THEIRS) + 2
    generation = int(
        site.store.hget(PartnerKeys("subtokens", OTHER).state(THEIRS[0]), "generation")
    )
    sent = {
        name: send(site, Attack(name, arguments, ours))
        for name, arguments in {
            "fan_out": (THEIRS,),
            "forget": (THEIRS,),
            "reject": (THEIRS[0], generation),
            "exchange": (THEIRS[0],),
        }.items()
    }
    answers = {
        name: one.get(timeout=DEADLINE_SECONDS, propagate=False) for name, one in sent.items()
    }
    assert answers["fan_out"].summary["failed"] == {"not_enrolled": len(THEIRS)}
    assert answers["exchange"].summary["failed"] == {"not_enrolled": 1}
    assert answers["forget"]["forgotten"] == 0
    assert answers["reject"] == "late"
    assert fleet_of(site, OTHER) == before
    assert_whole(stage)


def test_a_message_that_would_run_code_by_being_read_is_refused(
    stage: Stage, tmp_path: Path
) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "touched",)

    content = pickle.dumps([[Touch()], {}, {}])
    text = envelope("pickled", body=content, content_type="application/x-python-serialize")
    stage.site.broker.lpush(SWEEP_QUEUE, text)
    eventually(lambda: "Refusing to deserialize" in stage.worker.said())
    assert not (tmp_path / "touched").exists()
    pickle.loads(content)
    assert (tmp_path / "touched").exists()  # it would have
    assert_whole(stage)


def park(site: Site, run_id: str, **fields: str | bytes | int) -> None:
    """Write a run as one may who writes to the store: it has ended, or has a wave to be sent."""
    key, now = site.keys.run(run_id), int(time.time() * 1000)
    whole = {"filling": 0, "opened_at": now, "deadline_at": now + 30_000} | fields
    if "message" in fields:
        site.store.sadd(f"{key}:open", account(1))
        site.store.rpush(f"{key}:todo", account(1))
        site.store.hset(key, mapping=whole | {"at_once": 1})
        site.store.zadd(site.keys.runs.removesuffix("runs") + "waves", {run_id: now})
    else:
        site.store.hset(key, mapping=whole | {"ended_at": now})
        site.store.zadd(site.keys.runs, {run_id: now})


def test_who_writes_to_the_store_cannot_have_a_task_of_theirs_sent(stage: Stage) -> None:
    site, sealer = stage.site, Sealer(PARTNER, stage.site.own_settings.master_keys)

    def step(list_name: str) -> str:
        task = {"task": "probe.note", "args": [list_name], "kwargs": {}, "immutable": True}
        return json.dumps(task | {"options": {"queue": EXCHANGE_QUEUE}, "subtask_type": None})

    def signed(list_name: str, run_id: str, part: str) -> str:
        return sealer.sign(step(list_name), f"{site.keys.run(run_id)} {part}")

    for part in ("continuation", "message"):
        forged = {
            f"plain-{part}": step("forged"),
            f"unknown-{part}": f"k9 {'0' * 64} {step('forged')}",
            f"wrong-{part}": f"k1 {'0' * 64} {step('forged')}",
            f"moved-{part}": signed("forged", "another", part),
            f"swapped-{part}": signed("forged", f"swapped-{part}", "other"),
        }
        for run_id, message in forged.items():
            park(site, run_id, **{part: message})
        park(site, f"ours-{part}", **{part: signed("ours", f"ours-{part}", part)})
        for run_id in forged:
            refused = f"run_id={run_id}"
            eventually(lambda refused=refused: refused in stage.worker.said())
    eventually(lambda: site.broker.llen("probe:ours") >= 2)  # what is signed is sent
    assert not site.broker.exists("probe:forged")
    for run_id in site.store.zrange(site.keys.runs, 0, -1):
        site.store.zrem(site.keys.runs, run_id)
    assert_whole(stage)


def test_who_reports_rejections_alone_has_a_twentieth_exchanged_at_most(stage: Stage) -> None:
    site, upstream = stage.site, stage.upstreams[0]
    before, rejections = upstream.last(), site.keys.rejections
    for odd in (
        *({"account": "../x", "generation": "1"}, {"x": "y"}, {"account": "", "generation": ""}),
        *({"account": b"\xff\x00", "generation": b"\xff"}, {"account": "x" * 100_000}),
        *({"account": f"{account(1)}:x", "generation": "9" * 400}, {"account": THEIRS[0]}),
    ):
        site.store.xadd(rejections, odd)
    for account_id in OURS * 20:
        generation = site.store.hget(site.keys.state(account_id), "generation")
        site.store.xadd(rejections, {"account": account_id, "generation": generation})
    eventually(lambda: not site.store.xlen(rejections) and upstream.calls_of(OURS, before))
    assert_whole(stage)
    exchanged = upstream.calls_of(OURS, before)
    assert 1 <= len(exchanged) <= 3  # a twentieth of 40, or three of a small fleet
    assert len({call.account for call in exchanged}) == len(exchanged)


@pytest.mark.faults
def test_a_malformed_envelope_ends_a_worker_and_nothing_is_lost(stage: Stage) -> None:
    """Celery's way, and why who writes to the broker can stop the workers: see SECURITY.md."""
    site = stage.site
    site.broker.lpush(SWEEP_QUEUE, envelope("spoilt", headers={"stamped_headers": 7}))
    eventually(lambda: not stage.worker.is_alive)
    for queue in QUEUES:
        for text in site.broker.lrange(queue, 0, -1):
            if b"stamped_headers" in text:
                site.broker.lrem(queue, 1, text)  # as an operator does
    again = site.worker("again", "--loglevel=DEBUG", "--include=probes")
    await_ready(again)
    assert_whole(stage._replace(worker=again))
