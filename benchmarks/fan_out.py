"""Accounts per second and CPU per account of a fan-out, beside one Celery task per account.

    .venv/bin/python benchmarks/fan_out.py [--accounts 10000] [--rounds 3]

Both run in the same rounds, one after the other, so that their ratio holds when the machine's
speed drifts. The sandbox and Redis have core 1, the workers and the producer core 0. Sealing,
per-account outcomes and the run's record are on; the limiter is set out of the way.
"""

import argparse
import base64
import importlib
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from redis import Redis

from subtokens.workers.private_redis import PrivateRedis
from subtokens.workers.processes import Child

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(group: int) -> float:
    """CPU of a process group so far, its ended children included."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def pin(pid: int, core: int) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def wait_until(done, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit("gave up waiting")
        time.sleep(0.005)


class Bench:
    def __init__(self, stack: ExitStack, accounts: int, latency: float) -> None:
        self.stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.redis = stack.enter_context(PrivateRedis())
        pin(self.redis.pid, 1)
        base = {k: v for k, v in os.environ.items() if not k.startswith("SUBTOKENS_")}
        sandbox = stack.enter_context(
            Child.python(
                "subtokens.workers.sandbox",
                *(f"--accounts={accounts}", f"--latency-seconds={latency}"),
                environment=base,
                log=self.folder / "sandbox.log",
            )
        )
        wait_until(lambda: "\n" in sandbox.said())
        pin(sandbox.pid, 1)
        self.environment = base | {
            "PYTHONPATH": str(HERE),
            "SUBTOKENS_PARTNER_ID": "T11200000",
            "SUBTOKENS_CLIENT_ID": "sandbox-client-id",
            "SUBTOKENS_CLIENT_SECRET": "sandbox-client-secret",
            "SUBTOKENS_BASE_URL": sandbox.said().split('"')[3],
            "SUBTOKENS_BROKER_URL": self.redis.url(0),
            "SUBTOKENS_STORE_URL": self.redis.url(1),
            "SUBTOKENS_RATE_LIMIT": "100000",
            "SUBTOKENS_CONCURRENCY": "100",
            "SUBTOKENS_BATCH_SIZE": "100",
            "SUBTOKENS_ENCRYPTION_KEYS": "b:" + base64.b64encode(bytes(32)).decode(),
        }
        os.environ.update(self.environment)
        self.ids = [f"T112{n:05d}" for n in range(1, accounts + 1)]
        self.store = Redis.from_url(self.redis.url(1))
        self.broker = Redis.from_url(self.redis.url(0))

    def worker(self, app: str, *options: str) -> Child:
        worker = Child.python(
            "celery",
            *("-A", app, "worker", "--without-gossip", "--without-mingle", "-l", "WARNING"),
            *options,
            environment=self.environment,
            log=self.folder / f"{app}.log",
        )
        self.stack.callback(worker.kill)
        return worker

    def ours(self) -> tuple[float, float]:
        tasks = importlib.import_module("subtokens.tasks")
        from subtokens.tasks.runtime import runtime
        from subtokens.workers import app

        app.set_default()
        worker = self.worker("subtokens.workers", "-c", "1")
        process = runtime()
        fleet = process.fleet()
        process.call(fleet.store.redis.flushdb())
        for start in range(0, len(self.ids), 1000):
            pairs = [(i, "") for i in self.ids[start : start + 1000]]
            process.call(fleet.store.enrol(pairs, "imported"))
        tasks.watch_runs.delay()
        queue = "subtokens.sweep"
        wait_until(
            lambda: not self.broker.llen(queue) and not self.broker.hlen("subtokens.unacked")
        )
        pin_group(worker.pid)
        cpu, own = cpu_seconds(worker.pid), time.process_time()
        started_at = time.perf_counter()
        run_id = str(uuid4())
        tasks.fan_out.apply_async(task_id=run_id)
        key = fleet.store.keys.run(run_id)
        wait_until(lambda: self.store.hexists(key, "ended_at"))
        seconds = time.perf_counter() - started_at
        spent = cpu_seconds(worker.pid) - cpu + time.process_time() - own
        summary = process.call(fleet.runs.summary(run_id))
        assert summary.done == len(self.ids), summary
        worker.stop()
        return len(self.ids) / seconds, spent / len(self.ids) * 1000

    def naive(self, count: int, *options: str) -> tuple[float, float]:
        app = importlib.import_module("one_task_per_account")
        self.store.flushdb()
        worker = self.worker("one_task_per_account", *options)
        app.exchange.delay(self.ids[0])
        wait_until(lambda: self.store.exists(f"naive:{self.ids[0]}"))
        self.store.flushdb()
        pin_group(worker.pid)
        cpu, own = cpu_seconds(worker.pid), time.process_time()
        started_at = time.perf_counter()
        for account_id in self.ids[:count]:
            app.exchange.delay(account_id)
        wait_until(lambda: self.store.dbsize() >= count)
        seconds = time.perf_counter() - started_at
        spent = cpu_seconds(worker.pid) - cpu + time.process_time() - own
        worker.stop()
        return count / seconds, spent / count * 1000


def pin_group(group: int) -> None:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            pin(int(stat.parent.name), 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--naive-accounts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {0})
    pools = {"prefork 8": ["-c", "8"], "threads 32": ["-P", "threads", "-c", "32"]}
    for latency in (0.0, 0.05):
        rows: dict[str, list[tuple[float, float]]] = {"subtokens": [], **{p: [] for p in pools}}
        for _ in range(arguments.rounds):
            with ExitStack() as stack:
                bench = Bench(stack, arguments.accounts, latency)
                rows["subtokens"].append(bench.ours())
                for pool, options in pools.items():
                    rows[pool].append(bench.naive(arguments.naive_accounts, *options))
                reset()
        print(f"\nlatency {latency * 1000:g} ms, {arguments.accounts} accounts")
        for name, figures in rows.items():
            rate = statistics.median(f[0] for f in figures)
            cpu = statistics.median(f[1] for f in figures)
            faster = statistics.median(
                o[0] / f[0] for o, f in zip(rows["subtokens"], figures, strict=True)
            )
            less = statistics.median(
                f[1] / o[1] for o, f in zip(rows["subtokens"], figures, strict=True)
            )
            print(
                f"{name:12} {rate:7.0f} accounts/s  {cpu:6.3f} ms CPU per account"
                f"  subtokens is {faster:.1f} times faster, needs {less:.1f} times less CPU",
                flush=True,
            )


def reset() -> None:
    """Forget what was built for the round's Redis and sandbox."""
    from subtokens.tasks import runtime as module
    from subtokens.workers.application import command_line_app

    module.forget_runtime()
    command_line_app.cache_clear()
    for name in ("one_task_per_account",):
        sys.modules.pop(name, None)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
