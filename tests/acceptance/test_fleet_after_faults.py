"""A fleet comes through whatever happens to its processes and its Redis, with nobody's hand."""

import sys
from collections.abc import Iterator

import pytest

from .conftest import eventually
from .faults import LOSS, OURS, THEIRS, Deployment
from .invariants import IN_FLIGHT_SECONDS

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def deployment(
    redis_server: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("faults") / "here", 100, 20) as deployment:
        yield deployment


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", [*OURS, *THEIRS])
def test_all_is_well_again_by_itself_after(deployment: Deployment, fault: str) -> None:
    verdict = deployment.suffer(fault, within=60)
    sys.stdout.write(f"{fault}: {verdict.told()}\n")
    assert not verdict.is_breach, verdict.told() + deployment.said()
    if fault in OURS:
        assert max(verdict.extra.values(), default=0) <= 1, verdict.extra
    if fault == LOSS:
        assert deployment.said().count("store.lost") == 1


def test_the_checker_sees_an_account_that_is_lost(deployment: Deployment) -> None:
    chosen, keys = deployment.accounts[0], deployment.site.keys
    verdict = deployment.invariants.through(lambda: deployment.admin.zrem(keys.due, chosen), 1)
    assert verdict.lost == {chosen}
    assert "1 not in the due set" in verdict.complaints[0]
    deployment.admin.zadd(keys.due, {chosen: 1})


def test_the_checker_sees_an_older_token_over_a_newer_one(deployment: Deployment) -> None:
    chosen, newest = deployment.accounts[1], deployment.watcher.newest
    key, first = deployment.site.keys.token(chosen), newest[chosen]
    older = deployment.admin.get(key)
    eventually(lambda: newest[chosen] > first)
    verdict = deployment.invariants.through(
        lambda: deployment.admin.set(key, older, keepttl=True), 20
    )
    assert {told.split(":")[0] for told in verdict.rewound} == {chosen}


def test_the_checker_sees_an_exchange_that_nothing_was_due_for(deployment: Deployment) -> None:
    deployment.invariants.through(lambda: None, 20)  # what went before is told apart from here on
    ended_at, upstream = deployment.upstream.now(), deployment.upstream
    eventually(lambda: upstream.now() > ended_at + 3 * IN_FLIGHT_SECONDS)
    served_at = {call.account: call.seconds for call in upstream.calls_of(deployment.accounts)}
    settled_at = upstream.now() - IN_FLIGHT_SECONDS
    chosen = {account for account, at in served_at.items() if ended_at < at < settled_at}

    def make_due() -> None:
        before = upstream.last()
        deployment.admin.zadd(deployment.site.keys.due, dict.fromkeys(chosen, 1))
        eventually(lambda: upstream.has_exchanged(list(chosen), before))

    needless = deployment.invariants.through(make_due, 20).needless
    assert needless  # all of them, unless this machine stood still for seconds
    assert needless <= chosen
