"""Each `subtokens …` that a page shows is run against a deployment that works."""

import pytest

from ..unit.test_docs import commands
from .conftest import RENEWING, Upstream, account_ids, await_ready

pytestmark = pytest.mark.faults

# These run until they are stopped, and are tested by files of their own.
SERVING = tuple(f"subtokens {name}" for name in ("up", "monitor", "sandbox", "demo"))


def test_every_command_that_ends_ends_well(new_site) -> None:
    with Upstream(accounts=20) as upstream:
        site = new_site(upstream.base_url)
        site.enrol(account_ids(1, 20))
        await_ready(site.worker("renewing", *RENEWING), site.worker("worker"))
        assert site.cli("exchange", "--all").code == 0

        shown = [one for one in commands() if one.startswith("subtokens ")]
        ending = {one: tuple(one.split()[1:]) for one in shown if not one.startswith(SERVING)}
        done = site.cli_together(ending)

        assert len(done) >= 12
        assert {one: told for one, told in done.items() if told.code} == {}
