"""The one seam to the network: an httpx transport that keeps connections open.

httpx's own connection pool slows down with every connection it holds, and what other libraries do
for each call costs more than all the rest of an exchange (docs/decisions). Replace `open_transport`
to change the library.
"""

import asyncio
import ssl
import time
from collections import defaultdict, deque
from socket import IPPROTO_TCP, SOCK_STREAM
from typing import Any

import aiohappyeyeballs
import httpx

from .connection import Answer, Connection

# Below the shortest usual idle timeout, Node's and Apache's 5 s. Sweeps come each second, so that
# calls come whole seconds apart, too: half of those sent after 5.0 s met the server's closing.
KEEPALIVE_SECONDS = 4.0
ADDRESSES_KEPT_SECONDS = 10.0
LARGEST_BODY = 8 * 1024 * 1024
_NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305, 5

_Origin = tuple[bytes, bytes, int]  # scheme, host, port
_PORTS = {b"http": 80, b"https": 443}


def open_transport(concurrency: int, ca_file: str = "") -> httpx.AsyncBaseTransport:
    """A transport: TLS verified, no cookies, no redirects; `concurrency` calls at once to a server.

    With `ca_file`, by its certificates alone. Must be used and closed inside one event loop. It
    honours a request's extensions `timeout` ("connect" alone, in seconds), `target` and
    `largest_body`.
    """
    context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()
    return _Transport(concurrency, context)


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, concurrency: int, context: ssl.SSLContext) -> None:
        # Each server has turns of its own: where one partner's calls hang, another's must not wait.
        self._turns = defaultdict[_Origin, asyncio.Semaphore](
            lambda: asyncio.Semaphore(concurrency)
        )
        self._context = context
        self._idle: dict[_Origin, deque[Connection]] = defaultdict(deque)
        self._lookups: dict[tuple[str, int], _Lookup] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request whose body is bytes. Raises httpx.TransportError, saying why."""
        data = _as_sent(request)
        url, extensions = request.url, request.extensions
        origin = (url.raw_scheme, url.raw_host, url.port or _PORTS[url.raw_scheme])
        async with self._turns[origin]:
            connection = self._idle_one(origin)
            if connection is None:
                connect_seconds = extensions.get("timeout", {}).get("connect")
                connection = await self._connect(origin, connect_seconds)
            answer = await connection.ask(data, extensions.get("largest_body", LARGEST_BODY))
            if connection.is_free:
                connection.idle_since = time.monotonic()
                self._idle[origin].append(connection)
        return _response(answer, request)

    async def aclose(self) -> None:
        """Close all connections that are idle."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()

    def _idle_one(self, origin: _Origin) -> Connection | None:
        """The one used last; those that have been idle for too long are closed."""
        idle, oldest = self._idle[origin], time.monotonic() - KEEPALIVE_SECONDS
        while idle and (idle[0].idle_since < oldest or not idle[0].is_free):
            idle.popleft().close()
        while idle:
            connection = idle.pop()
            if connection.is_free:
                return connection
        return None

    async def _connect(self, origin: _Origin, seconds: float | None) -> Connection:
        try:
            async with asyncio.timeout(seconds):
                return await self._connected(origin)
        except ssl.SSLCertVerificationError as error:
            why = f"certificate verify failed: {error.verify_message}"
            raise httpx.ConnectError(why) from None
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection in time") from None
        except OSError as error:
            raise httpx.ConnectError(error.strerror or type(error).__name__) from None

    async def _connected(self, origin: _Origin) -> Connection:
        scheme, raw_host, port = origin
        host, loop = raw_host.decode("ascii"), asyncio.get_running_loop()
        is_tls = scheme == b"https"
        opened = await aiohappyeyeballs.start_connection(
            await self._addresses(host, port), happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS
        )
        try:
            _, connection = await loop.create_connection(
                Connection,
                sock=opened,
                ssl=self._context if is_tls else None,
                server_hostname=host if is_tls else None,
            )
        except BaseException:
            opened.close()
            raise
        return connection

    async def _addresses(self, host: str, port: int) -> "list[Any]":
        """Looked up once for all that ask: a name server that is down holds up a thread each."""
        lookup = self._lookups.get((host, port))
        if lookup is None or lookup.is_stale:
            lookup = self._lookups[host, port] = _Lookup(host, port)
        return await asyncio.shield(lookup.addresses)


class _Lookup:
    def __init__(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._asked_at = time.monotonic()
        self.addresses = asyncio.ensure_future(
            loop.getaddrinfo(host, port, type=SOCK_STREAM, proto=IPPROTO_TCP)
        )
        # All that asked may have given up by then: asyncio would log a failure nobody looked at.
        self.addresses.add_done_callback(lambda done: done.cancelled() or done.exception())

    @property
    def is_stale(self) -> bool:
        is_failed = self.addresses.done() and (
            self.addresses.cancelled() or self.addresses.exception() is not None
        )
        return is_failed or time.monotonic() - self._asked_at > ADDRESSES_KEPT_SECONDS


def _as_sent(request: httpx.Request) -> bytes:
    """The request's bytes. Raises httpx.LocalProtocolError where a header would smuggle a line."""
    body = b""
    if isinstance(request.stream, httpx.SyncByteStream):
        body = b"".join(request.stream)
    target = request.extensions.get("target", request.url.raw_path)
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), target)]
    lines += [b"%s: %s" % header for header in request.headers.raw]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
        raise httpx.LocalProtocolError("a header holds a line break")
    return b"%s\r\n\r\n%s" % (head, body)


def _response(answer: Answer, request: httpx.Request) -> httpx.Response:
    # As a stream, it is left as it came: given as content, httpx would decompress it.
    stream = httpx.ByteStream(answer.body)
    response = httpx.Response(answer.status, headers=answer.headers, stream=stream, request=request)
    response.headers.encoding = "latin-1"  # else it is guessed at each look
    return response
