"""How many commands a fan-out sends to Redis, those inside scripts told apart.

python benchmarks/commands.py [--accounts 10000]
"""

import argparse
import os
import re
import threading
from collections import Counter
from uuid import uuid4

from drive import await_idle, enrol
from places import Place, wait_for
from redis import Redis
from report import Cell, Report
from scale_out import WORKER

from subtokens.tasks.runtime import forget_runtime, runtime

BROKER, STORE = "0", "1"
STORE_BY_CLIENTS, STORE_BY_SCRIPTS = "store, by clients", "store, inside scripts"
BROKER_BY_CLIENTS = "broker, by clients"
_END = "that was it"
_OPENING = {"HELLO", "AUTH", "CLIENT", "SELECT"}  # what opens a connection


class Monitor:
    """Counts what Redis is asked for, but for what comes by the connection of who looks on."""

    def __init__(self, url: str) -> None:
        self._onlooker = Redis.from_url(url, single_connection_client=True)
        self._address = self._onlooker.client_info()["addr"]
        self.counts: dict[str, Counter[str]] = {
            where: Counter() for where in (STORE_BY_CLIENTS, STORE_BY_SCRIPTS, BROKER_BY_CLIENTS)
        }
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(url,), daemon=True)
        self._thread.start()
        self._is_listening.wait()

    def field(self, key: str, field: str) -> object:
        return self._onlooker.hget(key, field)

    def end(self) -> None:
        """All that was asked for until now is counted."""
        self._onlooker.echo(_END)
        self._thread.join()

    def _listen(self, url: str) -> None:
        # Our own reading of the lines: redis-py's takes them all apart, and falls behind.
        said = re.compile(rb'\+[\d.]+ \[(\d+) ([^\]]+)\] "(\w+)"(.*)')
        connection = Redis.from_url(url).connection_pool.get_connection()
        connection.send_command("MONITOR")
        connection.read_response()
        with connection._sock.makefile("rb") as lines:  # noqa: SLF001 - the connection is ours
            self._is_listening.set()
            for line in lines:
                db, who, command, rest = said.match(line).groups()
                if who == self._address.encode():
                    if _END.encode() in rest:
                        return
                    continue
                name = command.decode().upper()
                if name in _OPENING:
                    continue
                if db.decode() == BROKER:
                    self.counts[BROKER_BY_CLIENTS][name] += 1
                elif who == b"lua":
                    self.counts[STORE_BY_SCRIPTS][name] += 1
                else:
                    self.counts[STORE_BY_CLIENTS][name] += 1


def fan_out(place: Place) -> dict[str, Counter[str]]:
    from subtokens import tasks
    from subtokens.workers import app  # which reads the settings of the place

    app.set_default()
    process = runtime()
    fleet = process.fleet()
    place.start("worker", *WORKER, "-c", "1")
    enrol(place.ids)
    await_idle(len(place.ids))
    monitor = Monitor(place.redis.url(1))
    run_id = str(uuid4())
    tasks.fan_out.apply_async(task_id=run_id)
    wait_for(lambda: monitor.field(fleet.store.keys.run(run_id), "ended_at"), every=0.1)
    monitor.end()
    summary = process.call(fleet.runs.summary(run_id))
    assert summary.done == len(place.ids), summary
    forget_runtime()
    return monitor.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=10_000)
    accounts = parser.parse_args().accounts
    with Place(accounts) as place:
        os.environ.update(place.environment)
        counts = fan_out(place)
    report = Report("commands")
    rows: list[list[Cell]] = [["accounts", accounts, None, ""]]
    rows += [
        [where, each.total(), each.total() / accounts, ", ".join(most_of(each))]
        for where, each in counts.items()
    ]
    sent = counts[STORE_BY_CLIENTS].total() + counts[BROKER_BY_CLIENTS].total()
    rows.append(["store and broker, by clients", sent, sent / accounts, ""])
    head = ["", "number", "per account", "most of them"]
    report.table("a fan-out", head, rows)


def most_of(counts: Counter[str]) -> list[str]:
    return [f"{name} {count:,}" for name, count in counts.most_common(4)]


if __name__ == "__main__":
    main()
