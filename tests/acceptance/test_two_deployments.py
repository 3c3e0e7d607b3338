"""Two deployments of one partner on one broker and one store, kept apart by their namespaces."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .conftest import Site, Upstream, account_ids, await_ready, eventually, exchanges

pytestmark = pytest.mark.faults

ACCOUNTS = {"north": account_ids(1, 20), "south": account_ids(21, 20)}


class Deployment:
    """One of them: its site, its upstream, its accounts, and who works for it."""

    def __init__(self, site: Site, upstream: Upstream, accounts: list[str]) -> None:
        self.site, self.upstream, self.accounts = site, upstream, accounts
        file = site.folder / "accounts.csv"
        file.write_text("\n".join(accounts))
        done = site.cli("accounts", "import", str(file))
        assert done.code == 0, done.err

    def start(self) -> None:
        worker = self.site.worker("worker")
        self.site.celery("beat", "beat")
        await_ready(worker)

    def exchanged(self) -> dict[str, list[float]]:
        return exchanges(self.upstream.calls())


@pytest.fixture
def deployments(tmp_path: Path) -> Iterator[dict[str, Deployment]]:
    with ExitStack() as stack:
        made: dict[str, Deployment] = {}
        shared: dict[str, str] = {}
        for name, accounts in ACCOUNTS.items():
            upstream = stack.enter_context(Upstream(accounts=40, lifetime_seconds=8))
            settings = {"namespace": name, "discovery_interval_seconds": 0}
            site = stack.enter_context(
                Site(
                    tmp_path / name / "here", upstream.base_url, call_timeout_seconds=1, **settings
                )
            )
            shared = shared or {
                url: site.environment[url]
                for url in ("SUBTOKENS_BROKER_URL", "SUBTOKENS_STORE_URL")
            }
            site.environment |= shared
            made[name] = Deployment(site, upstream, accounts)
        yield made


def test_each_works_on_its_own_accounts_tickets_and_steps_alone(
    deployments: dict[str, Deployment],
) -> None:
    north, south = deployments.values()
    south.start()
    eventually(lambda: len(south.exchanged()) == 20)
    # Nobody works for the north yet: not even its neighbour's idle worker.
    late = north.site.cli("exchange", "--all", "--timeout", "3")
    assert late.code == 1, late
    assert north.exchanged() == {}

    north.start()
    for _ in range(4):
        for one in (north, south):
            done = one.site.cli("ensure", "--valid-for", "1s")
            assert done.code == 0, done
    for one in (north, south):
        eventually(lambda one=one: all(len(at) > 2 for at in one.exchanged().values()))
        assert sorted(one.exchanged()) == one.accounts
        assert {call.status for call in one.upstream.calls()} == {200}
        assert one.site.cli("token", one.accounts[0]).code == 0
    assert north.site.cli("token", south.accounts[0]).code == 1
