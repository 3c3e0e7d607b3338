"""Files that list accounts: what is taken, and what is named with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.config.errors import InputError
from subtokens.workers.cli.account_file import LONGEST_NAME, accounts_of

PARTNER, A, B = "T11200000", "T11200001", "T11200002"


def named(text: str) -> dict[str, str]:
    return accounts_of(text.encode(), "list.csv", PARTNER).names


def problems(content: str | bytes) -> list[str]:
    with pytest.raises(InputError) as caught:
        accounts_of(content if isinstance(content, bytes) else content.encode(), "f", PARTNER)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "text",
    [
        f"{A}\n{B}\n",
        f"{A}\r\n{B}",
        f"{A}\r{B}\r",
        f"\ufeff{A}\n\n  \n# of ours\n  # too\n {B} \n",
        f"account_id\n{A}\n{B}\n",
        f"\ufeffcity, Account_ID \r\nOslo,{A}\r\nBergen,{B}\r\n",
        f'"{A}"\n"{B}"\n',
        f"{A},,\n,,\n{B},,\n",
        f"{A}\n{B}",
    ],
)
def test_ids_are_found_in_lists_and_in_csv_alike(text: str) -> None:
    assert named(text) == {A: "", B: ""}


@pytest.mark.parametrize(
    "text",
    [
        f'account_id,name\n{A},"Smith, ""Sons"""\n{B}\n',
        f'name;account_id\n"Smith, ""Sons""";{A}\n;{B}\n',
        f'# exported\naccount_id\tname\n{A}\t"Smith, ""Sons"""\n{B}\t\n',
    ],
)
def test_a_name_is_taken_from_its_column(text: str) -> None:
    assert named(text) == {A: 'Smith, "Sons"', B: ""}


def test_without_a_header_only_the_first_column_counts() -> None:
    assert named(f"{A},Smith\n{B},{B}\n") == {A: "", B: ""}


def test_names_lose_control_characters_and_what_is_too_long() -> None:
    long = "å" * (LONGEST_NAME + 1)
    found = named(f"account_id,name\n{A},\x1b[31mR\x00ed\u2028\n{B},{long}\n")
    assert found == {A: "[31mRed", B: long[:LONGEST_NAME]}


def test_repeated_lines_are_counted_and_the_first_name_stays() -> None:
    listed = accounts_of(f"account_id,name\n{A},\n{A},One\n{A},Two\n".encode(), "f", PARTNER)
    assert (listed.names, listed.duplicates) == ({A: "One"}, 2)


def test_every_bad_line_is_named_with_its_number_and_reason() -> None:
    other, closing = "different environments", "nothing was done: put these lines right first"
    told = problems(f'account_id,name\n{A}\n\nT112\nP11200001,x\n{PARTNER}\n{B},"open\n{B},"\n')
    assert told[0].startswith("f, line 4: 'T112' is not an account id")
    assert told[1].startswith("f, line 5: ")
    assert other in told[1]
    assert "the partner itself" in told[2]
    assert told[3].startswith("f, line 7: its quotes do not match")
    assert told[4].startswith("f, line 8: its quotes do not match")
    assert told[5:] == [closing]


def test_a_line_without_the_column_says_so() -> None:
    told = problems(f"name,account_id\nSmith\nSons,{A}\n")
    assert told[0] == "f, line 2: there is no column 2, which holds account_id"


def test_a_header_without_the_column_is_told_what_it_lacks() -> None:
    told = problems(f"id,name\n{A},x\n")
    assert told[0].startswith("f, line 1: 'id' is not an account id")
    assert told[0].endswith("(a header must name the column account_id)")


@pytest.mark.parametrize("line", ["CANARY-short", "CANARYofAnyLength", '"CANARY, x"', " CANARY=x"])
def test_a_line_of_a_wrong_file_is_not_repeated_as_it_may_be_a_secret(line: str) -> None:
    told = "\n".join(problems(f"{line}\n{line}\n"))
    assert "f, line 2: a text of " in told
    assert "CANARY" not in told


def test_fifty_bad_lines_are_shown_and_the_others_counted() -> None:
    told = problems("bad\n" * 1_050)
    assert told[49].startswith("f, line 50: 'bad' is not an account id")
    assert told[50:] == ["and 1,000 more", "nothing was done: put these lines right first"]
    assert len(problems("bad\n" * 50)) == 51


def test_what_is_not_utf_8_is_named_by_its_line() -> None:
    assert problems(f"{A}\n".encode() + b"\xe5\n") == [
        "f, line 2: is not UTF-8 text; save it as UTF-8"
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "account_id,name\n"])
def test_a_file_without_an_id_is_refused(text: str) -> None:
    assert "holds no account id" in problems(text)[0]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_is_in_a_file_only_ids_of_the_partners_environment_come_out(raw: bytes) -> None:
    try:
        names = accounts_of(raw, "f", PARTNER).names
    except InputError:
        return
    assert all(account_id[0] == "T" and len(account_id) == 9 for account_id in names)


@given(st.dictionaries(st.integers(1, 99_999), st.text(max_size=99), min_size=1))
def test_what_a_csv_writer_writes_is_read(accounts: dict[int, str]) -> None:
    rows = {f"T112{n:05}": name for n, name in accounts.items()}
    quoted = {
        key: '"' + "".join(c for c in name if c not in "\r\n").replace('"', '""') + '"'
        for key, name in rows.items()
    }
    text = "account_id,name\n" + "".join(f"{key},{name}\n" for key, name in quoted.items())
    assert list(named(text)) == list(rows)
