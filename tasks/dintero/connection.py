"""One HTTP/1.1 connection: a request at a time; the answer, parsed by httptools, whole and bounded.

Source: RFC 9112. The parser is llhttp, Node's own, in its strict mode.
"""

import asyncio
from dataclasses import dataclass
from typing import cast

import httptools
import httpx

LARGEST_HEAD = 64 * 1024
_Headers = list[tuple[bytes, bytes]]


class AnswerTooLargeError(httpx.RemoteProtocolError):
    """The body is larger than the request allows for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; of an error status perhaps the beginning of its body alone."""

    status: int
    headers: _Headers
    body: bytes


class Connection(asyncio.Protocol):
    """Asks and is answered; whatever goes wrong ends it. Errors are httpx's."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._asked: asyncio.Future[Answer] | None = None
        self._is_connected = False
        self._largest_body = self._received = 0
        self._forget_message()
        self.idle_since = 0.0

    @property
    def is_free(self) -> bool:
        """Whether it can take a request."""
        return self._is_connected and self._asked is None and not self._transport.is_closing()

    async def ask(self, request: bytes, largest_body: int) -> Answer:
        """Send a request and wait for its answer. Raises httpx.TransportError.

        Cancelled, it closes the connection: the answer may still be on its way.
        """
        self._asked = asyncio.get_running_loop().create_future()
        self._largest_body, self._received = largest_body, 0
        self._forget_message()
        self._transport.write(request)
        try:
            return await self._asked
        except BaseException:
            self.close()
            raise
        finally:
            self._asked = None

    def close(self) -> None:
        """Close it at once."""
        if self._is_connected:
            self._is_connected = False
            self._transport.abort()

    # --- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._is_connected = True

    def data_received(self, data: bytes) -> None:
        """A part of the answer is here."""
        if self._asked is None or self._asked.done():
            self.close()  # nobody asked for that
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(f"not HTTP/1.1 ({type(error).__name__})"))
        body_received = self._received - LARGEST_HEAD
        if body_received > (self._largest_body if self._status else 0):
            self._fail(httpx.RemoteProtocolError("the answer does not end"))

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by whomever."""
        self._is_connected = False
        if self._status >= 200 and not self._has_length and exc is None:
            self._complete()  # its end was its length (RFC 9112, 6.3)
        system = getattr(exc, "strerror", None)
        self._fail(httpx.ReadError(system or "the connection was closed before the answer ended"))

    # --- what httptools tells

    def on_message_begin(self) -> None:
        """An answer begins, perhaps an interim one."""
        if self._asked is not None and self._asked.done():
            self.close()  # more than was asked for
        self._forget_message()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of its head."""
        self._headers.append((name, value))
        self._head_length += len(name) + len(value)
        if self._head_length > LARGEST_HEAD:
            self._fail(httpx.RemoteProtocolError(f"a head of more than {LARGEST_HEAD} bytes"))
        self._has_length |= name.lower() in {b"content-length", b"transfer-encoding"}

    def on_headers_complete(self) -> None:
        """Its head has ended."""
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._body += body
        if len(self._body) > self._largest_body:
            self._fail(AnswerTooLargeError(f"a body of more than {self._largest_body} bytes"))

    def on_message_complete(self) -> None:
        """It has ended."""
        if self._status < 200:  # an interim answer: the one asked for follows
            return
        if not self._parser.should_keep_alive():
            self._is_connected = False
            self._transport.close()
        self._complete()

    # ---

    def _forget_message(self) -> None:
        self._status, self._body, self._has_length = 0, b"", False
        self._headers: _Headers = []
        self._head_length = 0

    def _complete(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(Answer(self._status, self._headers, self._body))

    def _fail(self, error: httpx.TransportError) -> None:
        """With an error status, the status decides, whatever became of its body."""
        if self._asked is None or self._asked.done():
            return
        if self._status > 200:
            self._complete()
        else:
            self._asked.set_exception(error)
        self.close()
