"""What Dintero answers is believed only if it is what the API promises."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from subtokens.tasks.dintero.errors import InvalidAnswerError
from subtokens.tasks.dintero.wire import (
    LONGEST_RETRY_AFTER_SECONDS,
    TEN_YEARS_SECONDS,
    parse_accounts,
    parse_retry_after,
    parse_token,
)

CANARY = "CANARY-token"
ANSWER: dict[str, Any] = {
    "access_token": CANARY,
    "token_type": "Bearer",
    "expires_in": 86_400,
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def refused(body: bytes) -> str:
    with pytest.raises(InvalidAnswerError) as caught:
        parse_token("exchange", body)
    error = caught.value
    shown = f"{error} {error!r} {error.args}"
    assert "CANARY" not in shown
    assert str(error).startswith("exchange: ")
    return str(error)


# A token


def test_an_answer_as_published_is_read() -> None:
    answer = parse_token("exchange", json.dumps(ANSWER).encode())
    assert answer.access_token.get_secret_value() == CANARY
    assert answer.expires_in == 86_400
    assert answer.refresh_token is None
    assert "CANARY" not in f"{answer!r} {answer}"


def test_fields_that_the_api_adds_are_borne() -> None:
    body = ANSWER | {"scope": "admin", "id_token": {"deep": [1]}}
    assert parse_token("exchange", json.dumps(body).encode()).expires_in == 86_400


def test_a_refresh_token_is_kept_apart_and_hidden() -> None:
    answer = parse_token("exchange", json.dumps(ANSWER | {"refresh_token": "CANARY-r"}).encode())
    assert answer.refresh_token is not None
    assert answer.refresh_token.get_secret_value() == "CANARY-r"
    assert answer.access_token.get_secret_value() == CANARY
    assert "CANARY" not in f"{answer!r} {answer}"


@pytest.mark.parametrize("seconds", [1, 15, 86_400, TEN_YEARS_SECONDS])
def test_a_lifetime_of_whole_seconds_up_to_ten_years_is_believed(seconds: int) -> None:
    body = json.dumps(ANSWER | {"expires_in": seconds}).encode()
    assert parse_token("exchange", body).expires_in == seconds


@pytest.mark.parametrize("field", sorted(ANSWER))
def test_a_missing_field_is_named(field: str) -> None:
    body = {name: value for name, value in ANSWER.items() if name != field}
    assert f"{field}: missing" in refused(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("expires_in", value) for value in (0, -1, TEN_YEARS_SECONDS + 1, 10**400)],
        *[("expires_in", value) for value in (3600.0, 0.5, True, False, None, [60])],
        *[("expires_in", value) for value in ("3600", "CANARY", "")],
        *[("token_type", value) for value in ("MAC", "CANARY", "", None, 1, ["Bearer"])],
        *[("access_token", value) for value in ("", None, 1, ["CANARY"], {"CANARY": 1})],
        *[("access_token", f"CANARY{odd}") for odd in ("\n", "\r\nX: 1", "\0", " b", "\t", "\x7f")],
        *[("access_token", f"CANARY{odd}") for odd in ("é", "\u2028", "\u00a0", "\U0001f511")],
        ("access_token", "CANARY" * 3_000),
        *[("refresh_token", value) for value in (1, ["CANARY"], {"CANARY": 1})],
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_field_of_another_kind_is_named_and_its_value_never_told(
    field: str, value: object
) -> None:
    assert field in refused(json.dumps(ANSWER | {field: value}).encode())


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e3", b"1e999", b"-0", b"0x10"])
def test_no_other_way_to_write_a_number_is_a_lifetime(number: bytes) -> None:
    refused(json.dumps(ANSWER).encode().replace(b"86400", number))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"CANARY",
        b'"CANARY"',
        b"<html><body>CANARY</body></html>",
        json.dumps([ANSWER]).encode(),
        json.dumps(ANSWER).encode()[:-1],
        json.dumps(ANSWER).encode() + b"CANARY",
        json.dumps(ANSWER).encode("utf-16"),
        b'{"access_token": "\xff"}',
        b"\x1f\x8b\x08CANARY",
        b"[" * 50_000,
        b'{"a":' * 10_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    refused(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_else(body: bytes) -> None:
    with pytest.raises(InvalidAnswerError):
        parse_token("exchange", body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just("CANARY"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(ANSWER)), JSON)
def test_no_value_of_any_kind_gets_into_an_error(field: str, value: object) -> None:
    try:
        answer = parse_token("exchange", json.dumps(ANSWER | {field: value}).encode())
    except InvalidAnswerError as error:
        shown = f"{error} {error!r}"
    else:
        assert 0 < answer.expires_in <= TEN_YEARS_SECONDS
        shown = repr(answer)
    assert "CANARY" not in shown


# The account list


def test_an_account_keeps_its_name_for_people_and_nothing_personal() -> None:
    company = {"business_name": "Elv AS", "contacts": [{"email": "CANARY@elv.test"}]}
    body = [{"account_id": "T11200001", "active": True, "paging_token": "p", "company": company}]
    (account,) = parse_accounts("accounts", json.dumps(body).encode())
    assert (account.account_id, account.active, account.paging_token) == ("T11200001", True, "p")
    assert account.display_name == "Elv AS"
    assert "CANARY" not in repr(account)


@pytest.mark.parametrize(
    ("company", "name"),
    [
        (None, ""),
        ({}, ""),
        ({"display_name": "Elv", "business_name": "Elv AS"}, "Elv"),
        ({"display_name": "E" * 81}, "E" * 80),
    ],
)
def test_a_name_for_people_is_short_and_may_be_missing(company: object, name: str) -> None:
    body = [{"account_id": "T11200001", "company": company}]
    (account,) = parse_accounts("accounts", json.dumps(body).encode())
    assert account.display_name == name
    assert not account.active


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"<html>CANARY", b'["CANARY"]', b'[{"account_id": 1}]', b'[{"a": 1}]'],
)
def test_a_list_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        parse_accounts("accounts", body)
    assert "CANARY" not in f"{caught.value} {caught.value!r}"


# Retry-After


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("17", 17.0),
        (" 17 ", 17.0),
        ("1.5", 1.5),
        ("86400", LONGEST_RETRY_AFTER_SECONDS),
        ("9" * 400, LONGEST_RETRY_AFTER_SECONDS),
        ("inf", LONGEST_RETRY_AFTER_SECONDS),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 01:00:30 +0100", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30.0),
        ("Fri, 01 Jan 2027 00:00:00 GMT", LONGEST_RETRY_AFTER_SECONDS),
        *[(absent, None) for absent in (None, "", "   ")],
        *[(absurd, None) for absurd in ("-1", "nan", "-inf", "soon", "0x10", "1;2")],
        ("Wed, 31 Dec 2025 23:59:59 GMT", None),
        ("Thu, 99 Jan 2026 00:00:00 GMT", None),
        ("Mon, 23 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 23 Jan 2026 00:00:00 +99999999999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_an_hour(
    header: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(header, NOW) == seconds


NUMBER = st.integers(0, 99) | st.integers()
DATE = st.builds("Mon, {} Jan {} {}:{}:{} {}".format, *[NUMBER] * 6)


@given(st.text() | DATE)
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("Mon, 31 Dec 9999 23:59:59 -2359")
def test_whatever_stands_in_retry_after_is_a_wait_or_nothing(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER_SECONDS
