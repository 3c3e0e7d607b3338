"""The sandbox without HTTP: time is passed in."""

import json
import time
from base64 import b64encode
from datetime import datetime
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

    def change(self, **options: Any) -> None:
        self.state.options = self.state.options.model_copy(update=options)

    def pages(self, limit: int) -> list[list[dict[str, Any]]]:
        """Walk the whole list, as a client does that ends at a page that is not full."""
        token = self.partner_token()
        pages: list[list[dict[str, Any]]] = []
        query = f"limit={limit}"
        while not pages or len(pages[-1]) == limit:
            if pages:
                query = f"limit={limit}&starting_after={pages[-1][-1]['paging_token']}"
            answer = self.get(f"{PARTNER}/management/accounts", token, query)
            assert answer.status == 200, answer
            pages.append(json.loads(answer.body))
        return pages

    def listed(self) -> dict[str, dict[str, Any]]:
        return {element["account_id"]: element for page in self.pages(100) for element in page}

    def stats(self) -> dict[str, Any]:
        return self.state.calls.stats(START + self.at, accounts=True)


def token_of(answer: Answer) -> str:
    assert answer.status == 200, answer
    token = json.loads(answer.body)["access_token"]
    assert isinstance(token, str)
    return token


def life_of(answer: Answer) -> int:
    seconds = json.loads(answer.body)["expires_in"]
    assert isinstance(seconds, int)
    return seconds


def account_ids(*numbers: int) -> list[str]:
    return [f"T112{number:05}" for number in numbers]


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


def test_tokens_are_distinct_marked_and_about_as_long_as_real_ones() -> None:
    caller = Caller()
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


def test_a_token_is_reissued_with_its_remaining_life_while_it_lives() -> None:
    caller = Caller(reissue="remaining", lifetime_seconds=60)
    partner_token = caller.partner_token()
    first = token_of(caller.exchange(partner_token))
    told = []
    for caller.at in (0.0, 0.5, 10.0, 58.999, 59.001, 59.999):
        answer = caller.exchange(partner_token)
        assert token_of(answer) == first
        told.append(life_of(answer))
    assert told == [60, 59, 50, 1, 1, 1]

    caller.at = 60.0
    answer = caller.exchange(partner_token)
    assert token_of(answer) != first
    assert life_of(answer) == 60


def test_a_lying_upstream_claims_the_full_life_for_a_token_that_ends_at_its_own_time() -> None:
    caller = Caller(reissue="full", lifetime_seconds=60)
    partner_token = caller.partner_token()
    first = caller.exchange(partner_token)
    caller.at = 59.999
    assert caller.exchange(partner_token) == first
    settings = f"{ACCOUNT}/management/settings"
    assert caller.get(settings, token_of(first)).status == 200

    caller.at = 60.0
    assert code_of(caller.get(settings, token_of(first))) == "expired_token"
    assert token_of(caller.exchange(partner_token)) != token_of(first)


def test_each_account_gets_its_own_last_token_again() -> None:
    caller = Caller(reissue="remaining")
    partner_token = caller.partner_token()
    first, second = (token_of(caller.exchange(partner_token, name)) for name in account_ids(1, 2))
    assert first != second
    assert token_of(caller.exchange(partner_token, "T11200001")) == first
    assert token_of(caller.exchange(partner_token, "T11200002")) == second


@pytest.mark.parametrize("reissue", ["remaining", "full"])
def test_a_refresh_token_comes_again_with_its_exchange_token(reissue: str) -> None:
    caller = Caller(reissue=reissue, refresh_tokens=True)
    partner_token = caller.partner_token()
    first, second = (json.loads(caller.exchange(partner_token).body) for _ in range(2))
    assert first["refresh_token"] == second["refresh_token"]


def test_a_token_issued_before_the_option_changed_is_reissued_with_what_it_was_given() -> None:
    caller = Caller(lifetime_seconds=60)
    partner_token = caller.partner_token()
    caller.exchange(partner_token)
    last = token_of(caller.exchange(partner_token))
    caller.at = 20.0
    caller.change(reissue="remaining", lifetime_seconds=600)
    answer = caller.exchange(partner_token)
    assert (token_of(answer), life_of(answer)) == (last, 40)
    caller.change(reissue="full")
    answer = caller.exchange(partner_token)
    assert (token_of(answer), life_of(answer)) == (last, 60)
    caller.change(reissue="never")
    answer = caller.exchange(partner_token)
    assert token_of(answer) != last
    assert life_of(answer) == 600


def test_refusals_and_faults_come_before_a_reissue() -> None:
    caller = Caller(reissue="remaining")
    partner_token = caller.partner_token()
    caller.exchange(partner_token)
    caller.change(error_share=1.0)
    assert code_of(caller.exchange(partner_token)) == "injected_error"
    caller.state.accounts.close([ACCOUNT])
    assert code_of(caller.exchange(partner_token)) == "inactive_account"


def test_partner_tokens_are_never_reissued() -> None:
    caller = Caller(reissue="full")
    assert caller.partner_token() != caller.partner_token()


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


def test_hidden_accounts_are_missing_from_full_pages_until_they_are_shown() -> None:
    caller = Caller(accounts=25)
    caller.state.accounts.hide(account_ids(1, 2, 9, 10, 11, 12, 25))
    caller.state.accounts.show(account_ids(11))

    pages = caller.pages(10)
    assert [len(page) for page in pages] == [10, 9]
    assert [element["account_id"] for page in pages for element in page] == account_ids(
        *range(3, 9), 11, *range(13, 25)
    )


def test_a_walk_goes_on_after_an_account_that_was_hidden_meanwhile() -> None:
    caller = Caller(accounts=9)
    token = caller.partner_token()
    last = caller.pages(3)[0][-1]
    caller.state.accounts.hide(account_ids(3, 4))

    query = f"limit=3&starting_after={last['paging_token']}"
    page = json.loads(caller.get(f"{PARTNER}/management/accounts", token, query).body)
    assert [element["account_id"] for element in page] == account_ids(5, 6, 7)


def test_paging_tokens_outlast_every_change() -> None:
    caller = Caller(accounts=6, inactive=1)
    before = {name: element["paging_token"] for name, element in caller.listed().items()}
    caller.state.accounts.hide(account_ids(1))
    caller.state.accounts.close(account_ids(2))
    caller.state.accounts.delete(account_ids(3))
    after = {name: element["paging_token"] for name, element in caller.listed().items()}

    assert after == {name: token for name, token in before.items() if name != ACCOUNT}


def test_a_hidden_account_is_still_served() -> None:
    caller = Caller()
    caller.state.accounts.hide([ACCOUNT])
    token = token_of(caller.exchange(caller.partner_token()))

    settings = json.loads(caller.get(f"{ACCOUNT}/management/settings", token).body)
    assert settings["active"] is True


def test_an_account_is_refused_and_listed_as_inactive_while_it_is_closed() -> None:
    caller = Caller(accounts=3, inactive=1)
    token = caller.partner_token()
    caller.state.accounts.open(account_ids(3))
    caller.state.accounts.close(account_ids(1, 2))
    caller.state.accounts.open(account_ids(2))

    assert [element["active"] for element in caller.listed().values()] == [False, True, True]
    refused = caller.exchange(token, ACCOUNT)
    assert (refused.status, code_of(refused)) == (403, "inactive_account")
    assert [caller.exchange(token, name).status for name in account_ids(2, 3)] == [200, 200]


def test_a_deleted_account_keeps_its_first_instant_and_never_opens_again() -> None:
    caller = Caller(accounts=3)
    accounts = caller.state.accounts
    accounts.delete(account_ids(2), START)
    accounts.delete(account_ids(2), START + 60)
    accounts.open(account_ids(2))

    assert [(element["active"], element["deleted_at"]) for element in caller.listed().values()] == [
        (True, None),
        (False, "2027-01-15T08:00:00Z"),
        (True, None),
    ]
    refused = caller.exchange(caller.partner_token(), "T11200002")
    assert (refused.status, code_of(refused)) == (403, "inactive_account")


def test_the_instant_of_a_deletion_is_now_unless_told() -> None:
    caller = Caller(accounts=1)
    earliest = int(time.time())
    caller.state.accounts.delete([ACCOUNT])

    deleted_at = datetime.fromisoformat(caller.listed()[ACCOUNT]["deleted_at"])
    assert earliest <= deleted_at.timestamp() <= time.time()


@pytest.mark.parametrize("name", ["hide", "show", "close", "open", "delete"])
@pytest.mark.parametrize("stranger", ["T11200004", "T11300001", "P11200001", PARTNER, "T112", ""])
def test_a_change_of_a_strangers_account_changes_nothing(name: str, stranger: str) -> None:
    caller = Caller(accounts=3, inactive=1)
    before = caller.listed()
    with pytest.raises(ValueError, match=f"'{stranger}' is none of the partner's accounts"):
        getattr(caller.state.accounts, name)([*account_ids(1, 2, 3), stranger])
    assert caller.listed() == before


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
    assert stats["started_at"] == START
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
        {"reissue": True},
        {"client_id": "with:colon"},
        {"unheard_of": 1},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SandboxOptions(**wrong)


def test_the_secret_is_not_shown_with_the_options() -> None:
    assert "canary" not in repr(SandboxOptions(client_secret="canary-secret"))
