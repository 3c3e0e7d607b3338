"""Account and partner ids: a full match or a refusal that says what belongs there."""

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.config.errors import InputError
from subtokens.config.ids import (
    checked_account_id,
    checked_account_ids,
    checked_partner_id,
    checked_run_id,
)

PARTNER = "T11200000"


@pytest.mark.parametrize("partner_id", ["T11200000", "P11200000", "T00000000", "P99900000"])
def test_a_partner_id_is_returned_as_it_is(partner_id: str) -> None:
    assert checked_partner_id(partner_id) == partner_id


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "T112",
        "X11200000",
        "t11200000",
        "T11200001",
        "T112000000",
        "T1120000",
        "T11200000\n",
        " T11200000",
        "T11200000 ",
        "T\u0661\u0661\u066200000",
        "T112\u0660\u0660\u0660\u0660\u0660",
        "\uff3411200000",
        "T11200000\0",
        b"T11200000",
        11200000,
        None,
        ["T11200000"],
    ],
    ids=repr,
)
def test_what_is_no_partner_id_is_refused(odd: Any) -> None:
    with pytest.raises(InputError, match=r"is not a partner id.*such as T11200000"):
        checked_partner_id(odd)


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "T1120000",
        "T112000001",
        "t11200001",
        "X11200001",
        "T11200001\n",
        "\nT11200001",
        "T1120000\u0661",
        "T1120000\u00b2",
        "T-1200001",
        b"T11200001",
        11200001,
        None,
    ],
    ids=repr,
)
def test_what_is_no_account_id_is_refused(odd: Any) -> None:
    with pytest.raises(InputError, match=r"is not an account id.*such as T11200001"):
        checked_account_id(odd, PARTNER)


def test_test_and_production_never_mix() -> None:
    with pytest.raises(InputError, match="different environments"):
        checked_account_id("P11200001", PARTNER)


def test_the_partner_is_none_of_its_own_sub_accounts() -> None:
    with pytest.raises(InputError, match="is the partner itself"):
        checked_account_id(PARTNER, PARTNER)


def test_an_account_id_need_not_start_with_its_partners_digits() -> None:
    assert checked_account_id("T99912345", PARTNER) == "T99912345"


@given(st.from_regex(r"\A[PT][0-9]{8}\Z"), st.from_regex(r"\A[PT][0-9]{3}00000\Z"))
def test_any_id_of_the_partners_letter_but_its_own_is_accepted(
    account_id: str, partner_id: str
) -> None:
    if account_id[0] == partner_id[0] and account_id != partner_id:
        assert checked_account_id(account_id, partner_id) == account_id
    else:
        with pytest.raises(InputError):
            checked_account_id(account_id, partner_id)


@given(st.text(max_size=12) | st.from_regex(r"^[PT]\d{8}$"))
def test_only_nine_ascii_characters_ever_pass(text: str) -> None:
    with suppress(InputError):
        checked_account_id(text, PARTNER)
        assert re.fullmatch(r"T[0-9]{8}", text, re.ASCII)


def test_a_list_keeps_its_order_and_loses_its_repeats() -> None:
    ids = ["T11200003", "T11200001", "T11200003"]
    assert checked_account_ids(iter(ids), PARTNER) == ["T11200003", "T11200001"]
    assert checked_account_ids([], PARTNER) == []


def test_a_text_is_not_taken_for_a_list_of_ids() -> None:
    with pytest.raises(InputError, match="expected a list"):
        checked_account_ids("T11200001", PARTNER)


def test_one_bad_id_refuses_the_whole_list_and_names_it_shortly() -> None:
    with pytest.raises(InputError, match="'xx") as caught:
        checked_account_ids(["T11200001", "x" * 10_000], PARTNER)
    assert len(str(caught.value)) < 200


def test_what_is_no_iterable_is_not_taken_for_a_list_of_ids_either() -> None:
    with pytest.raises(InputError, match="expected a list of account ids, got 7"):
        checked_account_ids(7, PARTNER)  # type: ignore[arg-type]


@pytest.mark.parametrize("run_id", ["7b1f0c1e-5a2e-4f6c-9d8e-0123456789ab", "nightly_2026.11.24"])
def test_a_run_bears_the_id_of_its_steps_task(run_id: str) -> None:
    assert checked_run_id(run_id) == run_id


@pytest.mark.parametrize("run_id", ["", "a:open", "a b", "x" * 156, "a\n", "é", 7, None, ["a"]])
def test_a_run_is_not_named_so_that_its_keys_could_be_anothers(run_id: str) -> None:
    with pytest.raises(InputError, match="is no id for a step's task"):
        checked_run_id(run_id)
