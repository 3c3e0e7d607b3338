"""Sets a contestant to work, waits until it is done, and prints what it took, as JSON.

    python -m drive CONTESTANT ACCOUNTS WORKER_GROUP [--fan-outs 2]

in the environment of a place.

CPU is counted of the worker's processes and of this one, which sends; what starts them is not.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from uuid import uuid4

from places import cpu_seconds, wait_for
from redis import Redis
from upstream import account_id

Send = Callable[[Sequence[str]], None]
WARM = 200  # accounts that a rival's worker is asked for before it is measured


class Meter:
    """Wall and CPU seconds between its making and its reading."""

    def __init__(self, worker_group: int) -> None:
        self._group = worker_group
        self._cpu = self._workers() + time.process_time()
        self._started_at = time.perf_counter()

    def read(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._started_at
        cpu = time.process_time() + self._workers() - self._cpu  # that look itself is not counted
        return {"seconds": seconds, "cpu_seconds": cpu}

    def _workers(self) -> float:
        return cpu_seconds(self._group) if self._group else 0.0


def of_subtokens(ids: Sequence[str], group: int, fan_outs: int) -> dict[str, float]:
    """So many fan-outs in turn, each over all accounts; their first tokens are not counted."""
    from subtokens import tasks
    from subtokens.tasks.runtime import runtime
    from subtokens.workers import app

    app.set_default()
    process = runtime()
    fleet = process.fleet()
    _, store = broker_and_store()

    def fan_out() -> dict[str, float]:
        meter = Meter(group)
        run_id = str(uuid4())
        step = tasks.fan_out.apply_async(task_id=run_id)
        key = fleet.store.keys.run(run_id)
        wait_for(lambda: store.hexists(key, "ended_at"), every=0.01)
        took = meter.read()
        assert step.get(timeout=60)["done"] == len(ids)
        return took

    enrol(ids)
    took = []
    for _ in range(fan_outs):
        await_idle(len(ids))
        took.append(fan_out())
    return {name: sum(each[name] for each in took) for name in took[0]}


def enrol(ids: Sequence[str]) -> None:
    """The worker exchanges for them by itself: it looks for due accounts every second."""
    from subtokens.tasks.runtime import runtime

    process = runtime()
    for start in range(0, len(ids), 1000):
        pairs = [(one, "") for one in ids[start : start + 1000]]
        process.call(process.fleet().store.enrol(pairs, "imported"))


def await_idle(accounts: int) -> None:
    """Wait until so many have a token, and the worker has nothing left to do."""
    from subtokens.config.queues import QUEUES
    from subtokens.tasks.runtime import runtime

    keys = runtime().fleet().store.keys
    broker, store = broker_and_store()
    tickets = [key for key in keys.types if key.endswith("_tickets")]
    wait_for(lambda: int(store.hget(keys.fleet, "exchanged") or 0) == accounts, every=0.05)
    # Unacknowledged messages tell nothing: a ticket for later is one of them for half a minute.
    wait_for(
        lambda: (
            not (
                any(map(broker.llen, QUEUES))
                or any(map(store.zcard, tickets))
                or store.hlen(keys.claims)
            )
        )
    )


def of_rival(send: Send, ids: Sequence[str], group: int) -> dict[str, float]:
    _, store = broker_and_store()
    send(ids[:WARM])  # starts the worker's parts, in each of its processes
    wait_for(lambda: store.dbsize() == len(ids[:WARM]))
    store.flushdb()
    meter = Meter(group)
    send(ids)
    wait_for(lambda: store.dbsize() == len(ids))
    return meter.read()


def of_script(ids: Sequence[str]) -> dict[str, float]:
    import uvloop
    from rivals.plain_script import Script

    _, store = broker_and_store()
    script = Script()
    meter = Meter(0)
    uvloop.run(script.run(ids))
    took = meter.read()
    assert store.dbsize() == len(ids)
    return took


def one_by_one(send: Callable[[str], object]) -> Send:
    def send_all(ids: Sequence[str]) -> None:
        for one in ids:
            send(one)

    return send_all


def broker_and_store() -> tuple[Redis, Redis]:
    return tuple(
        Redis.from_url(os.environ[f"SUBTOKENS_{name}_URL"]) for name in ("BROKER", "STORE")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contestant")
    parser.add_argument("accounts", type=int)
    parser.add_argument("worker_group", type=int)
    parser.add_argument("--fan-outs", type=int, default=1)
    chosen = parser.parse_args()
    contestant, group = chosen.contestant, chosen.worker_group
    ids = [account_id(number) for number in range(1, chosen.accounts + 1)]
    if contestant == "subtokens":
        took = of_subtokens(ids, group, chosen.fan_outs)
    elif contestant == "script":
        took = of_script(ids)
    elif contestant == "taskiq":
        send_all = import_module("rivals.on_taskiq").send_all
        took = of_rival(lambda some: asyncio.run(send_all(some)), ids, group)
    else:
        send = import_module(f"rivals.on_{contestant}").send
        took = of_rival(one_by_one(send), ids, group)
    print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main()
