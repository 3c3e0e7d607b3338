"""One account in words: what comes next, and why then."""

from dataclasses import replace

import pytest

from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.workers.cli.explain import AccountFacts, in_words

A, NOW = "T11200001", 1_800_000_000_000
HOUR = 3_600_000
TOKEN = TokenRecord(A, "CANARY", Kind.EXCHANGE, 7, NOW - HOUR, NOW + HOUR, NOW + 3 * HOUR)
EXCHANGED = {"name": "Aurora Bakeri", "history": f"{NOW - HOUR}:exchanged", "generation": "7"}
FRESH = AccountFacts(
    account_id=A,
    now_ms=NOW,
    due_score=NOW + HOUR,
    covered_until_ms=NOW + 3 * HOUR,
    is_forgotten=False,
    record=TOKEN,
    fault="",
    claim="",
    state=EXCHANGED,
    runs="",
    pause="",
)
FAILING = {"history": f"{NOW - 60_000}:refused_403 {NOW - 90_000}:refused_403", "repeats": "2"}

CASES = {
    "fresh": (FRESH, ["T11200001 (Aurora Bakeri) is fresh.", "generation 7", "expires at",
        "(in 3 h)", "Next attempt: at 2027-01-15 09:00:00 UTC (in 1 h), its place at 50% of the",
        "Last attempts: exchanged at 2027-01-15 07:00:00 UTC (1 h ago)."]),
    "stale and waiting": (
        replace(FRESH, due_score=NOW - 5_000, record=replace(TOKEN, renew_ms=NOW - 5_000)),
        ["is stale.", "Next attempt: as soon as a worker takes it; due since", "(5 s ago)"]),
    "in flight": (
        replace(FRESH, due_score=NOW + 30_000, claim=f"9 {NOW} node-1:42"),
        ["being exchanged by node-1:42, whose lease ends at", "(in 30 s)"]),
    "backing off": (
        replace(FRESH, due_score=NOW + 20_000, state=FAILING | {"attempts": "2"}),
        ["(in 20 s), its back-off after 2 failures in a row, the last one refused_403",
        "refused_403 at 2027-01-15 07:59:00 UTC (1 min ago); refused_403 at"]),
    "quarantined": (
        replace(FRESH, state=FAILING | {"attempts": "5", "repeats": "5",
        "quarantined_at": str(NOW - 60_000)}),
        ["is quarantined.", "in quarantine since", "after 5 times refused_403 in a row",
        "subtokens exchange --retry T11200001"]),
    "asked for": (
        replace(FRESH, due_score=-NOW, runs="run-1 run-2"),
        ["as it was asked for", "Runs that wait for it: run-1 run-2."]),
    "unchanged": (
        replace(FRESH, state={"history": f"{NOW}:unchanged"}),
        ["as the last answer was the token that it had already"]),
    "expired": (
        replace(FRESH, record=None, covered_until_ms=NOW - HOUR, due_score=NOW - 2 * HOUR),
        ["is expired.", "Its last token expired at", "as its token has expired"]),
    "never exchanged": (
        replace(FRESH, record=None, covered_until_ms=-NOW + HOUR, due_score=-NOW, state={}),
        ["is never exchanged.", "has had no token yet, since", "No attempt was made yet."]),
    "another key": (
        replace(FRESH, record=None, fault="sealed with key 'k9'"),
        ["is fresh.", "Its token cannot be opened: sealed with key 'k9'.",
        "(in 1 h), when its token is to be renewed."]),
    "stale, seen by an operator": (
        replace(FRESH, record=None, fault="may read no token", due_score=NOW - 5_000),
        ["is stale.", "due since", "when its token is to be renewed."]),
    "backing off, seen by an operator": (
        replace(FRESH, record=None, fault="may read no token", state=FAILING | {"attempts": "2"}),
        ["is stale.", "its back-off after 2 failures in a row"]),
    "expired, seen by an operator": (
        replace(FRESH, record=None, fault="may read no token", covered_until_ms=NOW - HOUR),
        ["is expired."]),
    "paused": (
        replace(FRESH, pause="partner_token: answered 401"),
        ["Nobody calls Dintero at the moment: partner_token: answered 401."]),
    "forgotten": (
        replace(FRESH, due_score=None, record=None, is_forgotten=True),
        ["is not enrolled: it was forgotten on purpose, and stays so until it is imported"]),
    "unknown": (
        replace(FRESH, due_score=None, record=None),
        ["is not enrolled: neither discovered nor imported."]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_account_is_told_in_words(case: str) -> None:
    facts, expected = CASES[case]
    told = " ".join(facts.sentences())
    for part in expected:
        assert part in told, told
    assert "CANARY" not in told + str(facts.as_dict()) + repr(facts)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (-5, "0 s"), (59.6, "1 min"), (3600, "1 h"), (11_520, "3 h 12 min"),
     (90_061, "1 d 1 h")],
)  # fmt: skip
def test_a_duration_is_told_by_its_two_largest_units(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
