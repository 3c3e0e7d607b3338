"""Odd answers, as values: believed as promised, or InvalidAnswerError; never another error."""

# ruff: noqa: PT017 - an error that tells and an answer that is believed are both fine

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from subtokens.tasks.dintero.errors import InvalidAnswerError, error_for_status
from subtokens.tasks.dintero.wire import (
    LONGEST_RETRY_AFTER_SECONDS,
    TEN_YEARS_SECONDS,
    parse_accounts,
    parse_retry_after,
    parse_token,
)

GOOD = {"access_token": "CANARY-token", "token_type": "Bearer", "expires_in": 3600}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
DEEP = [b"[" * 100_000, b'{"a":' * 50_000, b"[" * 200 + b"]" * 200]


def token_of(body: bytes) -> None:
    try:
        answer = parse_token("exchange", body)
    except InvalidAnswerError as error:
        assert "CANARY" not in f"{error} {error!r}"
        assert len(str(error)) < 600
    else:
        assert 0 < answer.expires_in <= TEN_YEARS_SECONDS
        token = answer.access_token.get_secret_value()
        assert token.isascii()
        assert token.isprintable()
        assert " " not in token


def accounts_of(body: bytes) -> None:
    try:
        accounts = parse_accounts("accounts", body)
    except InvalidAnswerError as error:
        assert "CANARY" not in f"{error} {error!r}"
        assert len(str(error)) < 600
    else:
        assert all(len(account.display_name) <= 80 for account in accounts)


@examples(max_examples=200)
@given(st.dictionaries(st.sampled_from([*GOOD, "refresh_token", "CANARY"]), JSON))
def test_no_value_in_a_token_answer_falls_over(changes: dict[str, Any]) -> None:
    token_of(json.dumps(GOOD | changes).encode("utf-8", "surrogatepass"))


@examples(max_examples=200)
@given(st.integers(0, 85), st.binary(max_size=4), st.integers(0, 4))
def test_no_bytes_put_into_a_token_answer_fall_over(place: int, put: bytes, gone: int) -> None:
    body = json.dumps(GOOD).encode()
    token_of(body[:place] + put + body[place + gone :])


@pytest.mark.parametrize("field", [*GOOD, "refresh_token"])
def test_a_key_that_stands_twice_gives_no_more_than_one_value(field: str) -> None:
    body = json.dumps(GOOD)[:-1]
    for value in ('"CANARY\\n"', "-1", "1e999", "null", '"other"'):
        token_of(f'{body}, "{field}": {value}}}'.encode())
        token_of(f'{{"{field}": {value}, {body[1:]}}}'.encode())


@pytest.mark.parametrize("body", DEEP, ids=lambda body: repr(body[:8]))
def test_a_deep_answer_is_refused(body: bytes) -> None:
    token_of(body)
    accounts_of(body)


FIELDS = ["account_id", "active", "deleted_at", "livemode", "company", "paging_token", "CANARY"]


@examples(max_examples=200)
@given(st.lists(JSON | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=7), max_size=4))
def test_no_list_of_accounts_falls_over(listed: list[Any]) -> None:
    accounts_of(json.dumps(listed).encode("utf-8", "surrogatepass"))


@examples(max_examples=100)
@given(st.binary(max_size=80))
def test_no_bytes_as_a_list_of_accounts_fall_over(body: bytes) -> None:
    accounts_of(body)


ODD_WAITS = [
    *("nan", "-nan", "inf", "-inf", "1e999", "-1", "-0", "0", "9" * 5_000, "1_0", "\u0663", " 5 "),
    *("Mon, 01 Jan 0000 00:00:00 GMT", "Mon, 99 Jan 2026 00:00:00 GMT", "Fri, 31 Dec 9999 23:59"),
    *("Fri, 31 Dec 9999 23:59:59 -9999", "Thu, 01 Jan 1970 00:00:00 +9999", "2026-01-01", "soon"),
    *("Mon, 01 Jan 99999999999 00:00:00 GMT", "1, 2", "\x00", "é", "10 ms", "0x10", ",", "-"),
    *("Mon, 01 Jan 2026 00:00:00 -99999999999999", "Sat, 01 Jan 0001 00:00:00 +2359"),
]
_DATE = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    *(st.sampled_from(["Mon", "X"]), st.integers(-1, 40), st.sampled_from(["Jan", "Dec", "X"])),
    *(st.integers(0, 99_999), st.integers(0, 30), st.integers(0, 99), st.integers(0, 99)),
    st.sampled_from(["GMT", "", "+9999", "-9999", "-2400", "EST", "+99999999", "X"]),
)


def waits(value: str) -> None:
    seconds = parse_retry_after(value)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER_SECONDS


@pytest.mark.parametrize("value", ODD_WAITS, ids=lambda value: repr(value)[:30])
def test_an_odd_wish_to_wait_is_bounded_or_passed_over(value: str) -> None:
    waits(value)


@examples(max_examples=300)
@given(st.text(max_size=30) | st.floats().map(str) | st.integers().map(str) | _DATE)
def test_any_wish_to_wait_is_bounded_or_passed_over(value: str) -> None:
    waits(value)


@given(st.integers(-1, 10**6))
def test_every_status_has_an_error_with_a_reason_and_a_blame(status: int) -> None:
    error = error_for_status("exchange", status)
    assert error.reason
    assert error.blame
    assert str(status) in str(error)
