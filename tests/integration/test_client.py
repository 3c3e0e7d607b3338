"""DinteroClient over the real transport: against the sandbox, and against a server that is hostile.

Whatever comes back, the caller gets a DinteroError of the right blame, in time, and no text of it
holds a secret, a token or a byte of the answer.
"""

import asyncio
import gzip
import ipaddress
import json
import platform
import ssl
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from subtokens import __version__
from subtokens.tasks.dintero.client import (
    LARGEST_TOKEN_BODY,
    PAGE_SIZE,
    DinteroClient,
    pages_of_accounts,
)
from subtokens.tasks.dintero.errors import (
    Blame,
    DinteroError,
    InvalidAnswerError,
    MisaddressedError,
    RefusedError,
    ThrottledError,
    UnauthorizedError,
    UnreachableError,
    UpstreamError,
)
from subtokens.tasks.dintero.transport import open_transport
from subtokens.tasks.dintero.wire import ListedAccount
from subtokens.workers.sandbox import Sandbox, SandboxOptions, serving

PARTNER, ACCOUNT = "T11200000", "T11200001"
BEARER = "CANARY-partner-token"
SECRET = "CANARY-client-secret"
ANSWER = {"access_token": "CANARY-token", "token_type": "Bearer", "expires_in": 60}
GOOD = json.dumps(ANSWER).encode()

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def client_of(base_url: str, timeout_seconds: float = 5.0) -> AsyncIterator[DinteroClient]:
    transport = open_transport(10)
    try:
        yield DinteroClient(base_url, transport, timeout_seconds)
    finally:
        await transport.aclose()


class Hostile:
    """A server on loopback that answers every request as it is told; it keeps what it was asked."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.base_url = ""
        self.requests: list[str] = []
        self.sent = 0
        self.broken_off = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(head)
                length = [
                    line for line in head.splitlines() if line.lower().startswith("content-length:")
                ]
                await reader.readexactly(int(length[0].split(":")[1]) if length else 0)
                await self._handler(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.broken_off.set()
        finally:
            writer.close()


@asynccontextmanager
async def hostile(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Hostile]:
    answering = Hostile(handler)
    listener = await asyncio.start_server(answering, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    answering.base_url = f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield answering
    finally:
        listener.close()
        await asyncio.wait_for(listener.wait_closed(), 5)


def answering(
    status: str = "200 OK", body: bytes = GOOD, *headers: str, length: int | None = None
) -> Handler:
    """Answer with these bytes; `length` lies about how many they are."""

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stated = len(body) if length is None else length
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {stated}", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        if stated > len(body):
            writer.close()

    return handle


def raw(answer: bytes) -> Handler:
    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    return handle


async def error_of(base_url: str, timeout_seconds: float = 5.0) -> DinteroError:
    """The error of an exchange there, once it is sure that none of its texts tells a secret."""
    async with client_of(base_url, timeout_seconds) as client:
        with pytest.raises(DinteroError) as caught:
            await client.exchange(PARTNER, BEARER, ACCOUNT)
        with pytest.raises(DinteroError) as same:
            await client.partner_token(PARTNER, "an-id", SECRET)
    assert type(same.value) is type(caught.value)
    for error in (caught.value, same.value):
        assert "CANARY" not in f"{error} {error!r} {error.args} {vars(error)}"
        assert "CANARY" not in "".join(traceback.format_exception(error))
    assert str(caught.value).startswith("exchange: ")
    assert str(same.value).startswith("partner_token: ")
    return caught.value


# Against the sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serving(SandboxOptions(accounts=250, inactive=1, refresh_tokens=True)) as served:
        yield served


async def partner_token(client: DinteroClient) -> str:
    answer = await client.partner_token(PARTNER, "sandbox-client-id", "sandbox-client-secret")
    return answer.access_token.get_secret_value()


@pytest.mark.parametrize("audience", ["partner", "account"])
async def test_the_three_calls_lead_from_the_secret_to_the_accounts_own_token(
    audience: str,
) -> None:
    options = SandboxOptions.model_validate({"audience": audience})
    async with serving(options) as sandbox, client_of(sandbox.base_url) as client:
        bearer = await partner_token(client)
        exchanged = await client.exchange(PARTNER, bearer, ACCOUNT)
        own = await client.account_token(
            ACCOUNT,
            exchanged.access_token.get_secret_value(),
            PARTNER if audience == "partner" else ACCOUNT,
        )
    tokens = {bearer, *(answer.access_token.get_secret_value() for answer in (exchanged, own))}
    assert len(tokens) == 3
    assert own.expires_in == exchanged.expires_in == 14_400


async def test_the_whole_list_is_walked_in_pages(sandbox: Sandbox) -> None:
    async with client_of(sandbox.base_url) as client:
        bearer = await partner_token(client)
        pages = [
            page
            async for page in pages_of_accounts(
                lambda after: client.list_accounts(PARTNER, bearer, after)
            )
        ]
    assert [len(page) for page in pages] == [100, 100, 50]
    listed = [account for page in pages for account in page]
    assert len({account.account_id for account in listed}) == 250
    assert [account.active for account in listed] == [True] * 249 + [False]


async def test_each_refusal_of_the_sandbox_is_laid_at_its_door(sandbox: Sandbox) -> None:
    async with client_of(sandbox.base_url) as client:
        bearer = await partner_token(client)
        with pytest.raises(UnauthorizedError):
            await client.partner_token(PARTNER, "sandbox-client-id", SECRET)
        with pytest.raises(UnauthorizedError):
            await client.exchange(PARTNER, BEARER, ACCOUNT)
        for unknown_or_inactive in ("T11209999", "T11200250"):
            with pytest.raises(RefusedError):
                await client.exchange(PARTNER, bearer, unknown_or_inactive)


# Against a server that is hostile


async def test_the_hostile_server_can_also_answer_as_promised() -> None:
    extra = json.dumps(ANSWER | {"scope": "x"}).encode()
    async with (
        hostile(answering("200 OK", extra)) as server,
        client_of(server.base_url) as client,
    ):
        answer = await client.exchange(PARTNER, BEARER, ACCOUNT)
    assert answer.access_token.get_secret_value() == "CANARY-token"


async def test_it_says_who_calls_and_keeps_no_cookies() -> None:
    cookie = "Set-Cookie: session=CANARY; Path=/"
    async with (
        hostile(answering("200 OK", GOOD, cookie)) as server,
        client_of(server.base_url) as client,
    ):
        for _ in range(2):
            await client.exchange(PARTNER, BEARER, ACCOUNT)
    for request in server.requests:
        lines = request.splitlines()
        assert lines[0] == f"POST /v1/accounts/{PARTNER}/auth/exchange_token HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        headers = {name.lower(): value for name, value in headers.items()}
        assert headers["user-agent"] == f"subtokens/{__version__}"
        assert headers["dintero-system-name"] == "python"
        assert headers["dintero-system-version"] == platform.python_version()
        assert headers["dintero-system-plugin-name"] == "subtokens"
        assert headers["dintero-system-plugin-version"] == __version__
        assert headers["content-type"] == headers["accept"] == "application/json"
        assert headers["authorization"] == f"Bearer {BEARER}"
        assert headers["accept-encoding"] == "identity"
        assert "cookie" not in headers
        assert len(headers) == len(lines) - 2  # none is sent twice


BLAMES = [
    *[(status, RefusedError, Blame.ACCOUNT) for status in (400, 403, 404, 409, 410, 422)],
    (401, UnauthorizedError, Blame.CREDENTIAL),
    *[(status, MisaddressedError, Blame.US) for status in (301, 302, 303, 307, 308)],
    *[(status, UpstreamError, Blame.UPSTREAM) for status in (201, 206, 418, 500, 502, 503)],
    (429, ThrottledError, Blame.UPSTREAM),
]


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (b'{"error": {"message": "CANARY"}}', "Content-Type: application/json"),
        (b"<html>CANARY</html>" * 10_000, "Content-Type: text/html"),
        (gzip.compress(b"<html>CANARY</html>"), "Content-Encoding: gzip"),
    ],
    ids=["as documented", "large", "compressed"],
)
@pytest.mark.parametrize(("status", "kind", "blame"), BLAMES)
async def test_a_status_means_the_same_whatever_body_comes_with_it(
    status: int, kind: type[DinteroError], blame: Blame, body: bytes, header: str
) -> None:
    async with hostile(answering(f"{status} CANARY", body, header)) as server:
        error = await error_of(server.base_url)
    assert type(error) is kind
    assert (error.status, error.blame) == (status, blame)
    assert str(status) in str(error)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("86400", 3600.0), ("CANARY", None), ("-1", None)]
)
async def test_a_wish_to_wait_is_carried_along(
    status: int, value: str, seconds: float | None
) -> None:
    async with hostile(answering(f"{status} No", b"{}", f"Retry-After: {value}")) as server:
        error = await error_of(server.base_url)
    assert error.retry_after_seconds == seconds


async def test_a_redirect_is_not_followed_and_its_target_never_asked() -> None:
    async with hostile(answering()) as target:
        location = f"Location: {target.base_url}/CANARY"
        async with hostile(answering("307 Elsewhere", b"", location)) as server:
            error = await error_of(server.base_url)
    assert "SUBTOKENS_BASE_URL" in str(error)
    assert len(server.requests) == 2
    assert target.requests == []


INVALID = {
    "html": answering("200 OK", b"<html>CANARY</html>", "Content-Type: text/html"),
    "empty": answering("200 OK", b""),
    "gzip": answering("200 OK", gzip.compress(GOOD), "Content-Encoding: gzip"),
    "gzip in name alone": answering("200 OK", GOOD, "Content-Encoding: gzip"),
    "gzip unannounced": answering("200 OK", gzip.compress(GOOD)),
    "large": answering("200 OK", b'{"a":"' + b"CANARY" * LARGEST_TOKEN_BODY),
    "until closed": raw(b"HTTP/1.1 200 OK\r\n\r\nCANARY"),
}


@pytest.mark.parametrize("name", INVALID)
async def test_a_success_without_what_was_promised_is_an_invalid_answer(name: str) -> None:
    async with hostile(INVALID[name]) as server:
        assert type(await error_of(server.base_url)) is InvalidAnswerError


async def test_a_length_that_is_too_short_is_never_made_up_for() -> None:
    async with hostile(answering(length=len(GOOD) - 1)) as server:
        # Which of the two depends on whether the rest is there when the body has been read.
        assert type(await error_of(server.base_url)) in {InvalidAnswerError, UnreachableError}


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


OK = b"HTTP/1.1 200 OK\r\n"
BROKEN = {
    "reset": reset,
    "closed": raw(b""),
    "truncated": answering(length=len(GOOD) + 1),
    "truncated chunks": raw(OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\nCANARY"),
    "no chunk size": raw(OK + b"Transfer-Encoding: chunked\r\n\r\nCANARY\r\n"),
    "no HTTP": raw(b"CANARY\r\n\r\n"),
    "no header": raw(OK + b"CANARY\r\n\r\n"),
    "endless header": raw(OK + b"X: " + b"CANARY" * 20_000 + b"\r\n\r\n"),
    "no length": raw(OK + b"Content-Length: CANARY\r\n\r\n"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_an_answer_that_breaks_off_or_is_no_http_is_no_answer(name: str) -> None:
    async with hostile(BROKEN[name]) as server:
        assert type(await error_of(server.base_url)) is UnreachableError


async def test_an_endless_answer_is_broken_off_early() -> None:
    sent = 0

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"C" * 1024 + b"\r\n")
            await writer.drain()
            sent += 1024

    async with hostile(endless) as server:
        assert type(await error_of(server.base_url)) is InvalidAnswerError
        await asyncio.wait_for(server.broken_off.wait(), 5)
    assert sent < 32 * 2**20  # what loopback's buffers swallow, twice


async def silence(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def slow_headers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def slow_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"Content-Length: 60000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("handler", [silence, slow_headers, slow_body])
async def test_a_call_ends_at_its_timeout_even_if_bytes_keep_trickling(handler: Handler) -> None:
    ends: list[asyncio.Task[None] | None] = []

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(asyncio.current_task())
        await handler(reader, writer)

    async with hostile(noted) as server:
        started = time.monotonic()
        error = await error_of(server.base_url, timeout_seconds=0.2)
        assert time.monotonic() - started < 3
        for task in filter(None, ends):
            task.cancel()
    assert type(error) is UnreachableError
    assert "no answer within 0.2 s" in str(error)


async def test_a_port_where_nobody_listens_is_no_answer() -> None:
    async with hostile(answering()) as server:
        pass
    assert type(await error_of(server.base_url)) is UnreachableError


# TLS


def certificate(folder: Path, address: str) -> Path:
    """A self-signed certificate for that address with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
        )
        .sign(key, SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + signed.public_bytes(Encoding.PEM)
    )
    return file


def tls_of(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with hostile(answering(), tls_of(certificate(tmp_path, "127.0.0.1"))) as server:
        assert type(await error_of(server.base_url)) is UnreachableError
    assert server.requests == []


async def test_a_trusted_certificate_will_do_and_one_for_another_host_will_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address, asked in (("127.0.0.1", 1), ("127.0.0.2", 0)):
        file = certificate(tmp_path, address)
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        async with hostile(answering(), tls_of(file)) as server:
            if asked:
                async with client_of(server.base_url) as client:
                    assert (await client.exchange(PARTNER, BEARER, ACCOUNT)).expires_in == 60
            else:
                assert type(await error_of(server.base_url)) is UnreachableError
        assert len(server.requests) == asked


# Pages of accounts


def page_of(*paging_tokens: str | None) -> list[ListedAccount]:
    return [
        ListedAccount(account_id=f"T112{number:05}", paging_token=token)
        for number, token in enumerate(paging_tokens, start=1)
    ]


async def walked(*pages: list[ListedAccount]) -> list[str | None]:
    """The paging tokens that a walk over these pages asks after."""
    asked: list[str | None] = []

    async def fetch(after: str | None) -> list[ListedAccount]:
        asked.append(after)
        return pages[len(asked) - 1]

    async for _ in pages_of_accounts(fetch):
        pass
    return asked


async def test_an_empty_list_costs_one_call() -> None:
    assert await walked([]) == [None]


async def test_a_short_page_is_the_last() -> None:
    full = page_of(*map(str, range(PAGE_SIZE)))
    assert await walked(full, page_of("a")) == [None, "99"]


async def test_a_full_last_page_costs_one_more_call() -> None:
    first, second = (page_of(*[f"{name}{n}" for n in range(PAGE_SIZE)]) for name in "ab")
    assert await walked(first, second, []) == [None, "a99", "b99"]


@pytest.mark.parametrize("last", [None, ""])
async def test_a_full_page_without_a_paging_token_ends_in_an_error(last: str | None) -> None:
    with pytest.raises(InvalidAnswerError, match="paging_token"):
        await walked(page_of(*["a"] * (PAGE_SIZE - 1), last))


async def test_a_list_that_goes_in_circles_ends_in_an_error() -> None:
    a, b = (page_of(*[name] * PAGE_SIZE) for name in "ab")
    with pytest.raises(InvalidAnswerError, match="repeated"):
        await walked(a, b, a)
