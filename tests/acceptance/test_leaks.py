"""No token and no client secret leaves where it belongs, in success or in failure.

Every token of the sandbox begins with TOKEN_MARK. What is searched: each command that Redis was
sent, what it keeps, the workers' logs at their most talkative, and what the commands print.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest
from celery import chain
from celery.canvas import Signature
from redis import Redis

import subtokens
from subtokens.workers.sandbox.tokens import TOKEN_MARK

from .conftest import (
    CANARY_SECRET,
    DEADLINE_SECONDS,
    KEYS,
    Site,
    Upstream,
    account,
    account_ids,
    await_ready,
    sending_by,
)

SECRETS = (TOKEN_MARK.rstrip("."), CANARY_SECRET, KEYS.partition(":")[2])
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
        self._socket.shutdown(socket.SHUT_RDWR)
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


def test_no_secret_is_found_where_it_does_not_belong(new_site: Callable[..., Site]) -> None:
    accounts = account_ids(1, 12)
    said: list[str] = []
    with Upstream(accounts=12, inactive=2, refresh_tokens=True) as upstream:
        site = new_site(upstream.base_url, log_level="DEBUG", token_kind="account")
        worker = site.worker("worker", "--loglevel=DEBUG", "--include=probes", "--beat")
        await_ready(worker)
        with traffic_of(site.broker_url) as traffic, sending_by(site.app):
            site.enrol(accounts)

            def places() -> dict[str, bytes]:
                return {
                    "traffic": traffic.so_far(),
                    "broker and results": kept(site.broker),
                    "store": kept(site.store),
                    "log": worker.said().encode(),
                    "commands": "".join(said).encode(),
                }

            def tell(*arguments: str, **environment: str) -> None:
                done = site.cli(*arguments, environment=site.whole_environment | environment)
                said.extend([done.out, done.err])

            # It succeeds, …
            steps = chain(
                subtokens.discover.si(),
                subtokens.fan_out.si(account_ids=accounts[:10]),
                Signature("probe.echo", options={"queue": "subtokens.exchange"}),
            )
            summary = steps.apply_async().get(timeout=DEADLINE_SECONDS)
            assert summary["done"] == 10
            tell("token", account(1))
            tell("exchange", account(2))
            # … and fails: accounts, the upstream, our credential.
            with upstream.troubled(error_share=1.0):
                step = subtokens.fan_out.si(timeout=0.5).apply_async()
                with pytest.raises(subtokens.RunFailedError):
                    step.get(timeout=DEADLINE_SECONDS)
            tell("exchange", account(11))
            tell(
                *("accounts", "discover"),
                SUBTOKENS_NAMESPACE="other",
                SUBTOKENS_CLIENT_SECRET=CANARY_SECRET + "-wrong",
            )
            assert "401" in said[-1] or "refused" in said[-1], said[-1]
            assert secrets_in(places()) == {}

            # A token that is planted in each place is found in each.
            site.app.send_task("probe.echo", (PLANTED,), queue="subtokens.exchange").get(
                timeout=DEADLINE_SECONDS
            )
            site.store.hset("planted", "field", PLANTED)
            tell("token", account(1), "--reveal")
            assert set(secrets_in(places())) == set(places())
