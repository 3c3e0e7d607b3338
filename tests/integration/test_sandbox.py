"""The sandbox over real HTTP on loopback; each of its checks has a negative test of its own."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from subtokens.workers.sandbox import Sandbox, SandboxOptions, serving

PARTNER = "T11200000"
FIRST, SECOND, INACTIVE = "T11200001", "T11200002", "T11200003"
API = "https://api.dintero.com/v1/accounts/"
CLIENT = ("sandbox-client-id", "sandbox-client-secret")
GRANT = {"grant_type": "client_credentials", "audience": API + PARTNER}
EXCHANGE = f"/accounts/{PARTNER}/auth/exchange_token"
TOKEN = f"/accounts/{PARTNER}/auth/token"
LIST = f"/accounts/{PARTNER}/management/accounts"
SETTINGS = f"/accounts/{FIRST}/management/settings"


class Clock:
    """Unix seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Dintero:
    """A served sandbox, a client of it, and the tokens a test needs."""

    def __init__(self, sandbox: Sandbox, http: httpx.AsyncClient, clock: Clock) -> None:
        self.sandbox = sandbox
        self.http = http
        self.clock = clock

    async def post(self, path: str, token: str, body: object) -> httpx.Response:
        return await self.http.post(path, headers=bearer(token), json=body)

    async def get(self, path: str, token: str) -> httpx.Response:
        return await self.http.get(path, headers=bearer(token))

    async def partner_token(self) -> str:
        return token_of(await self.http.post(TOKEN, auth=CLIENT, json=GRANT))

    async def exchange(self, account: object = FIRST) -> httpx.Response:
        return await self.post(EXCHANGE, await self.partner_token(), {"account_id": account})

    async def exchange_token(self, account: str = FIRST) -> str:
        return token_of(await self.exchange(account))

    async def listed(self) -> dict[str, dict[str, Any]]:
        """The first page of the list, by account."""
        page = (await self.get(f"{LIST}?limit=100", await self.partner_token())).json()
        return {element["account_id"]: element for element in page}

    async def change_accounts(self, **changes: Any) -> httpx.Response:
        return await self.http.post(self.sandbox.accounts_url, json=changes)

    async def change_options(self, **options: Any) -> httpx.Response:
        return await self.http.post(self.sandbox.options_url, json=options)

    async def stats(self) -> dict[str, Any]:
        answer = await self.http.get(self.sandbox.stats_url)
        stats = answer.json()
        assert isinstance(stats, dict)
        return stats

    async def expect_refused(self, answer: httpx.Response, status: int, code: str) -> None:
        """The answer is Dintero's error body, and the sandbox counted the reason."""
        assert answer.headers["content-type"] == "application/json"
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (status, code)
        assert error["message"]
        assert (await self.stats())["refused"] == {code: 1}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def token_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    assert isinstance(token, str)
    return token


@pytest.fixture
def options(request: pytest.FixtureRequest) -> SandboxOptions:
    return SandboxOptions(**{"accounts": 3, "inactive": 1} | getattr(request, "param", {}))


@pytest.fixture
async def dintero(options: SandboxOptions) -> AsyncIterator[Dintero]:
    clock = Clock()
    async with (
        serving(options, clock=clock) as sandbox,
        httpx.AsyncClient(base_url=sandbox.base_url) as http,
    ):
        yield Dintero(sandbox, http, clock)


def with_options(**given: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("options", [given], indirect=True)


# What it is for


async def test_an_exchange_token_opens_the_settings_of_its_account(dintero: Dintero) -> None:
    answer = await dintero.get(SETTINGS, await dintero.exchange_token())

    settings = answer.json()
    assert settings.pop("company").keys() >= {"display_name"}
    assert settings == {
        "account_id": FIRST,
        "partner_id": "T112",
        "active": True,
        "livemode": False,
    }


@with_options(accepts="account")
async def test_the_third_call_gives_the_account_token(dintero: Dintero) -> None:
    token = await dintero.exchange_token()
    answer = await dintero.post(f"/accounts/{FIRST}/auth/token", token, GRANT)

    assert answer.json()["token_type"] == "Bearer"
    assert answer.json()["expires_in"] == 14_400
    assert (await dintero.get(SETTINGS, token_of(answer))).status_code == 200


async def test_the_list_is_walked_by_paging_token(dintero: Dintero) -> None:
    token = await dintero.partner_token()
    first = (await dintero.get(f"{LIST}?limit=2", token)).json()
    rest = (await dintero.get(f"{LIST}?starting_after={first[-1]['paging_token']}", token)).json()

    assert [element["account_id"] for element in first + rest] == [FIRST, SECOND, INACTIVE]


async def test_stats_tell_the_accounts_only_when_asked(dintero: Dintero) -> None:
    await dintero.exchange_token()
    assert "accounts" not in await dintero.stats()

    answer = await dintero.http.get(dintero.sandbox.stats_url, params={"accounts": "1"})
    assert answer.json()["accounts"]["exchange"] == {FIRST: 1}
    assert answer.json()["statuses"]["exchange"] == {"200": 1}


async def test_calls_tell_each_arrival(dintero: Dintero) -> None:
    token = await dintero.partner_token()
    dintero.clock.now += 2.5
    await dintero.post(EXCHANGE, token, {"account_id": INACTIVE})

    rows = (await dintero.http.get(dintero.sandbox.calls_url)).json()
    assert rows == [
        [1, 0.0, "partner_token", PARTNER, 200],
        [2, 2.5, "exchange", INACTIVE, 403],
    ]
    later = await dintero.http.get(dintero.sandbox.calls_url, params={"after": 1})
    assert later.json() == rows[1:]
    assert (await dintero.stats())["started_at"] + rows[1][1] == dintero.clock.now


@with_options(reissue="remaining", lifetime_seconds=60)
async def test_an_upstream_that_caches_gives_the_same_token_with_less_life(
    dintero: Dintero,
) -> None:
    first = await dintero.exchange()
    dintero.clock.now += 12.5
    again = await dintero.exchange()
    assert again.json() == first.json() | {"expires_in": 47}
    assert (await dintero.get(SETTINGS, token_of(again))).status_code == 200


@with_options(reissue="full", lifetime_seconds=60)
async def test_an_upstream_that_lies_claims_a_full_life_for_a_token_that_ends(
    dintero: Dintero,
) -> None:
    first = await dintero.exchange()
    dintero.clock.now += 59
    again = await dintero.exchange()
    assert again.json() == first.json()
    dintero.clock.now += 1
    answer = await dintero.get(SETTINGS, token_of(again))
    await dintero.expect_refused(answer, 401, "expired_token")


@with_options(latency_seconds=0.2)
async def test_latency_delays_the_answer_and_not_the_count(dintero: Dintero) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    pending = asyncio.create_task(dintero.partner_token())
    while (await dintero.stats())["total"] == 0:
        assert not pending.done()
    await pending
    assert loop.time() - started >= 0.2


# Changed while it runs


async def test_accounts_change_over_http_while_it_runs(dintero: Dintero) -> None:
    answer = await dintero.change_accounts(hide=[FIRST], delete=[SECOND], open=[INACTIVE])
    assert (answer.status_code, answer.json()) == (200, {})
    listed = await dintero.listed()
    assert {name: element["active"] for name, element in listed.items()} == {
        SECOND: False,
        INACTIVE: True,
    }
    assert listed[SECOND]["deleted_at"] == "2027-01-15T08:00:00Z"
    assert [(await dintero.exchange(name)).status_code for name in (FIRST, SECOND, INACTIVE)] == [
        200,
        403,
        200,
    ]

    await dintero.change_accounts(show=[FIRST], close=[FIRST, INACTIVE])
    assert [element["active"] for element in (await dintero.listed()).values()] == [False] * 3
    refused = [(await dintero.exchange(name)).json()["error"]["code"] for name in (FIRST, INACTIVE)]
    assert refused == ["inactive_account"] * 2


@with_options(accounts=10, inactive=0)
async def test_what_the_operations_page_posts_to_rehearse_a_trouble_is_taken(
    dintero: Dintero,
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    section = page.partition("## Rehearse it")[2].partition("\n## ")[0]
    url = str(dintero.http.base_url).removesuffix("/v1/") + "/__sandbox/"
    shown = [json.loads(text) for text in re.findall(r"\{[^}]+\}", section)]
    assert len(shown) >= 6
    for body in shown:
        await dintero.http.post(url + "options", json=shown[-1])  # all is well again
        where = "accounts" if "close" in body else "options"
        assert (await dintero.http.post(url + where, json=body)).status_code == 200, body


async def test_accounts_change_in_process_while_it_runs(dintero: Dintero) -> None:
    dintero.sandbox.state.accounts.hide([FIRST])
    assert list(await dintero.listed()) == [SECOND, INACTIVE]


@with_options(accounts=99_999, inactive=0)
async def test_one_change_may_name_every_account(dintero: Dintero) -> None:
    every = [f"T112{number:05}" for number in range(1, 100_000)]
    assert (await dintero.change_accounts(hide=every)).status_code == 200
    assert await dintero.listed() == {}


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"rename": [FIRST]}, "unknown_change", "rename"),
        ({"close": ["T11200004"]}, "unknown_account", "close: 'T11200004'"),
        ({"close": [SECOND, PARTNER]}, "unknown_account", f"close: '{PARTNER}'"),
        ({"close": [1]}, "unknown_account", "close: 1"),
        ({"close": [[FIRST]]}, "unknown_account", "close: "),
        ({"close": FIRST}, "invalid_ids", "close"),
        ({"close": None}, "invalid_ids", "close"),
        ({"close": {FIRST: True}}, "invalid_ids", "close"),
    ],
)
async def test_a_change_of_accounts_is_made_as_a_whole_or_not_at_all(
    dintero: Dintero, changes: dict[str, object], code: str, named: str
) -> None:
    before = await dintero.listed()
    status, given, message = error_of(await dintero.change_accounts(hide=[FIRST], **changes))
    assert (status, given) == (400, code)
    assert message.startswith(named)
    assert await dintero.listed() == before


async def test_options_change_over_http_while_it_runs(dintero: Dintero) -> None:
    answer = await dintero.change_options(lifetime_seconds=20, reissue="remaining")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "lifetime_seconds": 20,
            "latency_seconds": 0.0,
            "error_share": 0.0,
            "throttle_share": 0.0,
            "reissue": "remaining",
            "revoked": "nothing",
        },
    )
    first = await dintero.exchange()
    assert first.json()["expires_in"] == 20
    assert (await dintero.exchange()).json() == first.json()

    await dintero.change_options(reissue="never", throttle_share=1)
    token = dintero.sandbox.state.tokens.issue("partner", PARTNER, dintero.clock.now + 60)
    answer = await dintero.post(EXCHANGE, token, {"account_id": FIRST})
    await dintero.expect_refused(answer, 429, "throttled")


@with_options(latency_seconds=60)
async def test_latency_changes_while_it_runs(dintero: Dintero) -> None:
    await dintero.change_options(latency_seconds=0.2)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await dintero.partner_token()  # the client itself gives up after five seconds
    assert loop.time() - started >= 0.2


@pytest.mark.parametrize(
    ("wrong", "code", "named"),
    [
        ({"accounts": 4}, "fixed_option", "accounts "),
        ({"client_secret": "canary-secret"}, "fixed_option", "client_secret "),
        ({"unheard_of": 1}, "fixed_option", "unheard_of "),
        ({"lifetime_seconds": 0}, "invalid_option", "lifetime_seconds "),
        ({"lifetime_seconds": "20"}, "invalid_option", "lifetime_seconds "),
        ({"lifetime_seconds": True}, "invalid_option", "lifetime_seconds "),
        ({"latency_seconds": -0.1}, "invalid_option", "latency_seconds "),
        ({"latency_seconds": None}, "invalid_option", "latency_seconds "),
        ({"error_share": 1.1}, "invalid_option", "error_share "),
        ({"throttle_share": 0.6}, "invalid_option", "error_share and throttle_share "),
        ({"reissue": "always"}, "invalid_option", "reissue "),
    ],
)
async def test_a_wrong_option_is_named_and_changes_nothing(
    dintero: Dintero, wrong: dict[str, object], code: str, named: str
) -> None:
    await dintero.change_options(error_share=0.5)
    before = dintero.sandbox.state.options
    answer = await dintero.change_options(**{"latency_seconds": 9.0} | wrong)
    status, given, message = error_of(answer)
    assert (status, given) == (400, code)
    assert named in message
    assert "canary" not in answer.text
    assert dintero.sandbox.state.options is before


@pytest.mark.parametrize("name", ["latency_seconds", "error_share", "throttle_share"])
@pytest.mark.parametrize("number", ["NaN", "Infinity"])
async def test_an_option_that_is_no_finite_number_is_named(
    dintero: Dintero, name: str, number: str
) -> None:
    body = f'{{"{name}": {number}}}'
    headers = {"Content-Type": "application/json"}
    answer = await dintero.http.post(dintero.sandbox.options_url, content=body, headers=headers)
    status, code, message = error_of(answer)
    assert (status, code) == (400, "invalid_option")
    assert message.startswith(f"{name} ")


@pytest.mark.parametrize("name", ["options", "accounts"])
async def test_a_change_that_is_no_json_object_is_refused(dintero: Dintero, name: str) -> None:
    url = f"{dintero.sandbox.stats_url.removesuffix('stats')}{name}"
    assert error_of(await dintero.http.post(url, json=[]))[:2] == (400, "invalid_body")
    assert error_of(await dintero.http.post(url, data={}))[:2] == (400, "wrong_content_type")
    assert error_of(await dintero.http.get(url))[:2] == (405, "wrong_method")


async def test_backstage_is_neither_counted_nor_delayed_nor_failed(dintero: Dintero) -> None:
    await dintero.change_options(latency_seconds=30, error_share=1)
    await dintero.change_accounts(hide=[FIRST])
    stats = await dintero.stats()
    assert stats["total"] == 0
    assert error_of(await dintero.http.get(f"{dintero.sandbox.stats_url}/x"))[:2] == (
        404,
        "not_found",
    )


# One negative test for each check


async def test_another_secret_is_refused(dintero: Dintero) -> None:
    answer = await dintero.http.post(TOKEN, auth=(CLIENT[0], "wrong-secret"), json=GRANT)
    await dintero.expect_refused(answer, 401, "wrong_client")


async def test_another_client_id_is_refused(dintero: Dintero) -> None:
    answer = await dintero.http.post(TOKEN, auth=("wrong-id", CLIENT[1]), json=GRANT)
    await dintero.expect_refused(answer, 401, "wrong_client")


async def test_a_basic_header_that_is_not_base64_is_refused(dintero: Dintero) -> None:
    answer = await dintero.http.post(TOKEN, headers={"Authorization": "Basic ?"}, json=GRANT)
    await dintero.expect_refused(answer, 401, "wrong_client")


async def test_a_bearer_where_the_client_is_asked_for_is_refused(dintero: Dintero) -> None:
    answer = await dintero.post(TOKEN, await dintero.partner_token(), GRANT)
    await dintero.expect_refused(answer, 401, "missing_credentials")


async def test_a_call_without_authorization_is_refused(dintero: Dintero) -> None:
    answer = await dintero.http.post(EXCHANGE, json={"account_id": FIRST})
    await dintero.expect_refused(answer, 401, "missing_credentials")


async def test_the_client_where_a_token_is_asked_for_is_refused(dintero: Dintero) -> None:
    answer = await dintero.http.post(EXCHANGE, auth=CLIENT, json={"account_id": FIRST})
    await dintero.expect_refused(answer, 401, "missing_credentials")


async def test_a_token_nobody_issued_is_refused(dintero: Dintero) -> None:
    answer = await dintero.post(EXCHANGE, "canary-token", {"account_id": FIRST})
    await dintero.expect_refused(answer, 401, "unknown_token")


@with_options(partner_lifetime_seconds=60)
async def test_an_expired_partner_token_is_refused(dintero: Dintero) -> None:
    token = await dintero.partner_token()
    dintero.clock.now += 60
    answer = await dintero.post(EXCHANGE, token, {"account_id": FIRST})
    await dintero.expect_refused(answer, 401, "expired_token")


@with_options(lifetime_seconds=60)
async def test_an_expired_exchange_token_is_refused(dintero: Dintero) -> None:
    token = await dintero.exchange_token()
    dintero.clock.now += 60
    await dintero.expect_refused(await dintero.get(SETTINGS, token), 401, "expired_token")


async def test_an_exchange_token_cannot_exchange(dintero: Dintero) -> None:
    token = await dintero.exchange_token()
    answer = await dintero.post(EXCHANGE, token, {"account_id": FIRST})
    await dintero.expect_refused(answer, 401, "wrong_token_kind")


async def test_an_exchange_token_cannot_list_accounts(dintero: Dintero) -> None:
    answer = await dintero.get(LIST, await dintero.exchange_token())
    await dintero.expect_refused(answer, 401, "wrong_token_kind")


async def test_a_partner_token_cannot_make_the_third_call(dintero: Dintero) -> None:
    token = await dintero.partner_token()
    answer = await dintero.post(f"/accounts/{FIRST}/auth/token", token, GRANT)
    await dintero.expect_refused(answer, 401, "wrong_token_kind")


async def test_a_partner_token_does_not_open_settings(dintero: Dintero) -> None:
    answer = await dintero.get(SETTINGS, await dintero.partner_token())
    await dintero.expect_refused(answer, 401, "wrong_token_kind")


@with_options(accepts="account")
async def test_an_exchange_token_is_refused_where_settings_take_the_account_token(
    dintero: Dintero,
) -> None:
    answer = await dintero.get(SETTINGS, await dintero.exchange_token())
    await dintero.expect_refused(answer, 401, "wrong_token_kind")


@with_options(refresh_tokens=True)
async def test_a_refresh_token_does_not_open_settings(dintero: Dintero) -> None:
    answer = await dintero.get(SETTINGS, (await dintero.exchange()).json()["refresh_token"])
    await dintero.expect_refused(answer, 401, "wrong_token_kind")


async def test_a_token_of_another_account_does_not_open_settings(dintero: Dintero) -> None:
    answer = await dintero.get(SETTINGS, await dintero.exchange_token(SECOND))
    await dintero.expect_refused(answer, 403, "wrong_token_owner")


async def test_a_token_of_another_account_cannot_make_the_third_call(dintero: Dintero) -> None:
    token = await dintero.exchange_token(SECOND)
    answer = await dintero.post(f"/accounts/{FIRST}/auth/token", token, GRANT)
    await dintero.expect_refused(answer, 403, "wrong_token_owner")


async def test_a_partner_token_cannot_exchange_at_another_partner(dintero: Dintero) -> None:
    token = await dintero.partner_token()
    path = "/accounts/T11300000/auth/exchange_token"
    answer = await dintero.post(path, token, {"account_id": FIRST})
    await dintero.expect_refused(answer, 403, "wrong_token_owner")


@pytest.mark.parametrize("partner_id", ["T112", "T11200001", "T11200000%0A", "T11%D9%A200000"])
async def test_a_partner_id_that_does_not_match_in_full_is_refused(
    dintero: Dintero, partner_id: str
) -> None:
    token = await dintero.partner_token()
    path = f"/accounts/{partner_id}/auth/exchange_token"
    answer = await dintero.post(path, token, {"account_id": FIRST})
    await dintero.expect_refused(answer, 400, "invalid_id")


@pytest.mark.parametrize(
    "account_id", ["T112", "X11200001", "T112000011", "T11200001\n", "T1120000\u0661", 1, None]
)
async def test_an_account_id_that_does_not_match_in_full_is_refused(
    dintero: Dintero, account_id: object
) -> None:
    await dintero.expect_refused(await dintero.exchange(account_id), 400, "invalid_id")


@pytest.mark.parametrize("path", ["auth/token", "management/settings"])
async def test_an_account_id_in_the_path_that_does_not_match_is_refused(
    dintero: Dintero, path: str
) -> None:
    method = "POST" if path == "auth/token" else "GET"
    answer = await dintero.http.request(method, f"/accounts/T112000011/{path}")
    await dintero.expect_refused(answer, 400, "invalid_id")


@pytest.mark.parametrize("account_id", ["T11200004", "T11300001", "P11200001", PARTNER])
async def test_an_account_that_is_not_the_partners_own_is_refused(
    dintero: Dintero, account_id: str
) -> None:
    await dintero.expect_refused(await dintero.exchange(account_id), 403, "unknown_account")


async def test_an_inactive_account_is_refused(dintero: Dintero) -> None:
    await dintero.expect_refused(await dintero.exchange(INACTIVE), 403, "inactive_account")


async def test_the_client_gets_no_token_of_another_partner(dintero: Dintero) -> None:
    body = GRANT | {"audience": API + "T11300000"}
    answer = await dintero.http.post("/accounts/T11300000/auth/token", auth=CLIENT, json=body)
    await dintero.expect_refused(answer, 403, "unknown_account")


async def test_the_called_host_is_no_audience(dintero: Dintero) -> None:
    body = GRANT | {"audience": f"{dintero.sandbox.base_url}/accounts/{PARTNER}"}
    answer = await dintero.http.post(TOKEN, auth=CLIENT, json=body)
    await dintero.expect_refused(answer, 403, "wrong_audience")


async def test_the_third_call_refuses_the_audience_not_chosen(dintero: Dintero) -> None:
    body = GRANT | {"audience": API + FIRST}
    token = await dintero.exchange_token()
    answer = await dintero.post(f"/accounts/{FIRST}/auth/token", token, body)
    await dintero.expect_refused(answer, 403, "wrong_audience")


@pytest.mark.parametrize("grant_type", ["password", None])
async def test_another_grant_type_is_refused(dintero: Dintero, grant_type: object) -> None:
    answer = await dintero.http.post(TOKEN, auth=CLIENT, json=GRANT | {"grant_type": grant_type})
    await dintero.expect_refused(answer, 400, "wrong_grant_type")


async def test_a_form_is_refused(dintero: Dintero) -> None:
    answer = await dintero.http.post(TOKEN, auth=CLIENT, data=GRANT)
    await dintero.expect_refused(answer, 400, "wrong_content_type")


@pytest.mark.parametrize("body", ["", "{", "[]", '"text"', "\ufeff{}", "[" * 15_000])
async def test_a_body_that_is_no_json_object_is_refused(dintero: Dintero, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await dintero.http.post(TOKEN, auth=CLIENT, content=body.encode(), headers=headers)
    await dintero.expect_refused(answer, 400, "invalid_body")


@pytest.mark.parametrize("size", [20_000, 3_000_000])
async def test_an_oversized_body_is_refused(dintero: Dintero, size: int) -> None:
    answer = await dintero.http.post(TOKEN, auth=CLIENT, json=GRANT | {"more": "x" * size})
    await dintero.expect_refused(answer, 413, "body_too_large")


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "ten", "", "1%0A", "%D9%A1"])
async def test_a_limit_out_of_range_is_refused(dintero: Dintero, limit: str) -> None:
    answer = await dintero.get(f"{LIST}?limit={limit}", await dintero.partner_token())
    await dintero.expect_refused(answer, 400, "invalid_limit")


@pytest.mark.parametrize("after", ["", "pt1", FIRST, "0000000000000000-00001", "x-00004"])
async def test_an_unknown_starting_after_is_refused(dintero: Dintero, after: str) -> None:
    answer = await dintero.get(f"{LIST}?starting_after={after}", await dintero.partner_token())
    await dintero.expect_refused(answer, 400, "unknown_starting_after")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", TOKEN, "POST"),
        ("GET", f"/accounts/{FIRST}/auth/token", "POST"),
        ("PUT", EXCHANGE, "POST"),
        ("POST", LIST, "GET"),
        ("DELETE", SETTINGS, "GET"),
    ],
)
async def test_another_method_is_refused(
    dintero: Dintero, method: str, path: str, allowed: str
) -> None:
    answer = await dintero.http.request(method, path)
    assert answer.headers["allow"] == allowed
    await dintero.expect_refused(answer, 405, "wrong_method")


@pytest.mark.parametrize("path", ["/", "/accounts", f"{EXCHANGE}/", f"/accounts/{FIRST}/auth"])
async def test_a_path_that_is_not_served_is_refused(dintero: Dintero, path: str) -> None:
    await dintero.expect_refused(await dintero.http.get(path), 404, "not_found")


@with_options(error_share=1.0)
async def test_an_injected_error_is_a_500(dintero: Dintero) -> None:
    answer = await dintero.http.post(TOKEN, auth=CLIENT, json=GRANT)
    await dintero.expect_refused(answer, 500, "injected_error")


@with_options(throttle_share=1.0)
async def test_a_throttled_call_tells_when_to_come_back(dintero: Dintero) -> None:
    answer = await dintero.http.post(TOKEN, auth=CLIENT, json=GRANT)
    assert answer.headers["retry-after"] == "1"
    await dintero.expect_refused(answer, 429, "throttled")


# Coming and going


@with_options(latency_seconds=30)
async def test_a_caller_that_leaves_does_no_harm(
    dintero: Dintero, caplog: pytest.LogCaptureFixture
) -> None:
    timeout = httpx.Timeout(30, read=0.2)
    with pytest.raises(httpx.ReadTimeout):
        await dintero.http.post(TOKEN, auth=CLIENT, json=GRANT, timeout=timeout)
    assert (await dintero.stats())["statuses"]["partner_token"] == {"200": 1}
    assert caplog.records == []


async def test_the_end_of_the_block_frees_the_port() -> None:
    async with serving() as sandbox:
        port = int(sandbox.base_url.rsplit(":", 1)[1].removesuffix("/v1"))
        with pytest.raises(OSError, match="address already in use"):
            async with serving(SandboxOptions(port=port)):
                pass
    async with serving(SandboxOptions(port=port)) as again:
        assert again.base_url == sandbox.base_url


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_process_announces_itself_and_ends_cleanly(number: signal.Signals) -> None:
    options = ["--port=0", "--accounts=7", "--latency=0", "--lifetime=20", "--reissue=remaining"]
    process = subprocess.Popen(
        [sys.executable, "-m", "subtokens.workers.cli", "sandbox", "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
        text=True,
    )
    assert process.stdout is not None
    base_url = json.loads(process.stdout.readline())["SUBTOKENS_BASE_URL"]
    assert httpx.post(f"{base_url}/accounts/{PARTNER}/auth/token").status_code == 401
    own = f"{base_url.removesuffix('/v1')}/__sandbox"
    told = httpx.post(f"{own}/options", json={"error_share": 0.5}).json()
    assert (told["lifetime_seconds"], told["reissue"], told["error_share"]) == (
        20,
        "remaining",
        0.5,
    )
    assert httpx.post(f"{own}/accounts", json={"close": ["T11200007"]}).status_code == 200
    assert httpx.post(f"{own}/accounts", json={"close": ["T11200008"]}).status_code == 400
    stats = httpx.get(f"{own}/stats").json()
    assert stats["started_at"] + stats["elapsed_seconds"] == pytest.approx(time.time(), abs=10)

    process.send_signal(number)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0
