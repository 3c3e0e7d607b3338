"""Sets a contestant to work, waits until it is done, and prints what it took, as JSON.

    python -m drive CONTESTANT ACCOUNTS WORKER_GROUP [--fan-outs 2] [--warm]

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


class Meter:
    """Wall and CPU seconds between its making and its reading."""

    def __init__(self, worker_group: int) -> None:
        self._group = worker_group
        self._cpu = self._spent()
        self._started_at = time.perf_counter()

    def read(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._started_at
        return {"seconds": seconds, "cpu_seconds": self._spent() - self._cpu}

    def _spent(self) -> float:
        workers = cpu_seconds(self._group) if self._group else 0.0
        return workers + time.process_time()


def of_subtokens(
    ids: Sequence[str], group: int, fan_outs: int = 1, *, is_warm: bool = False
) -> dict[str, float]:
    """So many fan-outs in turn, each over all accounts.

    `is_warm`: one over a thousand of them goes before, so that all connections are open.
    """
    from subtokens import tasks
    from subtokens.config.queues import SWEEP_QUEUE
    from subtokens.tasks.runtime import runtime
    from subtokens.workers import app

    app.set_default()
    process = runtime()
    fleet = process.fleet()
    broker, store = broker_and_store()

    def enrol(accounts: Sequence[str]) -> None:
        for start in range(0, len(accounts), 1000):
            pairs = [(one, "") for one in accounts[start : start + 1000]]
            process.call(fleet.store.enrol(pairs, "imported"))

    def fan_out(accounts: int) -> dict[str, float]:
        meter = Meter(group)
        run_id = str(uuid4())
        step = tasks.fan_out.apply_async(task_id=run_id)
        key = fleet.store.keys.run(run_id)
        wait_for(lambda: store.hexists(key, "ended_at"))
        took = meter.read()
        assert step.get(timeout=60)["done"] == accounts
        return took

    enrol(ids[:1000] if is_warm else ids)
    tasks.watch_runs.delay()  # starts the worker's parts
    unacked = app.conf.broker_transport_options["unacked_key"]
    wait_for(lambda: not broker.llen(SWEEP_QUEUE) and not broker.hlen(unacked))
    if is_warm:
        fan_out(len(ids[:1000]))
        enrol(ids[1000:])
    took = [fan_out(len(ids)) for _ in range(fan_outs)]
    return {name: sum(each[name] for each in took) for name in took[0]}


def of_rival(send: Send, ids: Sequence[str], group: int) -> dict[str, float]:
    _, store = broker_and_store()
    send(ids[:1])  # starts the worker's parts
    wait_for(lambda: store.dbsize() == 1)
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
    parser.add_argument("--warm", action="store_true")
    chosen = parser.parse_args()
    contestant, group = chosen.contestant, chosen.worker_group
    ids = [account_id(number) for number in range(1, chosen.accounts + 1)]
    if contestant == "subtokens":
        took = of_subtokens(ids, group, chosen.fan_outs, is_warm=chosen.warm)
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
