"""Where a measurement takes place: Redis and the upstream on core 1, all else on core 0."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from redis import Redis
from upstream import PARTNER, account_id

from subtokens.workers.private_redis import PrivateRedis
from subtokens.workers.processes import Child

HERE = Path(__file__).parent
SERVERS_CORE, OURS_CORE = 1, 0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Place:
    """A Redis, a bare upstream and the settings of who works between them."""

    def __init__(
        self,
        accounts: int,
        latency_seconds: float = 0.0,
        *,
        lifetime_seconds: int = 24 * 3600,
        **settings: object,
    ) -> None:
        self.accounts = accounts
        self._stack = ExitStack()
        try:
            self._open(latency_seconds, lifetime_seconds, settings)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, latency: float, lifetime: int, settings: dict[str, object]) -> None:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.redis = self._stack.enter_context(PrivateRedis())
        pin(self.redis.pid, SERVERS_CORE)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SUBTOKENS_")}
        self.upstream = Child(
            [
                *(sys.executable, str(HERE / "upstream.py"), f"--accounts={self.accounts}"),
                *(f"--latency-seconds={latency}", f"--lifetime-seconds={lifetime}"),
            ],
            clean,
            self.folder / "upstream.log",
        )
        self._stack.callback(self.upstream.kill)
        found = wait_for(lambda: re.search(r"(http\S+)\n", self.upstream.said()))
        pin(self.upstream.pid, SERVERS_CORE)
        self.environment = clean | {
            "PYTHONPATH": str(HERE),
            "SUBTOKENS_PARTNER_ID": PARTNER,
            "SUBTOKENS_CLIENT_ID": "client-id",
            "SUBTOKENS_CLIENT_SECRET": "client-secret",
            "SUBTOKENS_BASE_URL": found.group(1),
            "SUBTOKENS_BROKER_URL": self.redis.url(0),
            "SUBTOKENS_STORE_URL": self.redis.url(1),
            "SUBTOKENS_RATE_LIMIT": "100000",
            "SUBTOKENS_ENCRYPTION_KEYS": "b:" + base64.b64encode(bytes(32)).decode(),
        }
        self.environment |= {f"SUBTOKENS_{k.upper()}": str(v) for k, v in settings.items()}
        self.broker, self.store = (Redis.from_url(self.redis.url(number)) for number in (0, 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def ids(self) -> list[str]:
        return [account_id(number) for number in range(1, self.accounts + 1)]

    def start(self, name: str, *command: str, core: int | None = OURS_CORE, **more: str) -> Child:
        """`python -m …` between Redis and the upstream; ends with the place."""
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        child = Child(
            [*pinned, sys.executable, "-m", *command],
            self.environment | more,
            self.folder / f"{name}.log",
        )
        self._stack.callback(child.kill)
        return child

    def drive(
        self, contestant: str, worker: Child | None, *options: str, core: int | None = OURS_CORE
    ) -> dict[str, float]:
        """Set a contestant to work on all accounts; the seconds that it took, wall and CPU."""
        group = str(worker.pid if worker else 0)
        command = ("drive", contestant, str(self.accounts), group, *options)
        driver = self.start("driver", *command, core=core)
        wait_for(lambda: not driver.is_alive, every=0.1)
        if driver.exit_code:
            raise SystemExit(f"{contestant}: {driver.said()}\n{worker.said() if worker else ''}")
        return json.loads(driver.said().splitlines()[-1])


def wait_for(look: Callable[[], object], seconds: float = 600.0, every: float = 0.005):
    """What `look` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise SystemExit("gave up waiting")
        time.sleep(every)
    return seen


def cpu_seconds(group: int) -> float:
    """CPU that the living processes of a group have spent, and their children that have ended."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS_PER_SECOND


def resident_megabytes(group: int) -> float:
    """Memory of the living processes of a group, each shared page counted once for each."""
    listed = subprocess.run(
        ["ps", "-o", "rss=", "-g", str(group)], capture_output=True, text=True, check=False
    )
    return sum(int(line) for line in listed.stdout.split()) / 1024


def pin(pid: int, core: int) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
