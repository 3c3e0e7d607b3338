"""The calls that subtokens makes, each checked before its answer is believed."""

import asyncio
import base64
import json
import platform
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from importlib.metadata import version
from typing import TypeVar, cast

import httpx

from .connection import AnswerTooLargeError
from .errors import DinteroError, InvalidAnswerError, UnreachableError, error_for_status
from .wire import ListedAccount, TokenAnswer, parse_accounts, parse_retry_after, parse_token

PUBLIC_API = "https://api.dintero.com/v1"  # audiences name it, whichever host is called
LARGEST_TOKEN_BODY = 64 * 1024
LARGEST_LIST_BODY = 8 * 1024 * 1024
PAGE_SIZE = 100
VERSION = version("subtokens")

PARTNER_TOKEN = "partner_token"
EXCHANGE = "exchange"
ACCOUNT_TOKEN = "account_token"
ACCOUNTS = "accounts"
SETTINGS = "settings"

_as_json = json.JSONEncoder().encode
NoteCall = Callable[[str, str, float], None]  # of a kind, with its outcome, took so many seconds
T = TypeVar("T")


def audience_of(account_id: str) -> str:
    """The audience that stands for an account, as the API names it."""
    return f"{PUBLIC_API}/accounts/{account_id}"


class DinteroClient:
    """Calls Dintero through a transport; no retry, no opinion, no token but the last call's.

    Every method raises a DinteroError, whose class says whose fault it was. `note_call` is told of
    each call that has ended.
    """

    def __init__(
        self,
        base_url: str,
        transport: httpx.AsyncBaseTransport,
        call_timeout_seconds: float,
        note_call: NoteCall = lambda _call, _outcome, _seconds: None,
    ) -> None:
        self._base_url = base_url
        self._transport = transport
        self._timeout_seconds = call_timeout_seconds
        self._note_call = note_call
        self._connect = {"connect": min(5.0, call_timeout_seconds)}
        self._url = lru_cache(maxsize=16)(httpx.URL)
        self._base = httpx.URL(base_url)
        self._exchange_headers: tuple[tuple[str, int], httpx.Headers] = (("", 0), httpx.Headers())
        self._headers = [
            (b"Host", self._base.netloc),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", f"subtokens/{VERSION}".encode()),
            (b"Dintero-System-Name", b"python"),
            (b"Dintero-System-Version", platform.python_version().encode()),
            (b"Dintero-System-Plugin-Name", b"subtokens"),
            (b"Dintero-System-Plugin-Version", VERSION.encode()),
        ]

    async def partner_token(
        self, partner_id: str, client_id: str, client_secret: str
    ) -> TokenAnswer:
        """Get the partner's own token with its client credentials (Get Token)."""
        basic = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        body = {"grant_type": "client_credentials", "audience": audience_of(partner_id)}
        url = f"{self._base_url}/accounts/{partner_id}/auth/token"
        return await self._post_for_token(PARTNER_TOKEN, url, f"Basic {basic}", body)

    async def exchange(self, partner_id: str, partner_token: str, account_id: str) -> TokenAnswer:
        """Exchange the partner's token for one of a sub-account (Exchange Token)."""
        url = f"{self._base_url}/accounts/{partner_id}/auth/exchange_token"
        body = {"account_id": account_id}
        return await self._post_for_token(EXCHANGE, url, f"Bearer {partner_token}", body)

    async def account_token(
        self, account_id: str, exchange_token: str, audience_id: str
    ) -> TokenAnswer:
        """Spend an exchange token on the account's own token; `audience_id` names its audience."""
        target = self._base.raw_path + f"/accounts/{account_id}/auth/token".encode()
        body = {"grant_type": "client_credentials", "audience": audience_of(audience_id)}
        bearer = f"Bearer {exchange_token}"
        # Each account has a URL of its own, and parsing one costs a tenth of the call.
        return await self._post_for_token(
            ACCOUNT_TOKEN, self._base_url, bearer, body, {"target": target}
        )

    async def list_accounts(
        self, partner_id: str, partner_token: str, after: str | None = None
    ) -> list[ListedAccount]:
        """One page of the partner's sub-accounts, those after paging token `after`."""
        params = {"limit": str(PAGE_SIZE)} | ({"starting_after": after} if after else {})
        url = f"{self._base_url}/accounts/{partner_id}/management/accounts"
        return await self._get(
            ACCOUNTS, httpx.URL(url, params=params), partner_token, parse_accounts
        )

    async def account_settings(self, account_id: str, access_token: str) -> None:
        """Read an account's settings and drop them: a harmless proof that its token is accepted."""
        url = f"{self._base_url}/accounts/{account_id}/management/settings"
        await self._get(SETTINGS, httpx.URL(url), access_token, lambda _call, _body: None)

    async def _get(
        self, call: str, url: httpx.URL, bearer: str, parse: Callable[[str, bytes], T]
    ) -> T:
        headers = [*self._headers, (b"Authorization", f"Bearer {bearer}".encode())]
        request = httpx.Request("GET", url, headers=headers)
        return await self._call(call, request, LARGEST_LIST_BODY, parse)

    async def _post_for_token(
        self,
        call: str,
        url: str,
        authorization: str,
        body: dict[str, str],
        extensions: dict[str, bytes] | None = None,
    ) -> TokenAnswer:
        content = _as_json(body).encode()
        # As a stream, it is sent as it is: given as content, httpx would look for headers to add.
        request = httpx.Request(
            "POST",
            self._url(url),
            headers=self._post_headers(call, authorization, len(content)),
            stream=httpx.ByteStream(content),
            extensions=extensions,
        )
        return await self._call(call, request, LARGEST_TOKEN_BODY, parse_token)

    def _post_headers(self, call: str, authorization: str, length: int) -> httpx.Headers:
        """The headers of a call; thousands of exchanges share one bearer, so theirs are kept."""
        wanted = (authorization, length)
        kept, headers = self._exchange_headers
        if call == EXCHANGE and kept == wanted:
            return headers
        headers = httpx.Headers(
            [
                *self._headers,
                (b"Authorization", authorization.encode()),
                (b"Content-Type", b"application/json"),
                (b"Content-Length", str(length).encode()),
            ]
        )
        if call == EXCHANGE:
            self._exchange_headers = (wanted, headers)
        return headers

    async def _call(
        self,
        call: str,
        request: httpx.Request,
        largest_body: int,
        parse: Callable[[str, bytes], T],
    ) -> T:
        began, outcome = time.perf_counter(), "given_up"
        try:
            answer = parse(call, await self._body(call, request, largest_body))
            outcome = "ok"
        except DinteroError as error:
            outcome = type(error).reason  # not the instance's, which tells the status
            raise
        finally:
            self._note_call(call, outcome, time.perf_counter() - began)
        return answer

    async def _body(self, call: str, request: httpx.Request, largest_body: int) -> bytes:
        request.extensions.update(timeout=self._connect, largest_body=largest_body)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._transport.handle_async_request(request)
        except TimeoutError:
            detail = f"no answer within {self._timeout_seconds:g} s"
            raise UnreachableError(call, detail) from None
        except AnswerTooLargeError as error:
            raise InvalidAnswerError(call, str(error)) from None
        except httpx.TransportError as error:
            raise UnreachableError(call, f"no answer: {error}") from None
        if response.status_code != 200:
            retry_after = parse_retry_after(response.headers.get("retry-after"))
            raise error_for_status(call, response.status_code, retry_after_seconds=retry_after)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise InvalidAnswerError(call, "the answer is compressed, which was not asked for")
        return b"".join(cast("httpx.ByteStream", response.stream))  # whole, as our transport's are


async def pages_of_accounts(
    fetch_page: Callable[[str | None], Awaitable[list[ListedAccount]]],
) -> AsyncIterator[list[ListedAccount]]:
    """Walk the account list page by page; `fetch_page(after)` makes one call.

    Ends at a page shorter than the page size. Raises InvalidAnswerError when a full page carries no
    new paging token, as the walk would never end.
    """
    after: str | None = None
    seen: set[str] = set()
    while True:
        page = await fetch_page(after)
        yield page
        if len(page) < PAGE_SIZE:
            return
        after = page[-1].paging_token
        if not after or after in seen:
            raise InvalidAnswerError(
                ACCOUNTS, "paging_token is missing or repeated; the list has no end"
            )
        seen.add(after)
