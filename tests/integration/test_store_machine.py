"""A machine that does anything to the store in any order, and checks its promises after each step.

Each enrolled account is in the due set exactly once; no older token stands over a newer one;
nothing comes back after it was forgotten; generations only rise; a run's accounts add up.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from redis.asyncio import Redis

from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.limiter import Rate
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.runs import Runs
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.tasks.tokens.store import Failure, TokenStore

ACCOUNTS = [f"T1120000{n}" for n in range(1, 6)]
accounts = st.sampled_from(ACCOUNTS)
some_accounts = st.lists(accounts, unique=True, min_size=1, max_size=5)


class StoreMachine(RuleBasedStateMachine):
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = 1_800_000_000.0
        self.redis = Redis.from_url(self.url)
        keys = PartnerKeys("machine", "T11200000")
        self.store = TokenStore(
            self.redis, keys, Sealer("T11200000", {"k1": bytes(32)}), lambda: self.now
        )
        self.runs = Runs(self.store)
        self.do(self.redis.flushdb())
        self.enrolled: set[str] = set()
        self.forgotten: set[str] = set()
        self.claims: list[tuple[str, int, float]] = []  # every claim ever, with its lease's end
        self.newest: dict[str, int] = {}  # account to the generation of its stored token
        self.highest = 0
        self.run_sizes: dict[str, int] = {}

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.do(self.redis.aclose())
        self.runner.close()

    @rule(ids=some_accounts, source=st.sampled_from(["imported", "discovered"]))
    def enrol(self, ids: list[str], source: str) -> None:
        taken = set(ids) if source == "imported" else set(ids) - self.forgotten
        added = self.do(self.store.enrol([(i, "") for i in ids], source))
        assert added == len(taken - self.enrolled)
        self.enrolled |= taken
        self.forgotten -= taken

    @rule(ids=some_accounts)
    def forget(self, ids: list[str]) -> None:
        self.do(self.store.forget(ids))
        self.enrolled -= set(ids)
        self.forgotten |= set(ids)
        for account in ids:
            self.newest.pop(account, None)

    @rule(limit=st.integers(1, 5), lease=st.sampled_from([5, 60]))
    def claim(self, limit: int, lease: int) -> None:
        claim = self.do(self.store.claim(limit, lease, Rate(1_000_000)))
        held = {account for account, _, ends in self.live_claims() if ends > self.now}
        for account, _ in claim.accounts:
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
    @rule(data=st.data(), lifetime=st.sampled_from([20, 3600]))
    def complete(self, data: st.DataObject, lifetime: int) -> None:
        """Any claim ever made, however late, twice or from before the account was forgotten."""
        account, generation, _ = data.draw(st.sampled_from(self.claims))
        ours = self.do(self.is_ours(account, generation))
        now_ms = int(self.now * 1000)
        record = TokenRecord(
            account,
            f"token {generation}",
            Kind.EXCHANGE,
            generation,
            now_ms,
            now_ms + lifetime * 500,
            now_ms + lifetime * 1000,
        )
        settled = self.do(self.store.complete([record]))
        assert settled.accounts == int(ours)
        if ours:
            assert generation > self.newest.get(account, 0)
            self.newest[account] = generation

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), is_final=st.booleans())
    def fail(self, data: st.DataObject, is_final: bool) -> None:
        account, generation, _ = data.draw(st.sampled_from(self.claims))
        due_ms = int(self.now * 1000) + 5_000
        self.do(self.store.fail([Failure(account, generation, due_ms, "refused", is_final)]))

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        account, generation, _ = data.draw(st.sampled_from(self.claims))
        self.do(self.store.hand_back([(account, generation)]))

    @rule(ids=some_accounts, run=st.sampled_from(["one", "two", "three"]))
    def request(self, ids: list[str], run: str) -> None:
        if self.do(self.runs.open(run, 600, "step")) == "opened":
            self.do(self.runs.request(run, ids))
            self.do(self.runs.seal(run))
            self.run_sizes[run] = len(ids)

    @rule(seconds=st.sampled_from([0.5, 6, 61, 700]))
    def push_the_clock(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.runs.ripe())

    @invariant()
    def each_enrolled_account_is_due_exactly_once(self) -> None:
        due = self.do(self.redis.zrange(self.store.keys.due, 0, -1))
        assert sorted(account.decode() for account in due) == sorted(self.enrolled)

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


@pytest.mark.usefixtures("redis_server")
def test_the_store_keeps_its_promises_whatever_happens(redis_server) -> None:
    machine = type("Machine", (StoreMachine,), {"url": redis_server.url(2)})
    case = machine.TestCase
    case.settings = settings(
        max_examples=60,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    case("runTest").runTest()
