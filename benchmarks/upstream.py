"""A bare upstream: answers as Dintero does, checks nothing, and costs as little as can be.

    python benchmarks/upstream.py [--accounts 100000] [--latency-seconds 0.05]
    python benchmarks/upstream.py --measure [--seconds 5]     # how much it can answer

Every token is another one, of 800 characters. It prints its base URL, and serves until it is
killed. `GET /count` tells how many tokens it has issued.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import re
import time
from collections.abc import Callable
from typing import cast

import uvloop

PARTNER = "T11200000"
PAGE_SIZE = 100
TOKEN_LENGTH = 800
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_AFTER = re.compile(rb"starting_after=(\d+)")


def account_id(number: int) -> str:
    return f"T{11200000 + number:08d}"


class Upstream:
    """What all connections share."""

    def __init__(self, accounts: int, latency_seconds: float, lifetime_seconds: int) -> None:
        self.accounts = accounts
        self.latency_seconds = latency_seconds
        self.issued = 0
        padding = b"a" * (TOKEN_LENGTH - 12)
        tail = b'%s","token_type":"Bearer","expires_in":%d}' % (padding, lifetime_seconds)
        head = b'{"access_token":"'
        length = len(head) + 12 + len(tail)
        self._before = _head(length) + head
        self._after = tail

    def answer(self, request: bytes) -> bytes:
        if request.startswith(b"POST "):
            self.issued += 1
            return b"%s%012d%s" % (self._before, self.issued, self._after)
        if request.startswith(b"GET /count "):
            return _answer(b"%d" % self.issued)
        after = _AFTER.search(request)
        first = int(after.group(1)) + 1 if after else 1
        page = range(first, min(first + PAGE_SIZE, self.accounts + 1))
        listed = ",".join(
            f'{{"account_id":"{account_id(n)}","active":true,"paging_token":"{n}"}}' for n in page
        )
        return _answer(f"[{listed}]".encode())


class Connection(asyncio.Protocol):
    """One request at a time, as clients that pool their connections send them."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._received, 0, head + 2)
        if len(self._received) < head + 4 + (int(length.group(1)) if length else 0):
            return
        request, self._received = self._received, b""
        answer = self._upstream.answer(request)
        if self._upstream.latency_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(self._upstream.latency_seconds, self._transport.write, answer)
        else:
            self._transport.write(answer)


class Asker(asyncio.Protocol):
    """Sends the next exchange as soon as the last is answered."""

    REQUEST = (
        b"POST /v1/accounts/T11200000/auth/exchange_token HTTP/1.1\r\nHost: localhost\r\n"
        b"Authorization: Bearer " + b"a" * TOKEN_LENGTH + b"\r\nContent-Type: application/json\r\n"
        b'Content-Length: 26\r\n\r\n{"account_id":"T11200001"}'
    )

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self.REQUEST)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}"):
            self._count()
            self._transport.write(self.REQUEST)


def _head(length: int) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length
    )


def _answer(body: bytes) -> bytes:
    return _head(len(body)) + body


async def serve(upstream: Upstream, told: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(upstream), "127.0.0.1", 0, backlog=2048)
    told(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await server.serve_forever()


async def ask(port: int, seconds: float) -> float:
    """Answers a second over 64 connections."""
    answered = 0

    def count() -> None:
        nonlocal answered
        answered += 1

    loop = asyncio.get_running_loop()
    connections = [
        await loop.create_connection(lambda: Asker(count), "127.0.0.1", port) for _ in range(64)
    ]
    started_at, before = time.perf_counter(), answered
    await asyncio.sleep(seconds)
    rate = (answered - before) / (time.perf_counter() - started_at)
    for transport, _ in connections:
        transport.abort()
    return rate


def measured(seconds: float) -> float:
    """Exchanges a second that it answers on core 1, asked from core 0."""

    def run(told: "multiprocessing.SimpleQueue[str]") -> None:
        os.sched_setaffinity(0, {1})
        uvloop.run(serve(Upstream(1000, 0.0, 3600), told.put))

    told: multiprocessing.SimpleQueue[str] = multiprocessing.SimpleQueue()
    server = multiprocessing.get_context("fork").Process(target=run, args=(told,), daemon=True)
    before = os.sched_getaffinity(0)
    server.start()
    try:
        os.sched_setaffinity(0, {0})
        return uvloop.run(ask(int(told.get().rpartition(":")[2]), seconds))
    finally:
        os.sched_setaffinity(0, before)
        server.kill()
        server.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    parser.add_argument("--lifetime-seconds", type=int, default=3600)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0)
    chosen = parser.parse_args()
    if chosen.measure:
        print(f"{measured(chosen.seconds):.0f} exchanges a second")
        return
    upstream = Upstream(chosen.accounts, chosen.latency_seconds, chosen.lifetime_seconds)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(upstream, lambda url: print(f"{url}/v1", flush=True)))


if __name__ == "__main__":
    main()
