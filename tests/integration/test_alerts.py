"""Each alert of config/alerts.yml on what the monitor tells in that trouble, judged by promtool.

Two scrapes, 15 s apart, are drawn on as straight lines for 75 minutes.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from subtokens.tasks.dintero.errors import MisaddressedError, UnauthorizedError, UpstreamError
from subtokens.tasks.tokens.store import Failure
from subtokens.workers.monitor import Fleets, serving

from .test_monitor import HOUR, enrol, fetch, ids

RULES = Path(__file__).parents[2] / "config/alerts.yml"
ALERTS = [rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
NAMED = set(re.findall(r"subtokens_\w+", RULES.read_text()))
STEP_SECONDS, STEPS = 15, 300


@pytest.fixture
def promtool():
    found = shutil.which("promtool")
    if not found:
        pytest.skip("no promtool on PATH; it comes with Prometheus")
    return found


async def scraped(fleet):
    """Series to value; instants are told as seconds from now."""
    async with serving(Fleets([fleet]), "127.0.0.1", 0) as url:
        _, _, text = await fetch(url, "/metrics")
    told = {}
    for family in text_string_to_metric_families(text):
        for sample in (one for one in family.samples if one.name in NAMED):
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            value = sample.value
            if sample.name.endswith("_timestamp_seconds"):
                value -= fleet.store.clock()
            told[f"{sample.name}{{{labels}}}"] = value
    return told


def lines(first, second):
    for series, value in first.items():
        step = second[series] - value
        if "_timestamp_seconds" in series:
            step += STEP_SECONDS
        yield {"series": series, "values": f"{value!r}{step:+f}x{STEPS}"}


def firing(promtool, folder, first, second):
    """The alerts that ring after that long."""
    asked = {"expr": 'group by (alertname) (ALERTS{alertstate="firing"})', "eval_time": "74m"}
    test = {
        "interval": f"{STEP_SECONDS}s",
        "input_series": list(lines(first, second)),
        # None is expected, so that all that ring are told.
        "promql_expr_test": [asked | {"exp_samples": [{"labels": "{none='none'}", "value": 1}]}],
    }
    whole = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{STEP_SECONDS}s",
        "tests": [test],
    }
    (folder / "alerts_test.yml").write_text(yaml.safe_dump(whole))
    done = subprocess.run(
        [promtool, "test", "rules", "alerts_test.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    said = done.stdout + done.stderr
    _, sep, got = said.partition("got:")
    assert sep, said
    return set(re.findall(r'alertname=\\?"(\w+)', got))


class Trouble:
    """A fleet of a hundred accounts in good health; each method is what goes wrong."""

    def __init__(self, fleet, token, unlimited, clock):
        self.fleet, self.store, self.clock = fleet, fleet.store, clock
        self.token, self.unlimited, self.is_swept = token, unlimited, True

    async def begin(self, lifetime_seconds=12 * HOUR, *, accounts=100, served=100):
        await enrol(self.fleet, ids(self.fleet, 1, accounts))
        claim = await self.store.claim(accounts, 60, self.unlimited, "exchange")
        self.given = claim.generation
        self.claimed = [one.account_id for one in claim.accounts]
        tokens = [self.token(one, self.given, lifetime_seconds) for one in self.claimed[:served]]
        await self.store.complete(tokens)

    async def look(self):
        if self.is_swept:
            await self.fleet.tickets.look(is_sweep=True)
        return await scraped(self.fleet)

    async def healthy(self):
        await self.begin()

    async def uncovered(self):
        await self.begin(60)
        self.clock.push(100)

    async def late(self):
        await self.begin()
        self.clock.push(6 * HOUR + 100)

    async def unswept(self):
        await self.begin()
        await self.fleet.tickets.look(is_sweep=True)
        self.is_swept = False

    async def refused(self):
        await self.begin()
        await self.fleet.circuit.open(UnauthorizedError("exchange", "answered 401", status=401))

    async def misaddressed(self):
        await self.begin()
        await self.fleet.circuit.open(MisaddressedError("exchange", "answered 301", status=301))

    async def upstream_down(self):
        await self.begin()
        await self.fleet.circuit.open(UpstreamError("exchange", "answered 503", status=503))

    async def too_many_for_the_rate(self):
        self.fleet.rate = type(self.fleet.rate)(0.001)
        await self.begin()

    async def no_token_can_be_read(self):
        await self.begin()
        await self.store.redis.delete(*map(self.store.keys.token, self.claimed))

    async def quarantined(self):
        await self.begin(served=90)
        due_ms = self.store.now_ms() + 24 * HOUR * 1000
        await self.store.fail(
            [
                Failure(one, self.given, due_ms, "refused_403", True, 5, True)
                for one in self.claimed[90:]
            ]
        )

    async def rejected(self):
        await self.begin()

    async def reject_some(self):
        for account in self.claimed[:20]:
            await self.store.reject(account, self.given)

    async def unreadable(self):
        await self.begin()
        await self.store.redis.set(self.store.keys.claims, "garbage")
        self.is_swept = False


RINGS = {
    "healthy": set(),
    "uncovered": {"SubtokensUncovered", "SubtokensRenewalsLate"},
    "late": {"SubtokensRenewalsLate"},
    "unswept": {"SubtokensSweepsStopped"},
    "refused": {"SubtokensPartnerSuspended"},
    "misaddressed": {"SubtokensPartnerSuspended"},
    "upstream_down": {"SubtokensUpstreamFailing"},
    "too_many_for_the_rate": {"SubtokensWillNotFit"},
    "no_token_can_be_read": {"SubtokensForecastSkipped"},
    "quarantined": {"SubtokensManyQuarantined"},
    "rejected": {"SubtokensManyRejections"},
    "unreadable": {"SubtokensNotRead"},
}


@pytest.mark.parametrize("trouble", RINGS)
async def test_each_trouble_rings_its_alert_and_no_other(
    trouble,
    promtool,
    tmp_path,
    fleet_of,
    token,
    unlimited,
    clock,
):
    fleet = Trouble(fleet_of(112), token, unlimited, clock)
    await getattr(fleet, trouble)()
    first = await fleet.look()
    clock.push(STEP_SECONDS)
    if trouble == "rejected":
        await fleet.reject_some()
    second = await fleet.look()

    assert firing(promtool, tmp_path, first, second) == RINGS[trouble]


def test_there_is_a_trouble_for_each_alert():
    assert set().union(*RINGS.values()) == set(ALERTS)


def test_the_rules_are_sound(promtool):
    done = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
