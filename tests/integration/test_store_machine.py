"""A machine that does anything to the store in any order, and checks its promises after each step.

Each enrolled account is in the due set exactly once; no older token stands over a newer one;
nothing comes back after it was forgotten; generations only rise; a run's accounts add up; every
account-second without a valid token is counted, once.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from redis.asyncio import Redis

from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.lanes import LANES, Lane
from subtokens.tasks.tokens.limiter import Rate
from subtokens.tasks.tokens.membership import absent_twice, drop
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.runs import Runs
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.tasks.tokens.status import FleetStatus, fleet_status
from subtokens.tasks.tokens.store import Failure, TokenStore
from subtokens.workers.private_redis import PrivateRedis

ACCOUNTS = [f"T1120000{n}" for n in range(1, 6)]
accounts = st.sampled_from(ACCOUNTS)
some_accounts = st.lists(accounts, unique=True, min_size=1, max_size=5)
a_claim = st.integers(0, 10**6)


class Cover:
    """What the machine itself knows of one account's time without a valid token."""

    def __init__(self, enrolled_ms: int) -> None:
        self.until = enrolled_ms
        self.has_had_one = self.is_quarantined = False


class StoreMachine(RuleBasedStateMachine):
    server: ClassVar[PrivateRedis]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = 1_800_000_000.0
        self.connect()
        self.do(self.redis.flushdb())
        self.imported: set[str] = set()
        self.forgotten: set[str] = set()
        self.missed: dict[str, float] = {}  # account to when a listing first lacked it
        self.claims: list[tuple[str, int, float]] = []  # every claim ever, with its lease's end
        self.newest: dict[str, int] = {}  # account to the generation of its stored token
        self.highest = 0
        self.run_sizes: dict[str, int] = {}
        self.cover: dict[str, Cover] = {}  # of the enrolled
        self.gaps: Counter[str] = Counter()  # milliseconds of gaps that have ended

    def connect(self) -> None:
        self.redis = Redis.from_url(self.server.url(2))
        keys = PartnerKeys("machine", "T11200000")
        sealer = Sealer("T11200000", {"k1": bytes(32)})
        self.store = TokenStore(self.redis, keys, sealer, lambda: self.now)
        self.runs = Runs(self.store)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def now_ms(self) -> int:
        return self.store.now_ms()

    @property
    def enrolled(self) -> set[str]:
        return set(self.cover)

    def end_gap(self, account: str) -> None:
        """The account's gap, if there is one, has ended or is another kind of gap from now on."""
        cover = self.cover[account]
        kind = "onboarding" if not cover.has_had_one else "uncovered"
        self.gaps["quarantined" if cover.is_quarantined else kind] += max(
            0, self.now_ms() - cover.until
        )
        cover.until = max(cover.until, self.now_ms())

    def leave(self, account: str) -> None:
        self.end_gap(account)
        del self.cover[account]
        self.newest.pop(account, None)
        self.imported.discard(account)
        self.missed.pop(account, None)

    def teardown(self) -> None:
        self.do(self.redis.aclose())
        self.runner.close()

    @rule(ids=some_accounts, source=st.sampled_from(["imported", "discovered"]))
    def enrol(self, ids: list[str], source: str) -> None:
        taken = set(ids) if source == "imported" else set(ids) - self.forgotten
        added = self.do(self.store.enrol([(i, "") for i in ids], source))
        assert added == len(taken - self.enrolled)
        for account in taken:
            self.cover.setdefault(account, Cover(self.now_ms()))
            self.missed.pop(account, None)
        if source == "imported":
            self.imported |= taken
        self.forgotten -= taken

    @rule(ids=some_accounts)
    def forget(self, ids: list[str]) -> None:
        self.do(self.store.forget(ids))
        for account in self.enrolled & set(ids):
            self.leave(account)
        self.forgotten |= set(ids)

    @rule(present=st.lists(accounts, unique=True), began_ago=st.sampled_from([0, 3]))
    def listing(self, present: list[str], began_ago: float) -> None:
        """A complete walk through a list that holds these, which began some seconds ago."""
        began = self.now - began_ago
        for account in self.enrolled & set(present):
            self.missed.pop(account, None)
        self.do(self.store.enrol([(i, "") for i in present], "discovered"))
        for account in set(present) - self.forgotten - self.enrolled:
            self.cover[account] = Cover(self.now_ms())
        found, members = self.do(absent_twice(self.store, present, int(began * 1000)))
        assert members == len(self.enrolled)
        absent = self.enrolled - set(present) - self.imported
        gone = {account for account in absent if self.missed.get(account, self.now + 1) <= began}
        assert set(found) == gone
        for account in absent:
            self.missed.setdefault(account, self.now)
        self.do(drop(self.store, found))
        for account in gone:
            self.leave(account)

    @rule(limit=st.integers(1, 5), lease=st.sampled_from([5, 60]), lane=st.sampled_from(LANES))
    def claim(self, limit: int, lease: int, lane: Lane) -> None:
        claim = self.do(self.store.claim(limit, lease, Rate(1_000_000), lane))
        held = {account for account, _, ends in self.live_claims() if ends > self.now}
        for account in (claimed.account_id for claimed in claim.accounts):
            assert account in self.enrolled
            assert account not in held
            self.claims.append((account, claim.generation, self.now + lease))
        if claim.accounts:
            assert claim.generation > self.highest
            self.highest = claim.generation

    def live_claims(self) -> list[tuple[str, int, float]]:
        return [c for c in self.claims if self.do(self.is_ours(c[0], c[1]))]

    async def is_ours(self, account: str, generation: int) -> bool:
        value = await self.redis.hget(self.store.keys.claims, account)
        return value is not None and int(value.split()[0]) == generation

    @precondition(lambda self: self.claims)
    @rule(number=a_claim, lifetime=st.sampled_from([20, 3600]), is_unchanged=st.booleans())
    def complete(self, number: int, lifetime: int, is_unchanged: bool) -> None:
        """Any claim ever made, however late, twice or from before the account was forgotten."""
        account, generation, _ = self.claims[-1 - number % len(self.claims)]
        ours = self.do(self.is_ours(account, generation))
        # Unchanged is what still lives; where there is nothing, an answer always changes it.
        is_unchanged = is_unchanged and ours and self.newest.get(account, 0) > 0
        now_ms = self.now_ms()
        record = TokenRecord(
            account,
            f"token {generation}",
            Kind.EXCHANGE,
            generation,
            now_ms,
            now_ms + lifetime * 500,
            now_ms + lifetime * 1000,
        )
        settled = self.do(self.store.complete([record], [account] if is_unchanged else []))
        assert settled.accounts == int(ours)
        if not ours:
            return
        assert generation > self.newest.get(account, 0)
        cover = self.cover[account]
        if cover.is_quarantined or not is_unchanged:
            self.end_gap(account)
        cover.is_quarantined = False
        if not is_unchanged:
            cover.until, cover.has_had_one = record.expires_ms, True
            self.newest[account] = generation

    @precondition(lambda self: self.claims)
    @rule(number=a_claim, is_final=st.booleans(), is_quarantined=st.booleans())
    def fail(self, number: int, is_final: bool, is_quarantined: bool) -> None:
        account, generation, _ = self.claims[-1 - number % len(self.claims)]
        ours = self.do(self.is_ours(account, generation))
        due_ms = self.now_ms() + 5_000
        failure = Failure(account, generation, due_ms, "refused", is_final, 1, is_quarantined)
        assert self.do(self.store.fail([failure])).accounts == int(ours)
        if ours and is_quarantined and not self.cover[account].is_quarantined:
            self.end_gap(account)
            self.cover[account].is_quarantined = True

    @precondition(lambda self: self.claims)
    @rule(number=a_claim)
    def hand_back(self, number: int) -> None:
        account, generation, _ = self.claims[-1 - number % len(self.claims)]
        self.do(self.store.hand_back([(account, generation)]))

    @rule(
        ids=some_accounts,
        run=st.sampled_from(["one", "two", "three"]),
        is_retry=st.booleans(),
    )
    def request(self, ids: list[str], run: str, is_retry: bool) -> None:
        if self.do(self.runs.open(run, 600, "step")) == "opened":
            self.do(self.runs.request(run, ids, is_retry=is_retry))
            self.do(self.runs.seal(run))
            self.run_sizes[run] = len(ids)
            for account in self.enrolled & set(ids) if is_retry else ():
                if self.cover[account].is_quarantined:
                    self.end_gap(account)
                    self.cover[account].is_quarantined = False

    @rule(seconds=st.sampled_from([0.5, 6, 61, 700]))
    def push_the_clock(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.runs.ripe())

    @rule()
    def restart(self) -> None:
        """Redis is killed and comes back with its append-only file."""
        self.do(self.redis.aclose())
        self.server.kill()
        self.server.start()
        self.connect()

    @invariant()
    def each_enrolled_account_is_due_exactly_once(self) -> None:
        due = self.do(self.redis.zrange(self.store.keys.due, 0, -1, withscores=True))
        assert sorted(account.decode() for account, _ in due) == sorted(self.enrolled)
        assert all(score for _, score in due)  # never due never: each at an instant

    @invariant()
    def each_enrolled_account_is_in_one_index_of_cover(self) -> None:
        keys = self.store.keys
        covered, quarantined = (
            {account.decode() for account in self.do(self.redis.zrange(key, 0, -1))}
            for key in (keys.expiry, keys.quarantine)
        )
        assert covered | quarantined == self.enrolled
        assert quarantined == {a for a, cover in self.cover.items() if cover.is_quarantined}
        assert not covered & quarantined

    @invariant()
    def the_newest_token_stands(self) -> None:
        for account in ACCOUNTS:
            record = self.do(self.store.load(account))
            if record is not None:
                assert record.generation == self.newest.get(account)

    @invariant()
    def only_enrolled_accounts_are_claimed(self) -> None:
        claimed = self.do(self.redis.hkeys(self.store.keys.claims))
        assert {account.decode() for account in claimed} <= self.enrolled

    @invariant()
    def the_accounts_of_a_run_add_up(self) -> None:
        for run, size in self.run_sizes.items():
            summary = self.do(self.runs.summary(run))
            assert summary.accounts == size
            assert summary.ended or summary.open

    @invariant()
    def whoever_is_open_in_a_run_is_waited_for(self) -> None:
        waiting = self.do(self.redis.hgetall(self.store.keys.waiting))
        assert {account.decode() for account in waiting} <= self.enrolled
        for run in self.run_sizes:
            for account in self.do(self.redis.smembers(self.store.keys.run(run, "open"))):
                assert run in waiting[account].decode().split()

    @invariant()
    def every_account_second_without_a_token_is_counted_once(self) -> None:
        expected = Counter(self.gaps)
        for cover in self.cover.values():
            kind = "onboarding" if not cover.has_had_one else "uncovered"
            kind = "quarantined" if cover.is_quarantined else kind
            expected[kind] += max(0, self.now_ms() - cover.until)
        status: FleetStatus = self.do(fleet_status(self.store, 1))
        for kind in ("onboarding", "uncovered", "quarantined"):
            assert getattr(status, f"{kind}_seconds") == pytest.approx(expected[kind] / 1000)


@pytest.fixture(scope="module")
def durable_server() -> AbstractContextManager[PrivateRedis]:
    with PrivateRedis(append_only=True) as server:
        yield server


def test_the_store_keeps_its_promises_whatever_happens(durable_server) -> None:
    machine = type("Machine", (StoreMachine,), {"server": durable_server})
    case = machine.TestCase
    case.settings = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    case("runTest").runTest()
