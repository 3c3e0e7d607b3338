"""A fleet of discovered accounts that short tokens keep busy, and all that may happen to it."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from itertools import count
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import ResponseError

from subtokens.workers.processes import Child

from .conftest import Site, Upstream, account_ids, await_ready, eventually
from .invariants import ENROLLED_SECONDS, Invariants, Verdict, Watcher
from .proxy import FaultProxy
from .test_steps_end_in_time import children

# What a killed process had claimed is due again soon.
TIMES = {
    "call_timeout_seconds": 0.5,
    "batch_deadline_seconds": 2,
    "soft_limit_seconds": 4,
    "hard_limit_seconds": 5,
    "lease_seconds": 6,
}
LASTS_SECONDS = 2.5
LONGEST_WITHOUT_CLAIM_SECONDS = 10.0
POOL = 2
T = TypeVar("T")


class Deployment:
    """Two workers that take everything, and a beat, behind proxies to Redis and to the sandbox."""

    def __init__(self, folder: Path, accounts: int, lifetime_seconds: int) -> None:
        self._folder, self._number = folder, count(1)
        self.accounts = account_ids(1, accounts)
        self.must_find_claim = True  # a kill that hits nothing is none, unless others come with it
        self.upstream = Upstream(
            accounts=accounts, lifetime_seconds=lifetime_seconds, latency_seconds=0.1
        )

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack.enter_context)
            self._stack = stack.pop_all()
        return self

    def _start(self, enter: Callable[[AbstractContextManager[T]], T]) -> None:
        enter(self.upstream)
        port = urlsplit(self.upstream.base_url).port
        assert port
        self.to_upstream = enter(FaultProxy(port))
        base_url = f"http://127.0.0.1:{self.to_upstream.port}/v1"
        self.site = site = enter(Site(self._folder, base_url, append_only=True, **TIMES))
        self.to_redis = enter(FaultProxy(site.server.port))
        for name, database in (("BROKER", 0), ("STORE", 1)):
            url = f"redis://127.0.0.1:{self.to_redis.port}/{database}"
            site.environment[f"SUBTOKENS_{name}_URL"] = url
        self.admin: Redis = enter(Redis.from_url(site.server.url(1)))
        self.workers = [self._worker("one"), self._worker("two")]
        await_ready(*self.workers)
        self.beat = self._beat()
        self.watcher = enter(Watcher(site, self.accounts))
        self.invariants = Invariants(site, self.upstream, self.watcher, self._is_staffed)
        everyone = set(self.accounts)
        eventually(
            lambda: not self.invariants.missing(everyone),
            told=lambda: self.invariants.missing(everyone) + self.said(),
            within=60,
        )
        eventually(lambda: self.watcher.enrolled_for(ENROLLED_SECONDS) == everyone)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def said(self) -> str:
        """What the processes of now have said."""
        return "\n".join(child.said() for child in [*self.workers, self.beat])

    def suffer(self, fault: str, within: float = 60.0) -> Verdict:
        """Let a fault come and go, and see how the fleet recovers with nobody's hand."""
        return self.invariants.through(
            lambda: FAULTS[fault](self), within, loses_data=fault == LOSS
        )

    def claimant(self) -> tuple[int, int]:
        """Wait for a claim whose call is under way; its process's id, and its worker's place.

        Any process, where none comes about and none must: another fault may keep all from claiming.
        """
        waits_until = time.monotonic() + LONGEST_WITHOUT_CLAIM_SECONDS

        def find() -> tuple[int, int] | None:
            for claim in self.admin.hvals(self.site.keys.claims):
                pid = int(claim.decode().rpartition(":")[2])
                for place, worker in enumerate(self.workers):
                    if pid in children(worker.pid):
                        return pid, place
            if not self.must_find_claim and time.monotonic() > waits_until:
                places = enumerate(self.workers)
                return next(((c, at) for at, w in places for c in children(w.pid)), None)
            return None

        return eventually(find, every=0.005)

    def kill_pool_child(self) -> None:
        os.kill(self.claimant()[0], signal.SIGKILL)

    def kill_worker(self) -> None:
        """With its group; a supervisor starts another at once."""
        place = self.claimant()[1]
        self.workers[place].kill()
        self.workers[place] = self._worker(("one", "two")[place])

    def replace_dead(self) -> None:
        """After a breach: the next fault is judged by itself."""
        for place, worker in enumerate(self.workers):
            if not worker.is_alive:
                self.workers[place] = self._worker(("one", "two")[place])
        if not self.beat.is_alive:
            self.beat = self._beat()

    def kill_beat(self) -> None:
        self.beat.kill()
        self.beat = self._beat()

    def kill_redis(self, *, keeps_data: bool) -> None:
        self.claimant()
        self.site.server.append_only = keeps_data
        self.site.server.kill()
        self.site.server.start()
        if not keeps_data:  # for the next one
            self.admin.config_set("appendonly", "yes")
            eventually(lambda: not self.admin.info("persistence")["aof_rewrite_in_progress"])

    def _worker(self, name: str) -> Child:
        options = (f"--hostname={name}@test", f"--concurrency={POOL}")
        return self.site.worker(f"{name}-{next(self._number)}", *options)

    def _beat(self) -> Child:
        return self.site.celery(f"beat-{next(self._number)}", "beat", "--loglevel=INFO")

    def _is_staffed(self) -> str:
        ended = [child.log.name for child in [*self.workers, self.beat] if not child.is_alive]
        pools = [len(children(worker.pid)) for worker in self.workers if worker.is_alive]
        if ended:
            return f"{', '.join(ended)} exited"
        return "" if set(pools) == {POOL} else f"pools of {pools}"


def last() -> None:
    """How long a fault lasts is the fault itself; nobody waits here for anything to happen."""
    time.sleep(LASTS_SECONDS)


def during(begin: Callable[[Deployment], AbstractContextManager[None]]) -> "Fault":
    """A fault that comes, lasts and goes."""

    def fault(deployment: Deployment) -> None:
        with begin(deployment):
            last()

    return fault


def freeze_redis(deployment: Deployment) -> None:
    try:
        deployment.admin.execute_command("DEBUG", "SLEEP", LASTS_SECONDS)
    except ResponseError:  # Redis 7 has to be told at its start that it may
        os.kill(deployment.site.server.pid, signal.SIGSTOP)
        try:
            last()
        finally:
            os.kill(deployment.site.server.pid, signal.SIGCONT)


def pause_clients(deployment: Deployment) -> None:
    deployment.admin.execute_command("CLIENT", "PAUSE", int(LASTS_SECONDS * 1000), "ALL")
    eventually(lambda: deployment.admin.ping())  # it is held as long as the others are


def kill_clients(deployment: Deployment) -> None:
    for kind in ("normal", "pubsub"):
        deployment.admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def fill_memory(deployment: Deployment) -> None:
    deployment.claimant()  # whose ticket ends meanwhile: its message cannot be acknowledged
    deployment.admin.config_set("maxmemory-policy", "noeviction")
    deployment.admin.config_set("maxmemory", 1)
    try:
        last()
    finally:
        deployment.admin.config_set("maxmemory", 0)


Fault = Callable[[Deployment], None]
# Of processes and of Redis
RESTART, LOSS = "redis killed, data kept", "redis killed, data lost"
OURS: dict[str, Fault] = {
    "pool child killed": Deployment.kill_pool_child,
    "worker killed": Deployment.kill_worker,
    "beat killed": Deployment.kill_beat,
    RESTART: lambda deployment: deployment.kill_redis(keeps_data=True),
    LOSS: lambda deployment: deployment.kill_redis(keeps_data=False),
    "redis frozen (DEBUG SLEEP)": freeze_redis,
    "redis paused (CLIENT PAUSE)": pause_clients,
    "redis full": fill_memory,
    "connections cut (CLIENT KILL)": kill_clients,
    "redis cut": lambda deployment: deployment.to_redis.cut(),
    "redis down": during(lambda deployment: deployment.to_redis.down()),
    "redis blackholed": during(lambda deployment: deployment.to_redis.blackholed()),
    "redis connections forgotten": lambda deployment: deployment.to_redis.forget(),
    "redis slow": during(lambda deployment: deployment.to_redis.slow(0.1)),
}
# Of the way to the upstream, and of the upstream: what it served and we never got is counted too.
THEIRS: dict[str, Fault] = {
    "upstream cut": lambda deployment: deployment.to_upstream.cut(),
    "upstream down": during(lambda deployment: deployment.to_upstream.down()),
    "upstream blackholed": during(lambda deployment: deployment.to_upstream.blackholed()),
    "upstream connections forgotten": lambda deployment: deployment.to_upstream.forget(),
    "upstream slow": during(lambda deployment: deployment.to_upstream.slow(0.1)),
    "upstream errors": during(lambda deployment: deployment.upstream.troubled(error_share=0.5)),
    "upstream throttles": during(
        lambda deployment: deployment.upstream.troubled(throttle_share=0.3)
    ),
    "upstream late": during(lambda deployment: deployment.upstream.troubled(latency_seconds=1.0)),
}
FAULTS: dict[str, Fault] = OURS | THEIRS
