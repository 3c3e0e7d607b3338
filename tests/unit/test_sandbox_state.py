"""The sandbox without HTTP: time is passed in."""

import json
from base64 import b64encode
from typing import Any

import pytest
from pydantic import ValidationError

from subtokens.workers.sandbox import SandboxOptions, SandboxState
from subtokens.workers.sandbox.calls import ROWS_KEPT, Calls
from subtokens.workers.sandbox.checks import Call
from subtokens.workers.sandbox.state import Answer
from subtokens.workers.sandbox.tokens import TOKEN_MARK

START = 1_800_000_000.0
PARTNER = "T11200000"
ACCOUNT = "T11200001"
API = "https://api.dintero.com/v1/accounts/"
BASIC = "Basic " + b64encode(b"sandbox-client-id:sandbox-client-secret").decode()


class Caller:
    """Calls one state at a given second after the start."""

    def __init__(self, **options: Any) -> None:
        self.state = SandboxState(SandboxOptions(**options), START)
        self.at = 0.0

    def post(self, path: str, authorization: str, body: object) -> Answer:
        call = Call(
            "POST",
            f"/v1/accounts/{path}",
            authorization=authorization,
            content_type="application/json",
            body=json.dumps(body).encode(),
        )
        return self.state.answer(call, START + self.at)

    def get(self, path: str, token: str, query: str = "") -> Answer:
        call = Call("GET", f"/v1/accounts/{path}", query, f"Bearer {token}")
        return self.state.answer(call, START + self.at)

    def client_credentials(self, owner: str, authorization: str, audience: str) -> Answer:
        body = {"grant_type": "client_credentials", "audience": API + audience}
        return self.post(f"{owner}/auth/token", authorization, body)

    def partner_token(self) -> str:
        return token_of(self.client_credentials(PARTNER, BASIC, PARTNER))

    def exchange(self, partner_token: str, account: str = ACCOUNT) -> Answer:
        path = f"{PARTNER}/auth/exchange_token"
        return self.post(path, f"Bearer {partner_token}", {"account_id": account})

    def stats(self) -> dict[str, Any]:
        return self.state.calls.stats(START + self.at, accounts=True)


def token_of(answer: Answer) -> str:
    assert answer.status == 200, answer
    token = json.loads(answer.body)["access_token"]
    assert isinstance(token, str)
    return token


def code_of(answer: Answer) -> str:
    code = json.loads(answer.body)["error"]["code"]
    assert isinstance(code, str)
    return code


def test_each_token_lives_exactly_its_own_lifetime() -> None:
    caller = Caller(lifetime_seconds=60, partner_lifetime_seconds=30)
    partner_token = caller.partner_token()
    caller.at = 29.999
    exchange_token = token_of(caller.exchange(partner_token))
    caller.at = 30.0
    assert code_of(caller.exchange(partner_token)) == "expired_token"
    caller.at = 89.998
    assert caller.get(f"{ACCOUNT}/management/settings", exchange_token).status == 200
    caller.at = 90.0
    expired = caller.get(f"{ACCOUNT}/management/settings", exchange_token)
    assert (expired.status, code_of(expired)) == (401, "expired_token")


def test_tokens_are_distinct_marked_and_about_as_long_as_asked() -> None:
    caller = Caller(token_bytes=800)
    partner_token = caller.partner_token()
    tokens = {token_of(caller.exchange(partner_token)) for _ in range(50)}
    assert len(tokens) == 50
    assert all(token.startswith(TOKEN_MARK) and 797 <= len(token) <= 800 for token in tokens)


def test_a_changed_token_is_unknown() -> None:
    caller = Caller()
    token = caller.partner_token()
    changed = token[:200] + ("A" if token[200] != "A" else "B") + token[201:]
    for wrong in (changed, token[:-1], token + "=", token + "\udcff", token.split(".")[0], "x"):
        assert code_of(caller.exchange(wrong)) == "unknown_token"


def test_a_token_of_another_sandbox_is_unknown() -> None:
    assert code_of(Caller().exchange(Caller().partner_token())) == "unknown_token"


@pytest.mark.parametrize("audience", ["partner", "account"])
def test_the_third_call_wants_the_audience_of_the_option(audience: str) -> None:
    caller = Caller(audience=audience, accepts="account")
    bearer = f"Bearer {token_of(caller.exchange(caller.partner_token()))}"
    right, wrong = (PARTNER, ACCOUNT) if audience == "partner" else (ACCOUNT, PARTNER)

    assert code_of(caller.client_credentials(ACCOUNT, bearer, wrong)) == "wrong_audience"
    token = token_of(caller.client_credentials(ACCOUNT, bearer, right))
    assert caller.get(f"{ACCOUNT}/management/settings", token).status == 200


def test_pages_hold_every_account_once() -> None:
    caller = Caller(accounts=25, inactive=2)
    token = caller.partner_token()
    listed: list[dict[str, Any]] = []
    query = ""
    for size in (10, 10, 5, 0):
        page = json.loads(caller.get(f"{PARTNER}/management/accounts", token, query).body)
        assert len(page) == size
        listed += page
        query = f"starting_after={listed[-1]['paging_token']}"

    assert [element["account_id"] for element in listed] == [
        f"T112{number:05}" for number in range(1, 26)
    ]
    assert [element["active"] for element in listed] == [True] * 23 + [False] * 2
    assert {(element["partner_id"], element["livemode"]) for element in listed} == {("T112", False)}
    assert all(element["deleted_at"] is None for element in listed)
    assert all(element["company"]["display_name"] for element in listed)


def test_names_follow_the_seed() -> None:
    def names(seed: int) -> list[str]:
        page = SandboxState(SandboxOptions(seed=seed), START).accounts.page(100, None)
        return [element["company"]["display_name"] for element in page or []]

    assert names(1) == names(1)
    assert names(1) != names(2)


def fates(ids: list[str], **options: Any) -> dict[str, list[int]]:
    caller = Caller(error_share=0.2, throttle_share=0.1, **options)
    token = ""
    while not token:
        answer = caller.client_credentials(PARTNER, BASIC, PARTNER)
        token = token_of(answer) if answer.status == 200 else ""
    return {account: [caller.exchange(token, account).status for _ in range(20)] for account in ids}


def test_faults_come_in_the_share_asked_and_follow_the_seed_whatever_the_order() -> None:
    ids = [f"T112{number:05}" for number in range(1, 101)]
    first = fates(ids, seed=7)
    assert fates(ids[::-1], seed=7) == first
    assert fates(ids, seed=8) != first

    statuses = [status for account in ids for status in first[account]]
    assert statuses.count(500) == pytest.approx(400, abs=100)
    assert statuses.count(429) == pytest.approx(200, abs=75)
    assert set(statuses) == {200, 429, 500}


def test_faults_spare_the_list_and_the_settings() -> None:
    caller = Caller(error_share=1.0)
    token = caller.state.tokens.issue("partner", PARTNER, START + 60)
    account_token = caller.state.tokens.issue("exchange", ACCOUNT, START + 60)

    assert code_of(caller.exchange(token)) == "injected_error"
    assert caller.get(f"{PARTNER}/management/accounts", token).status == 200
    assert caller.get(f"{ACCOUNT}/management/settings", account_token).status == 200


def test_every_call_is_counted_by_kind_status_account_and_reason() -> None:
    caller = Caller()
    partner_token = caller.partner_token()
    token = token_of(caller.exchange(partner_token))
    caller.exchange(partner_token, "T99900001")
    for _ in range(3):
        caller.get(f"{ACCOUNT}/management/settings", token)
    caller.get(f"{ACCOUNT}/management/settings", partner_token)
    caller.get("nowhere", token)

    stats = caller.stats()
    assert stats["total"] == 8
    assert stats["calls"] == {
        "partner_token": 1,
        "exchange": 2,
        "account_token": 0,
        "accounts": 0,
        "settings": 4,
        "other": 1,
    }
    assert stats["statuses"]["exchange"] == {200: 1, 403: 1}
    assert stats["accounts"]["exchange"] == {ACCOUNT: 1}
    assert stats["accounts"]["settings"] == {ACCOUNT: 4}
    assert stats["refused"] == {"unknown_account": 1, "wrong_token_kind": 1, "not_found": 1}
    assert stats["settings"] == {"accepted": 3, "accounts": 1, "tokens": 1}


def test_two_tokens_of_one_account_count_as_two_at_settings() -> None:
    caller = Caller()
    partner_token = caller.partner_token()
    for _ in range(2):
        token = token_of(caller.exchange(partner_token))
        caller.get(f"{ACCOUNT}/management/settings", token)
    assert caller.stats()["settings"] == {"accepted": 2, "accounts": 1, "tokens": 2}


def test_the_busiest_second_slides_and_leaves_the_settings_out() -> None:
    calls = Calls(START)
    for at in (0.0, 0.6, 0.9, 1.5, 1.59, 1.6, 3.0):
        calls.record("exchange", ACCOUNT, 200, "", START + at)
        calls.record("settings", ACCOUNT, 200, "", START + at)

    stats = calls.stats(START + 3.5)
    assert stats["max_calls_in_any_second"] == 4  # 0.6, 0.9, 1.5, 1.59: the one at 1.6 is outside
    assert stats["calls_per_second"] == 1
    assert stats["elapsed_seconds"] == 3.5
    assert calls.stats(START + 4.0)["calls_per_second"] == 0


def test_rows_tell_arrivals_and_only_the_last_are_kept() -> None:
    calls = Calls(START)
    for number in range(ROWS_KEPT + 3):
        calls.record("exchange", ACCOUNT, 200, "", START + number)

    assert len(calls.rows()) == ROWS_KEPT
    assert calls.rows()[0][0] == 4
    assert calls.rows(after=ROWS_KEPT + 2) == [
        (ROWS_KEPT + 3, ROWS_KEPT + 2.0, "exchange", ACCOUNT, 200)
    ]
    assert calls.rows(after=ROWS_KEPT + 3) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"partner_id": "T11200001"},
        {"partner_id": "T11200000\n"},
        {"accounts": 100_000},
        {"accounts": 5, "inactive": 6},
        {"error_share": 0.6, "throttle_share": 0.6},
        {"latency_seconds": -1},
        {"latency_seconds": "inf"},
        {"lifetime_seconds": 0},
        {"client_id": "with:colon"},
        {"unheard_of": 1},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SandboxOptions(**wrong)


def test_the_secret_is_not_shown_with_the_options() -> None:
    assert "canary" not in repr(SandboxOptions(client_secret="canary-secret"))
