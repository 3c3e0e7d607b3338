"""A sub-account's token on every request of an httpx client."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from threading import Lock
from time import monotonic

import httpx

from ...config.durations import Duration, seconds_of
from ...config.errors import InputError
from ...config.ids import checked_account_id
from .async_reader import AsyncTokenReader
from .errors import TokenError
from .reader import TokenReader
from .reading import Steps
from .record import TokenRecord


class SubAccountAuth(httpx.Auth):
    """Signs requests as a sub-account; a token that is answered 401 is reported, once.

    Then it waits up to `wait_seconds` for a newer one and asks once more; if none comes, or the
    request's body was a stream, the 401 is given back. Each token must last `valid_for`. Takes a
    TokenReader in httpx.Client, an AsyncTokenReader in httpx.AsyncClient, and raises what it does.
    """

    def __init__(
        self,
        reader: TokenReader | AsyncTokenReader,
        account_id: str,
        *,
        valid_for: Duration = 60,
        wait_seconds: float = 10.0,
    ) -> None:
        self._reader = reader
        self._account_id = checked_account_id(account_id, reader.partner_id)
        self._valid_for = seconds_of(valid_for)
        self._wait_seconds = wait_seconds
        self._reported = 0  # the newest generation that was
        # Of requests that are refused together, one reports and looks for a newer token; the
        # others find it at hand.
        self._lock, self._async_lock = Lock(), asyncio.Lock()

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign, and sign anew after a 401."""
        reader = self._reader
        if not isinstance(reader, TokenReader):
            raise InputError("httpx.Client takes SubAccountAuth(TokenReader(), …)")
        record = reader.get(self._account_id, valid_for=self._valid_for)
        response = yield _signed(request, record)
        if _is_refused(response):
            ends_at = monotonic() + self._wait_seconds
            response.read()  # which frees its connection while we wait
            with self._lock:
                newer = reader.follow(self._replacing(record, request, ends_at))
            if newer:
                yield _signed(request, newer)

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign, and sign anew after a 401."""
        reader = self._reader
        if not isinstance(reader, AsyncTokenReader):
            raise InputError("httpx.AsyncClient takes SubAccountAuth(AsyncTokenReader(), …)")
        record = await reader.get(self._account_id, valid_for=self._valid_for)
        response = yield _signed(request, record)
        if _is_refused(response):
            ends_at = monotonic() + self._wait_seconds
            await response.aread()
            async with self._async_lock:
                newer = await reader.follow(self._replacing(record, request, ends_at))
            if newer:
                yield _signed(request, newer)

    def _replacing(
        self, refused: TokenRecord, request: httpx.Request, ends_at: float
    ) -> Steps[TokenRecord | None]:
        """The token to ask with once more, if there is one and the request can be repeated."""
        reader, is_repeatable = self._reader, isinstance(request.stream, httpx.ByteStream)
        wanted = self._account_id, self._valid_for, refused.generation
        newer = None
        with suppress(TokenError):
            newer = yield from reader.waiting(*wanted)
        if newer is None and refused.generation > self._reported:
            yield from reader.rejecting(refused)
            self._reported = refused.generation
        if newer is None and is_repeatable:
            with suppress(TokenError):
                newer = yield from reader.waiting(*wanted, ends_at - monotonic())
        return newer if is_repeatable else None


def _signed(request: httpx.Request, record: TokenRecord) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {record.access_token}"
    return request


def _is_refused(response: httpx.Response) -> bool:
    # Where a redirect led to another host, httpx took the token off: its 401 is not about it.
    return response.status_code == 401 and "Authorization" in response.request.headers
