"""docs/blame.md, row by row: what a fleet does about each answer that an upstream may give."""

import asyncio
import contextlib
import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from subtokens.config.settings import Settings
from subtokens.tasks.dintero.transport import open_transport
from subtokens.tasks.fleet import Fleet
from subtokens.tasks.tokens.status import fleet_status, last_outcome

DOCS = Path(__file__).parents[2] / "docs"
ACCOUNT, WITNESS = "T11200001", "T11200002"
SHORT_TIMES = {
    "call_timeout_seconds": 0.3,
    "batch_deadline_seconds": 2,
    "soft_limit_seconds": 3,
    "hard_limit_seconds": 4,
    "lease_seconds": 5,
    "visibility_timeout_seconds": 6,
}
TOKEN = {"access_token": "CANARY-token", "token_type": "Bearer", "expires_in": 14_400}
BODIES = {
    "an error": b'{"error": {"message": "no"}}',
    "no JSON": b"<html>",
    "nothing": b"",
    "a lifetime of 0": json.dumps(TOKEN | {"expires_in": 0}).encode(),
    "a lifetime in words": json.dumps(TOKEN | {"expires_in": "14400"}).encode(),
    "a token of two lines": json.dumps(TOKEN | {"access_token": "CANARY\r\nX: y"}).encode(),
    "a body without end": b'{"access_token": "' + b"CANARY" * 20_000,
}
WELL = json.dumps(TOKEN).encode()


class Row(NamedTuple):
    call: str
    answer: str
    before: str
    blame: str
    reason: str
    follows: str


def rows() -> list[Row]:
    lines = (DOCS / "blame.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    return [Row(*row) for row in cells[2:]]


class Raw:
    """An upstream that answers well, but for one kind of call; what it says, it says in bytes."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.is_well = False

    def _answer(self, call: str, account: str) -> bytes | None:
        """What to send; None to hang up."""
        is_witness = account == WITNESS and self.row.before != "others are refused"
        if self.is_well or call != self.row.call or is_witness:
            return _http("200", WELL)
        answer = self.row.answer
        if answer == "connection reset":
            return None
        if answer == "no HTTP":
            return b"220 mail.example ESMTP\r\n"
        if answer == "200 and half of the body":
            return _http("200", WELL)[:-20]
        status, _, rest = answer.partition(" and ")
        if rest:
            return _http(status, BODIES[rest])
        status, _, retry_after = answer.partition(", Retry-After: ")
        if retry_after == "a date in 20 s":
            retry_after = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
        return _http(status, b'{"error": {"message": "no"}}', retry_after)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.row.answer == "TLS failure":
            writer.write(b"HTTP/1.1 400 this is no TLS\r\n\r\n")
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                body = json.loads(await reader.readexactly(int(length[1]))) if length else {}
                path = head.split()[1]
                call, account = "exchange", body.get("account_id", "")
                if path.endswith("/auth/token"):
                    account = path.split("/")[3]
                    call = "partner token" if account.endswith("00000") else "account token"
                if not self.is_well and (call, self.row.answer) == (
                    self.row.call,
                    "no answer in time",
                ):
                    continue
                answer = self._answer(call, account)
                if answer:
                    writer.write(answer)
                    await writer.drain()
                if not answer or answer[-1:] not in b"}":
                    break
        writer.close()


def _http(status: str, body: bytes, retry_after: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json"]
    if status != "204":
        lines.append(f"Content-Length: {len(body)}")
    if status.startswith("3"):
        lines.append("Location: http://elsewhere.example/")
    if retry_after:
        lines.append(f"Retry-After: {retry_after}")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if status == "204" else body)


@contextlib.asynccontextmanager
async def fleet_of(row, redis, environment):
    raw = Raw(row)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    if row.answer == "connection refused":
        server.close()
        await server.wait_closed()
    elif row.answer == "no such host":
        base_url = "https://nowhere.invalid/v1"
    elif row.answer == "TLS failure":
        base_url = base_url.replace("http:", "https:")
    values = {k.removeprefix("SUBTOKENS_").lower(): v for k, v in environment.items()}
    kind = "account" if row.call == "account token" else "exchange"
    times = SHORT_TIMES if row.answer == "no answer in time" else {}
    settings = Settings(
        **(values | times | {"base_url": base_url, "rate_limit": 10_000, "token_kind": kind})
    )
    transport = open_transport(settings.concurrency)
    try:
        yield Fleet(settings, settings.partners[0], redis, transport), raw
    finally:
        await transport.aclose()
        server.close()


async def work_off(fleet):
    async def on_ended(_runs):
        pass

    await fleet.stint("exchange", on_ended).run()


async def have_history(fleet, raw, row):
    """What the row says happened before."""
    keys, redis = fleet.store.keys, fleet.store.redis
    if row.before.startswith("others"):
        raw.is_well = True
        await fleet.store.enrol([(WITNESS, "")], "imported")
        await work_off(fleet)
        raw.is_well = False
    await fleet.store.enrol([(ACCOUNT, "")], "imported")
    count, _, what = row.before.partition(" ")
    if what in {"of it", "others"}:
        outcome = row.reason if what == "of it" else "other"
        kept = {"attempts": count, "repeats": count if what == "of it" else 1}
        await redis.hset(keys.state(ACCOUNT), mapping=kept | {"history": f"1:{outcome}"})
        await redis.sadd(keys.failing, ACCOUNT)


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.call}-{row.answer}-{row.before}")
async def test_what_follows_is_what_the_table_says(row, redis, environment):
    async with fleet_of(row, redis, environment) as (fleet, raw):
        await have_history(fleet, raw, row)
        keys = fleet.store.keys
        due_before = await redis.zscore(keys.due, ACCOUNT)
        began_ms = fleet.store.now_ms()
        with contextlib.suppress(Exception):
            await work_off(fleet)

        status = await fleet_status(fleet.store, 100)
        state = await redis.hgetall(keys.state(ACCOUNT))
        due = await redis.zscore(keys.due, ACCOUNT)
        assert await redis.hlen(keys.claims) == 0
        if row.follows == "circuit":
            assert (status.barred_by, status.pause_reason[: len(row.reason)]) == (
                row.blame,
                row.reason,
            )
            retry_after = re.search(r"Retry-After: (\d+)", row.answer)
            assert status.paused_seconds > (int(retry_after[1]) - 1 if retry_after else 0)
        else:
            assert status.barred_by == ""
        if "pause" in row.follows:
            asked = float(re.search(r"pause (\d+)", row.follows)[1])
            assert asked - 1.5 < status.paused_seconds <= asked + 1
            assert row.blame == "upstream"
        else:
            assert row.follows == "circuit" or status.paused_seconds == 0
        punished = re.search(r"(back-off|quarantine) (\S+) to (\S+) s", row.follows)
        if punished is None:
            assert (due, status.failing) == (due_before, 0)
            return
        assert last_outcome(state[b"history"]) == row.reason
        least, most = float(punished[2]) * 1000, float(punished[3]) * 1000
        ended_ms = fleet.store.now_ms()
        assert began_ms + least - 1 <= abs(due) <= ended_ms + most
        assert (b"quarantined_at" in state) == (punished[1] == "quarantine")
        assert (state[b"is_final"] == b"1") == (row.blame == "account")


def test_the_table_has_every_door_and_every_kind_of_call():
    assert {row.blame for row in rows()} == {"account", "credential", "upstream", "us"}
    assert {row.call for row in rows()} == {"exchange", "account token", "partner token", "any"}
