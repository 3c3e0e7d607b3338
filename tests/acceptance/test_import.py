"""`subtokens accounts import`, as a process: all of a file, or nothing of it."""

import json
import time
from collections.abc import Callable

import pytest

from .conftest import Finished, Site, account

USUAL, BAD_INPUT = 0, 2
NOWHERE = "http://127.0.0.1:9/v1"  # nobody is called by an import


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Site:
    return new_site(NOWHERE)


def run_import(site: Site, text: str, *options: str) -> Finished:
    file = site.folder.parent / "accounts.csv"
    file.write_text(text, encoding="utf-8", newline="")
    return site.cli("accounts", "import", str(file), *options)


def counts(done: Finished) -> dict[str, object]:
    assert done.code == USUAL, done.err
    found: dict[str, object] = json.loads(done.out)
    return found


def enrolled(site: Site) -> int:
    return int(site.store.zcard(site.keys.due))


def test_a_csv_is_enrolled_with_its_names_and_forgotten_accounts_come_back(site: Site) -> None:
    text = f"\ufeffaccount_id,name\r\n{account(1)},One\r\n\r\n# two\r\n{account(2)},\r\n"

    done = run_import(site, text + f"{account(1)},again\r\n")
    assert done.out == (
        f"partner {site.keys.partner_id}: 2 new, 0 enrolled already, 1 repeated lines\n"
    )
    assert site.store.hget(site.keys.state(account(1)), "name") == b"One"
    assert site.cli("accounts", "forget", account(2)).code == USUAL

    would = counts(run_import(site, text + account(3), "--dry-run", "--json"))
    assert would == {
        "partner_id": site.keys.partner_id,
        "accounts": 3,
        "new": 2,
        "enrolled_already": 1,
        "of_forgotten": 1,
        "duplicates": 0,
        "dry_run": True,
    }
    assert enrolled(site) == 1
    assert counts(run_import(site, text + account(3), "--json")) == would | {"dry_run": False}
    assert enrolled(site) == 3
    assert not site.store.exists(site.keys.forgotten)


def test_ids_come_from_stdin_too(site: Site) -> None:
    done = site.cli("accounts", "import", "-", "--json", stdin=f"{account(1)}\n{account(2)}\n")
    assert (counts(done)["new"], enrolled(site)) == (2, 2)


def test_with_a_bad_line_nothing_is_imported(site: Site) -> None:
    foreign = "P" + account(2)[1:]
    done = run_import(site, f"{account(1)}\n{foreign}\nT112\n" + "x\n" * 60)
    assert (done.code, done.out, enrolled(site)) == (BAD_INPUT, "", 0)
    lines = done.err.splitlines()
    assert "line 2: " in lines[0]
    assert "different environments" in lines[0]
    assert "line 3: 'T112' is not an account id" in lines[1]
    assert lines[50:] == ["and 12 more", "nothing was done: put these lines right first"]


def test_a_file_that_is_not_there_is_named(site: Site) -> None:
    done = site.cli("accounts", "import", "missing.csv")
    assert (done.code, done.out) == (BAD_INPUT, "")
    assert done.err == "missing.csv cannot be read: No such file or directory\n"


@pytest.mark.faults  # it takes seconds
def test_a_hundred_thousand_lines_take_seconds(site: Site) -> None:
    ids = [f"T{112 + n // 90_000}{n % 90_000 + 1:05}" for n in range(100_000)]
    text = "account_id,name\n" + "".join(f'{one},"Shop of {one}"\n' for one in ids)

    started_at = time.monotonic()
    done = run_import(site, text, "--json")
    seconds = time.monotonic() - started_at

    assert counts(done)["new"] == enrolled(site) == 100_000
    assert done.err == ""  # no bar where nobody watches
    assert seconds < 20
