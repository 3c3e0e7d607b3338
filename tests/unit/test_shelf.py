"""The shelf: what is at hand, for how long, and what never is."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from subtokens.tasks.tokens import shelf as shelf_module
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.shelf import Shelf

A = "T11200001"


@pytest.fixture
def record(clock):
    """Issued now, to be renewed in 100 s, valid for 200 s."""
    now_ms = int(clock() * 1000)
    return TokenRecord(
        A, "CANARY-token", Kind.EXCHANGE, 5, now_ms, now_ms + 100_000, now_ms + 200_000
    )


def test_a_record_is_at_hand_for_its_seconds_and_no_longer(clock, record):
    shelf = Shelf(10, clock)
    shelf.keep(record)

    clock.push(9.9)
    assert shelf.find(A, 0) is record
    clock.push(0.1)
    assert shelf.find(A, 0) is None


@pytest.mark.parametrize("instant", ["renew_ms", "expires_ms"])
def test_a_record_is_not_at_hand_past_its_renewal_or_its_expiry(clock, record, instant):
    shelf = Shelf(1000, clock)
    shelf.keep(replace(record, **{instant: record.issued_ms + 50_000}))

    clock.push(49.9)
    assert shelf.find(A, 0)
    clock.push(0.1)
    assert shelf.find(A, 0) is None


def test_a_record_is_not_at_hand_for_longer_than_it_lasts(clock, record):
    shelf = Shelf(10, clock)
    shelf.keep(record)

    assert shelf.find(A, 199)
    assert shelf.find(A, 200) is None


def test_a_clock_that_is_set_back_keeps_nothing_for_longer(clock, record):
    shelf = Shelf(10, clock)
    shelf.keep(record)
    clock.push(-3600)

    assert shelf.find(A, 0) is None


def test_nothing_is_at_hand_for_zero_seconds(clock, record):
    shelf = Shelf(0, clock)
    shelf.keep(record)

    assert shelf.find(A, 0) is None
    assert not shelf._places


def test_an_older_record_never_takes_the_place_of_a_newer_one(clock, record):
    shelf, newer = Shelf(10, clock), replace(record, generation=6)
    shelf.keep(newer)
    shelf.keep(record)

    assert shelf.find(A, 0) is newer


def test_what_was_dropped_does_not_come_back_but_a_newer_one_does(clock, record):
    shelf, newer = Shelf(10, clock), replace(record, generation=6)
    shelf.keep(record)
    shelf.drop(record)
    assert shelf.find(A, 0) is None

    shelf.keep(record)  # by an answer that was under way
    assert shelf.find(A, 0) is None
    shelf.keep(newer)
    shelf.drop(record)
    assert shelf.find(A, 0) is newer


def test_the_oldest_go_where_there_are_too_many(clock, record, monkeypatch):
    monkeypatch.setattr(shelf_module, "MOST_RECORDS", 3)
    shelf = Shelf(10, clock)
    for account in ["1", "2", "3", "1", "4"]:
        shelf.keep(replace(record, account_id=account))

    assert [account for account in "1234" if shelf.find(account, 0)] == ["1", "3", "4"]


@pytest.fixture
def _hasty_threads():
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_hasty_threads")
def test_threads_share_it(clock, record, monkeypatch):
    monkeypatch.setattr(shelf_module, "MOST_RECORDS", 50)
    shelf = Shelf(10, clock)

    def use(number):
        mine = replace(record, account_id=str(number % 100), generation=number + 1)
        shelf.keep(mine)
        found = shelf.find(mine.account_id, 0)
        shelf.drop(mine)
        return found is None or found.account_id == mine.account_id

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(use, range(20_000)))
    assert len(shelf._places) == 50
