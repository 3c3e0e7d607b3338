"""The sandbox's answers held against the published endpoint, and proof that the schema can fail."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from subtokens.workers.sandbox import SandboxOptions, serving

SCHEMA = json.loads((Path(__file__).parent / "exchange_token.json").read_text())
AUDIENCE = "https://api.dintero.com/v1/accounts/T11200000"
ANSWER = {"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 86_400}


def complaints(part: str, instance: object) -> list[str]:
    validator = Draft202012Validator(SCHEMA | {"required": [part]})
    return [error.message for error in validator.iter_errors({part: instance})]


async def recorded_exchange(options: SandboxOptions) -> dict[str, Any]:
    async with serving(options) as sandbox, httpx.AsyncClient(base_url=sandbox.base_url) as http:
        partner = await http.post(
            "/accounts/T11200000/auth/token",
            auth=(options.client_id, options.client_secret),
            json={"grant_type": "client_credentials", "audience": AUDIENCE},
        )
        exchange = await http.post(
            "/accounts/T11200000/auth/exchange_token",
            headers={"Authorization": f"Bearer {partner.json()['access_token']}"},
            json={"account_id": "T11200001"},
        )
        assert exchange.headers["content-type"] == "application/json"
        return {
            "path": {"partner_id": exchange.request.url.path.split("/")[3]},
            "request": json.loads(exchange.request.content),
            "answer": exchange.json(),
        }


def test_the_schema_is_itself_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("refresh_tokens", [False, True])
async def test_the_sandbox_answers_as_published(refresh_tokens: bool) -> None:
    recorded = await recorded_exchange(SandboxOptions(refresh_tokens=refresh_tokens))

    Draft202012Validator(SCHEMA).validate(recorded)
    assert ("refresh_token" in recorded["answer"]) is refresh_tokens


def test_examples_made_from_the_page_pass() -> None:
    assert complaints("path", {"partner_id": "P11200000"}) == []
    assert complaints("request", {"account_id": "T11200001"}) == []
    assert complaints("answer", ANSWER | {"refresh_token": "r"}) == []


@pytest.mark.parametrize(
    "partner_id",
    [
        "",
        "T112",
        "X11200000",
        "T11200001",
        "t11200000",
        "T11200000\n",
        "T112000000",
        "T\u0661\u0661\u066200000",
    ],
)
def test_the_schema_refuses_a_wrong_partner_id(partner_id: str) -> None:
    assert complaints("path", {"partner_id": partner_id})


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"account_id": 11_200_001},
        {"account_id": "T1120000"},
        {"account_id": "T112000011"},
        {"account_id": "T11200001\n"},
        {"account_id": "T1120000\u0661"},
        {"account_id": "T11200001", "audience": "x"},
    ],
)
def test_the_schema_refuses_a_wrong_request(body: object) -> None:
    assert complaints("request", body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"access_token": None},
        {"token_type": "bearer"},
        {"token_type": "MAC"},
        {"expires_in": "86400"},
        {"expires_in": 0.5},
        {"refresh_token": 1},
        {"scope": "admin:accounts"},
    ],
)
def test_the_schema_refuses_a_wrong_answer(wrong: dict[str, object]) -> None:
    assert complaints("answer", ANSWER | wrong)


@pytest.mark.parametrize("missing", sorted(ANSWER))
def test_the_schema_refuses_an_answer_with_a_field_missing(missing: str) -> None:
    assert complaints("answer", {name: value for name, value in ANSWER.items() if name != missing})


@pytest.mark.parametrize("missing", ["path", "request", "answer"])
def test_the_schema_refuses_a_recorded_call_with_a_part_missing(missing: str) -> None:
    recorded = {
        "path": {"partner_id": "T11200000"},
        "request": {"account_id": "T11200001"},
        "answer": ANSWER,
    }
    del recorded[missing]

    assert not Draft202012Validator(SCHEMA).is_valid(recorded)
