"""What runs, with which environment, and how it all ends."""

import base64
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from dotenv import dotenv_values

from ...config.queues import RENEWER_QUEUES, WORKER_QUEUES
from ...config.settings import DeploymentSettings, Settings, load
from ..private_redis import is_free
from .folder import DataFolder
from .keeper import Keeper, say
from .redis import KeptRedis

# More than SUBTOKENS_HARD_LIMIT_SECONDS: what is under way may end.
GRACE_SECONDS = 60.0
_REDIS_GRACE_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_KEYS, _STORE, _BROKER, _HEALTH = (
    f"SUBTOKENS_{name}" for name in ("ENCRYPTION_KEYS", "STORE_URL", "BROKER_URL", "HEALTH_FOLDER")
)


class Stops:
    """How often we were asked to stop: once is a request, twice an order."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.count += 1


def run_up(data_folder: Path, workers: int, monitor_port: int) -> int:
    """Run all until stopped. Raises InputError, SettingsError, FolderInUseError and the like."""
    began_at, given, stops = time.monotonic(), _given(), Stops()
    with DataFolder(data_folder) as folder, ExitStack() as stack:
        redis = None
        if not (given.get(_STORE) and given.get(_BROKER)):
            redis = KeptRedis(folder)
        environment = os.environ | _variables(folder, given, redis)
        os.environ.update(environment)
        load(Settings)  # what is wrong with them is told once, before anything starts
        servers = [redis.keeper()] if redis else []
        for server in servers:
            stack.callback(_stop, servers, _REDIS_GRACE_SECONDS, stops)
            server.look()
        if redis:
            redis.await_answer(servers[0], lambda: stops.count > 0)
        crew = list(_crew(environment, workers))
        monitors = list(_monitor(environment, monitor_port))
        stack.callback(_stop, monitors, GRACE_SECONDS, stops)
        stack.callback(_stop, crew, GRACE_SECONDS, stops)
        is_announced = False
        while not stops.count:
            for keeper in [*servers, *crew, *monitors]:
                keeper.look()
            if not is_announced and _are_ready(Path(environment[_HEALTH]), len(crew)):
                _announce(folder, time.monotonic() - began_at)
                is_announced = True
            time.sleep(_LOOK_SECONDS)
        say("up", "stopping; Ctrl-C again ends all at once")
    return 0


def _given() -> dict[str, str]:
    """What the environment or .env sets; an empty line there, as in the example, sets nothing."""
    load(DeploymentSettings)  # tells of an .env that cannot be read
    found = {**dotenv_values(".env"), **os.environ}
    return {name: value for name, value in found.items() if value}


def _variables(
    folder: DataFolder, given: Mapping[str, str], redis: KeptRedis | None
) -> dict[str, str]:
    health = folder.folder("health")
    for sign in health.iterdir():  # of an `up` that was killed
        sign.unlink()
    made = {_HEALTH: str(health)}
    if redis:
        made |= {_BROKER: redis.url(0), _STORE: redis.url(1)}
    if not given.get(_KEYS):
        if folder.kept("encryption.keys") is None:
            say("up", f"no {_KEYS}: one is made and kept in {folder.path}; keep a copy of it safe")
        made[_KEYS] = folder.kept_or_made("encryption.keys", _new_key)
    chosen = {name: given.get(name, value) for name, value in made.items()}
    folder.keep_environment(chosen)
    return chosen


def _new_key() -> str:
    return f"up:{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _crew(environment: Mapping[str, str], workers: int) -> Iterable[Keeper]:
    celery = [sys.executable, "-m", "celery", "--quiet", "-A", "subtokens.workers"]

    def worker(name: str, queues: Sequence[str]) -> Keeper:
        # Nobody to mingle and gossip with: each start would wait a second for answers.
        options = ("--concurrency=2", "--loglevel=INFO", "--without-mingle", "--without-gossip")
        command = [*celery, "worker", f"--hostname={name}@up", "-Q", ",".join(queues), *options]
        return Keeper(name, command, environment)

    yield worker("renewer", RENEWER_QUEUES)
    for number in range(1, workers + 1):
        yield worker(f"worker{number}", WORKER_QUEUES)
    yield Keeper("beat", [*celery, "beat", "--loglevel=INFO"], environment)


def _monitor(environment: Mapping[str, str], port: int) -> Iterable[Keeper]:
    if not port:
        return
    if find_spec("prometheus_client") is None:
        say("up", "no status page, which needs an extra: pip install 'subtokens[cli,metrics]'")
    elif not is_free(port):
        say("up", f"no status page: port {port} is taken; name another by --monitor-port")
    else:
        command = [sys.executable, "-m", "subtokens.workers.cli", "monitor", f"--port={port}"]
        yield Keeper("monitor", command, environment)


def _are_ready(health: Path, count: int) -> bool:
    return len(list(health.glob("*.ready"))) >= count


def _announce(folder: DataFolder, seconds: float) -> None:
    say("up", f"all is up after {seconds:.1f} s; Ctrl-C stops it. In another terminal:")
    say("up", f"  . {folder.path}/environment && {Path(sys.executable).parent}/subtokens status")


def _stop(keepers: list[Keeper], grace_seconds: float, stops: Stops) -> None:
    for keeper in keepers:
        keeper.terminate()
    ends_at = time.monotonic() + grace_seconds
    while any(keeper.is_alive for keeper in keepers):
        if time.monotonic() > ends_at or stops.count > 1:
            break
        time.sleep(_LOOK_SECONDS / 2)
    for keeper in keepers:
        keeper.kill()
