"""Answers with bytes put in, taken out or turned, over real sockets: a DinteroError, or a token."""

import asyncio
import random

import pytest

from subtokens.tasks.dintero.client import DinteroClient
from subtokens.tasks.dintero.errors import DinteroError, ThrottledError
from subtokens.tasks.dintero.transport import open_transport

PARTNER, ACCOUNT, BEARER = "T11200000", "T11200001", "CANARY-partner-token"
BODY = b'{"access_token":"CANARY-token","token_type":"Bearer","expires_in":60}'
HEAD = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(BODY)
OK = b"HTTP/1.1 200 OK\r\n" + HEAD + b"\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY)
    + BODY
    + b"\r\n0\r\n\r\n"
)
THROTTLED = b"HTTP/1.1 429 Slow\r\nRetry-After: 120\r\n" + HEAD + b"\r\n" + BODY
ODD = [
    b"\0",
    b"\xff",
    b"\r\n",
    b"\n",
    b":",
    b" ",
    b"-1",
    b"9" * 400,
    b"nan",
    b"[" * 2_000,
    b"\r\n\r\n",
]


def spoilt(answer: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(answer))
    return answer[:start] + chance.choice(ODD) + answer[start + chance.choice([0, 0, 1, 4]) :]


@pytest.fixture
async def ask():
    """Asks a server that gives that answer and closes; returns the error, or none."""
    answers: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers[-1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    transport = open_transport(4)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    client = DinteroClient(url, transport, 5.0)

    async def ask(answer: bytes) -> DinteroError | None:
        answers.append(answer)
        try:
            await client.exchange(PARTNER, BEARER, ACCOUNT)
        except DinteroError as error:
            return error
        return None

    yield ask
    await transport.aclose()
    server.close()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("answer", [OK, CHUNKED, THROTTLED], ids=["plain", "chunked", "throttled"])
async def test_no_spoilt_answer_falls_over_hangs_or_is_repeated(ask, answer, seed) -> None:
    chance, refused = random.Random(seed), 0
    for _ in range(40):
        error = await ask(spoilt(answer, chance))
        refused += error is not None
        assert "CANARY" not in f"{error} {error!r} {vars(error) if error else ''}"
    assert refused


@pytest.mark.parametrize(
    "value",
    [b"nan", b"inf", b"-5", b"1e999", b"9" * 4_000, b"Mon, 01 Jan 99999 00:00:00 GMT", b"\xff"],
)
async def test_an_odd_wish_to_wait_leaves_the_answer_what_it_is(ask, value) -> None:
    error = await ask(THROTTLED.replace(b"120", value))

    assert type(error) is ThrottledError
    assert error.retry_after_seconds is None or 0 <= error.retry_after_seconds <= 3600
