"""The client's requests as they leave, and their answers, held against what is published."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from jsonschema import Draft202012Validator

from subtokens.tasks.dintero.client import DinteroClient
from subtokens.tasks.dintero.transport import open_transport
from subtokens.workers.sandbox import SandboxOptions, serving

SCHEMA = json.loads((Path(__file__).parent / "exchange_token.json").read_text())
PARTNER, ACCOUNT = "T11200000", "T11200001"
API = "https://api.dintero.com/v1/accounts/"


class Recording(httpx.AsyncBaseTransport):
    """Passes each call on to the real transport, and keeps what went out and what came back."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.calls: list[tuple[httpx.Request, Any]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        response = await self._inner.handle_async_request(request)
        body = await response.aread()
        self.calls.append((request, json.loads(body)))
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def recorded(**options: Any) -> list[tuple[httpx.Request, Any]]:
    """Each of the client's calls once: partner token, exchange, account token, account list."""
    given = SandboxOptions(**options)
    transport = Recording(open_transport(1))
    async with serving(given) as sandbox, transport:
        client = DinteroClient(sandbox.base_url, transport, 5.0)
        partner = await client.partner_token(PARTNER, given.client_id, given.client_secret)
        bearer = partner.access_token.get_secret_value()
        exchanged = await client.exchange(PARTNER, bearer, ACCOUNT)
        await client.account_token(ACCOUNT, exchanged.access_token.get_secret_value(), PARTNER)
        page = await client.list_accounts(PARTNER, bearer)
        await client.list_accounts(PARTNER, bearer, page[-1].paging_token)
    return transport.calls


@pytest.mark.parametrize("refresh_tokens", [False, True])
async def test_the_exchange_goes_out_and_comes_back_as_published(refresh_tokens: bool) -> None:
    request, answer = (await recorded(refresh_tokens=refresh_tokens))[1]

    assert request.method == "POST"
    path = re.fullmatch(r"/v1/accounts/(?P<partner_id>.*)/auth/exchange_token", request.url.path)
    assert path is not None
    assert not request.url.query
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"].startswith("Bearer ")
    body = json.loads(request.content)
    call = {"path": path.groupdict(), "request": body, "answer": answer}
    Draft202012Validator(SCHEMA).validate(call)
    assert path["partner_id"] == PARTNER
    assert body == {"account_id": ACCOUNT}
    assert ("refresh_token" in answer) is refresh_tokens


async def test_the_other_calls_go_out_as_dinteros_pages_describe_them() -> None:
    calls = await recorded(accounts=150)
    partner, exchange, own, first, second = [request for request, _ in calls]
    answers = [answer for _, answer in calls]

    assert (partner.method, partner.url.path) == ("POST", f"/v1/accounts/{PARTNER}/auth/token")
    assert partner.headers["authorization"].startswith("Basic ")
    own_target = f"/v1/accounts/{ACCOUNT}/auth/token".encode()
    assert (own.method, own.extensions["target"]) == ("POST", own_target)
    assert own.headers["authorization"] == f"Bearer {answers[1]['access_token']}"
    for request in (partner, own):
        assert json.loads(request.content) == {
            "grant_type": "client_credentials",
            "audience": API + PARTNER,
        }
    for request in (exchange, first, second):
        assert request.headers["authorization"] == f"Bearer {answers[0]['access_token']}"
    for request in (first, second):
        assert (request.method, request.content) == ("GET", b"")
        assert request.url.path == f"/v1/accounts/{PARTNER}/management/accounts"
    assert parse_qs(first.url.query.decode()) == {"limit": ["100"]}
    assert parse_qs(second.url.query.decode()) == {
        "limit": ["100"],
        "starting_after": [answers[3][-1]["paging_token"]],
    }


@pytest.mark.parametrize("call", [0, 1, 2])
async def test_every_token_answer_of_the_sandbox_has_the_published_shape(call: int) -> None:
    answer = (await recorded())[call][1]
    validator = Draft202012Validator(SCHEMA | {"required": ["answer"]})
    assert [error.message for error in validator.iter_errors({"answer": answer})] == []
