"""The Redis that `subtokens up` keeps: on loopback, with a password, every write on disk."""

import os
import secrets
import time
from collections.abc import Callable
from typing import Any

from ...config.errors import SubtokensError
from ..private_redis import LOOPBACK, find_server, free_port, is_free, server_info
from .folder import DataFolder
from .keeper import Keeper

_PORT_SECONDS = 5.0  # so long one of a killed `up` may take to be gone
_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir "{folder}"
appendonly yes
save ""
maxmemory-policy noeviction
"""


class RedisNotUpError(SubtokensError):
    """The kept Redis does not answer, or somebody else's would."""


class KeptRedis:
    """Its place and its password, as the folder keeps them. Raises RedisServerMissing."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._file = folder.path / "redis.conf"
        self._server = find_server()
        self._password = folder.kept_or_made("redis.password", lambda: secrets.token_hex(24))
        self._port = self._own_port()

    def url(self, db: int) -> str:
        """The URL of one of its databases, password and all."""
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/{db}"

    def keeper(self) -> Keeper:
        """What starts it, and starts it again."""
        data = str(self._folder.folder("redis")).replace("\\", "\\\\").replace('"', '\\"')
        self._folder.keep(  # a password on the command line is shown to everyone by ps
            self._file.name,
            _CONFIGURATION.format(
                host=LOOPBACK, port=self._port, password=self._password, folder=data
            ),
        )
        path = {"PATH": os.environ.get("PATH", os.defpath)}
        return Keeper("redis", [str(self._server), str(self._file)], path)

    def await_answer(self, server: Keeper, is_stopping: Callable[[], bool]) -> None:
        """Wait however long it reads what it kept. Raises RedisNotUpError where it ends."""
        while not is_stopping() and self._told().get("loading") != 0:
            if not server.is_alive:
                server.kill()  # and hear its last words
                raise RedisNotUpError("Redis ended at once, and said above why")
            time.sleep(0.05)

    def _own_port(self) -> int:
        port = int(self._folder.kept_or_made("redis.port", lambda: str(free_port())))
        ends_at = time.monotonic() + _PORT_SECONDS
        while not is_free(port):
            if time.monotonic() > ends_at:
                self._port = port
                if self._told():
                    raise RedisNotUpError(
                        f"a Redis of {self._folder.path} still runs on port {port} without its "
                        "`up`: end it"
                    )
                port = free_port()  # others have taken it meanwhile
                self._folder.keep("redis.port", f"{port}\n")
            time.sleep(0.05)
        return port

    def _told(self) -> dict[str, Any]:
        """What our server tells of itself; nothing where none answers, or another's."""
        told = server_info(self.url(0))
        # One without a password lets in whoever brings one: only the file tells that it is ours.
        return told if told.get("config_file") == str(self._file) else {}
