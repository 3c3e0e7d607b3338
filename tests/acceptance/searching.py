"""A search for tokens and secrets, in whatever Redis is sent and keeps and in any text.

Every token of the sandbox begins with TOKEN_MARK.
"""

import base64
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any
from uuid import uuid4

from redis import Redis

from subtokens.workers.sandbox.tokens import TOKEN_MARK

from .conftest import CANARY_SECRET, KEYS

REDIS_PASSWORD = "CANARY-redis-password"
SECRETS = (
    TOKEN_MARK[:24],  # also where a text was cut
    CANARY_SECRET,
    base64.b64encode(f"sandbox-client-id:{CANARY_SECRET}".encode()).decode(),
    KEYS.partition(":")[2],
    base64.b64decode(KEYS.partition(":")[2]).decode(),
    REDIS_PASSWORD,
)
PLANTED = f"{TOKEN_MARK}planted.by-the-test"


class Traffic:
    """All commands that a Redis is sent, on all its databases; a context."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url)
        options = self._redis.connection_pool.connection_kwargs
        self._socket = socket.create_connection((options["host"], options["port"]))
        self._seen = bytearray()
        self._thread = Thread(target=self._listen)
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"
        self._thread.start()

    def _listen(self) -> None:
        while part := self._socket.recv(65_536):
            self._seen += part

    def so_far(self) -> bytes:
        """What was sent until now: an echo marks the place."""
        mark = uuid4().hex
        self._redis.echo(mark)
        while mark.encode() not in self._seen:
            self._thread.join(0.01)
        return bytes(self._seen)

    def close(self) -> None:
        # Only this half: were reading shut too, what Redis still sends would reset the connection.
        self._socket.shutdown(socket.SHUT_WR)
        self._thread.join()
        self._socket.close()
        self._redis.close()


@contextmanager
def traffic_of(url: str) -> Iterator[Traffic]:
    traffic = Traffic(url)
    try:
        yield traffic
    finally:
        traffic.close()


def kept(redis: Redis) -> bytes:
    """Everything in one database, whatever its type."""
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"none": lambda key: b"",  # it has gone meanwhile
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1),
        b"stream": redis.xrange,
    }
    return b"".join(
        key + repr(readers[redis.type(key)](key)).encode() for key in redis.scan_iter(count=1000)
    )


def secrets_in(places: dict[str, bytes]) -> dict[str, list[str]]:
    """The places that hold a secret, with which of them."""
    found = {
        place: [secret for secret in SECRETS if secret.encode() in text]
        for place, text in places.items()
    }
    return {place: secrets for place, secrets in found.items() if secrets}
