"""What `subtokens monitor` tells of fleets in a known state: metrics, health, the status page."""

import asyncio
import base64
import hashlib
import http.client
import json
import re
import sys
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from subtokens.tasks.dintero.errors import UnauthorizedError
from subtokens.tasks.tokens.status import fleet_status
from subtokens.tasks.tokens.store import Failure
from subtokens.workers.monitor import Fleets, serving
from subtokens.workers.monitor.fleets import never_falling

ROOT = Path(__file__).parents[2]
HOUR = 3600


def ids(fleet, first, count):
    return [f"{fleet.partner.partner_id[:4]}{n:05}" for n in range(first, first + count)]


async def enrol(fleet, accounts):
    await fleet.store.enrol([(account, "CANARY-name") for account in accounts], "imported")


async def fetch(url, path, method="GET", headers=None):
    def ask():
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def scrape(*fleets):
    """What a monitor started now tells: samples by name, labels and figure."""
    async with serving(Fleets(fleets), "127.0.0.1", 0) as url:
        status, _, text = await fetch(url, "/metrics")
    assert status == 200
    assert "CANARY" not in text
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *(v for k, v in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def shape(samples, partner):
    """The series of one partner, without its id; by sorted label names it may stand second."""
    return {
        tuple("partner" if part == partner else part for part in series)
        for series in samples
        if partner in series
    }


async def in_a_known_state(fleet, token, unlimited, clock):
    """100 accounts: 40 of an hour, 30 expired, 10 quarantined, 20 never exchanged; suspended."""
    await enrol(fleet, ids(fleet, 1, 80))
    claim = await fleet.store.claim(80, 60, unlimited, "exchange")
    given = claim.generation
    chosen = [found.account_id for found in claim.accounts]
    records = [token(account, given, 3 * HOUR) for account in chosen[:40]]
    records += [token(account, given, 60) for account in chosen[40:70]]
    await fleet.store.complete(records)
    due_ms = int((clock() + 12 * HOUR) * 1000)
    await fleet.store.fail(
        [
            Failure(account, given, due_ms, f"refused_{status}", True, 5, True)
            for account, status in zip(chosen[70:], [403] * 7 + [418] * 3, strict=True)
        ]
    )
    await fleet.tickets.look(is_sweep=True)
    clock.push(100)
    await enrol(fleet, ids(fleet, 81, 20))
    await fleet.circuit.open(UnauthorizedError("partner_token", "answered 401", status=401))


async def test_the_figures_are_those_of_a_fleet_in_a_known_state(fleet_of, token, unlimited, clock):
    fleet = fleet_of(112)
    await in_a_known_state(fleet, token, unlimited, clock)
    clock.push(10)

    told = await scrape(fleet)

    partner = "T11200000"
    assert {
        state: told["subtokens_accounts", partner, state]
        for state in ("fresh", "stale", "expired", "never")
    } == {"fresh": 40, "stale": 0, "expired": 30, "never": 20}
    by_reason = {
        series[2]: figure
        for series, figure in told.items()
        if series[0] == "subtokens_accounts_quarantined" and figure
    }
    assert by_reason == {"refused_403": 7, "other": 3}
    assert told["subtokens_accounts_enrolled", partner] == 100
    assert {
        series[1]: figure
        for series, figure in told.items()
        if series[0] == "subtokens_tokens" and figure
    } == {"4h": 40}
    assert told["subtokens_due", "renew", partner] == 30
    assert told["subtokens_due", "exchange", partner] == 20
    assert told["subtokens_oldest_due_seconds", "renew", partner] == pytest.approx(80, abs=1)
    assert told["subtokens_oldest_due_seconds", "exchange", partner] == pytest.approx(10, abs=1)
    assert {
        blame: told["subtokens_circuit_open", blame, partner]
        for blame in ("upstream", "credential", "us")
    } == {"upstream": 0, "credential": 1, "us": 0}
    assert told["subtokens_exchanges_total", "first", "ok", partner] == 70
    assert told["subtokens_exchanges_total", "first", "refused", partner] == 10
    assert sum(n for name, n in told.items() if name[0] == "subtokens_renewals_total") == 0
    assert told["subtokens_lapses_total", partner] == 30
    uncovered = told["subtokens_uncovered_account_seconds_total", partner]
    assert uncovered == pytest.approx(30 * 50)
    assert told["subtokens_onboarding_account_seconds_total", partner] == pytest.approx(20 * 10)
    assert told["subtokens_quarantined_account_seconds_total", partner] == pytest.approx(10 * 110)
    assert told["subtokens_last_sweep_timestamp_seconds", partner] == clock() - 110
    assert told["subtokens_last_discovery_timestamp_seconds", partner] == 0
    assert told["subtokens_workers_alive", partner] == 0  # it is silent for 110 s
    assert told["subtokens_forecast_known", partner] == 1
    assert told["subtokens_up", partner] == 1


@pytest.mark.timeout(120)
async def test_a_hundred_partners_of_a_thousand_have_the_same_few_series_each(
    fleet_of, token, unlimited, clock
):
    fleets = [fleet_of(number) for number in range(100, 200)]
    await in_a_known_state(fleets[7], token, unlimited, clock)
    for fleet in fleets:
        await enrol(fleet, ids(fleet, 1, 1_000))

    began = time.monotonic()
    told = await scrape(*fleets)
    took = time.monotonic() - began

    shapes = Counter(frozenset(shape(told, fleet.partner.partner_id)) for fleet in fleets)
    assert len(shapes) == 1, "the series depend on what befell a fleet"
    (series,) = shapes
    sys.stdout.write(f"{len(series)} series a partner, {len(told)} in all, read in {took:.2f} s\n")
    assert len(series) == 218
    assert len(told) == 100 * len(series), "there are series of no partner"
    assert all(told["subtokens_up", fleet.partner.partner_id] == 1 for fleet in fleets)
    assert not [label for name, *labels in told for label in labels if label.endswith("00001")]


async def test_a_fleet_that_cannot_be_read_is_down_and_hides_no_other(fleet_of, redis):
    sound, broken = fleet_of(112), fleet_of(113)
    await enrol(sound, ids(sound, 1, 5))
    await redis.set(broken.store.keys.due, "garbage")

    told = await scrape(sound, broken)

    assert (told["subtokens_up", "T11200000"], told["subtokens_up", "T11300000"]) == (1, 0)
    assert shape(told, "T11300000") == {("subtokens_up", "partner")}
    assert told["subtokens_accounts_enrolled", "T11200000"] == 5


async def test_without_redis_every_path_answers_in_time_and_says_so(fleet_of):
    async with Redis(port=1, retry=Retry(NoBackoff(), 0)) as nobody:
        fleet = fleet_of(112, nobody)
        async with serving(Fleets([fleet]), "127.0.0.1", 0) as url:
            status, _, text = await fetch(url, "/metrics")
            assert (status, 'subtokens_up{partner="T11200000"} 0.0' in text) == (200, True)
            status, _, text = await fetch(url, "/readyz")
            assert status == 503
            assert text == ("T11200000: Redis cannot be reached; check SUBTOKENS_STORE_URL\n")
            assert (await fetch(url, "/healthz"))[0] == 200
            status, _, text = await fetch(url, "/status.json")
            assert (status, json.loads(text)["partners"][0]["status"]) == (200, None)


async def test_a_trouble_that_lasts_is_logged_once(fleet_of, redis, monkeypatch, caplog):
    monkeypatch.setattr("subtokens.workers.monitor.fleets.KEPT_SECONDS", 0)
    fleet = fleet_of(112)
    await redis.set(fleet.store.keys.due, "garbage")
    fleets = Fleets([fleet])
    for _ in range(3):
        (seen,) = await fleets.seen()
        assert seen.trouble.startswith("Redis answers with an error")
    assert caplog.text.count("monitor.not_read") == 1
    await redis.delete(fleet.store.keys.due)
    (seen,) = await fleets.seen()
    assert seen.status


async def test_a_redis_that_hangs_is_given_up_at_the_deadline(fleet_of, redis, monkeypatch):
    monkeypatch.setattr("subtokens.workers.monitor.fleets.DEADLINE_SECONDS", 0.3)
    hung, closed = asyncio.Event(), []

    async def accept(_reader, writer):
        await hung.wait()
        writer.close()
        closed.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server, Redis(port=server.sockets[0].getsockname()[1]) as silent:
        fleet = fleet_of(112, silent)
        began = time.monotonic()
        told = await scrape(fleet)
        assert time.monotonic() - began < 3
        assert told == {("subtokens_up", "T11200000"): 0}
        hung.set()
        while not closed:
            await asyncio.sleep(0.01)


async def test_ready_is_who_was_swept_within_ten_seconds(fleet_of, clock):
    fleet = fleet_of(112)

    async def ready():
        async with serving(Fleets([fleet]), "127.0.0.1", 0) as url:
            return await fetch(url, "/readyz")

    assert (await ready())[0::2] == (
        503,
        "T11200000: no sweep yet; do beat and a worker of the queue subtokens.sweep run?\n",
    )
    clock.now = time.time()
    await fleet.tickets.look(is_sweep=True)
    assert (await ready())[0::2] == (200, "ready\n")
    clock.push(-60)
    await fleet.tickets.look(is_sweep=True)
    status, _, text = await ready()
    assert (status, "no sweep for 6" in text) == (503, True)


async def test_a_counter_falls_only_where_the_store_began_anew(fleet_of, token, unlimited, clock):
    fleet = fleet_of(112)
    await in_a_known_state(fleet, token, unlimited, clock)
    first = await fleet_status(fleet.store, 50)

    torn = replace(first, uncovered_seconds=first.uncovered_seconds - 300, lapses=2)
    held = never_falling(first, torn)
    assert (held.uncovered_seconds, held.lapses) == (first.uncovered_seconds, first.lapses)

    anew = replace(torn, exchanged=0)
    assert never_falling(first, anew) == anew


async def test_openmetrics_is_spoken_to_who_asks_for_it(fleet_of):
    async with serving(Fleets([fleet_of(112)]), "127.0.0.1", 0) as url:
        accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
        _, headers, text = await fetch(url, "/metrics", headers=accept)
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics_families(text)}
    assert "subtokens_renewals" in names


class Page(HTMLParser):
    """Collects tags, and fails on what is left open or closed twice."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


async def test_the_page_is_whole_and_its_policy_lets_nothing_run_but_what_it_holds(fleet_of):
    async with serving(Fleets([fleet_of(112)]), "127.0.0.1", 0) as url:
        status, headers, text = await fetch(url, "/")
        methods = {
            method: (await fetch(url, "/", method))[0]
            for method in ("POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS")
        }
        lost = await fetch(url, "/../../etc/passwd")

    page = Page(text)
    assert (status, page.open) == (200, [])
    assert {"title", "main", "script", "style"} <= set(page.tags)
    attributes = dict(page.attributes)
    assert not {"src", "href", "style", "onclick", "onload"} & set(attributes)
    assert "http" not in text, "it asks for something from elsewhere"
    assert "innerHTML" not in text
    policy = headers["Content-Security-Policy"]
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "subtokens"
    assert set(methods.values()) == {405}
    assert lost[0] == 404


async def test_status_json_tells_what_the_page_reads_and_neither_secret_nor_account(
    fleet_of, token, unlimited, clock
):
    fleet = fleet_of(112)
    await in_a_known_state(fleet, token, unlimited, clock)
    await fleet.runs.open("a-run", 600, "{}")
    await fleet.runs.request("a-run", ids(fleet, 81, 5))
    await fleet.runs.seal("a-run")
    async with serving(Fleets([fleet]), "127.0.0.1", 0) as url:
        _, headers, text = await fetch(url, "/status.json")
    assert headers["Content-Type"] == "application/json"
    told = json.loads(text)
    (partner,) = told["partners"]
    page = (ROOT / "workers/monitor/page.html").read_text()
    read = set(re.findall(r"\bstatus\.([a-z_]+)", page)) - {"json"}  # that is the path
    assert read
    assert read <= set(partner["status"])
    assert set(re.findall(r"\bforecast\.([a-z_]+)", page)) <= set(partner["forecast"])
    assert set(re.findall(r"\brun\.([a-z_]+)", page)) <= set(partner["runs"][0])
    assert set(re.findall(r"\btold\.([a-z_]+)", page)) <= set(partner) | set(told)
    assert partner["status"]["barred_by"] == "credential"
    assert partner["status"]["quarantined"] == {"refused_403": 7, "refused_418": 3}
    assert [run["accounts"] for run in partner["runs"]] == [5]
    assert "CANARY" not in text
    named = {one["account_id"]: one["reason"] for one in partner["quarantined"]}
    assert len(named) == 10
    assert Counter(named.values()) == partner["status"]["quarantined"]
    assert set(re.findall(r"T112\d{5}", text)) == {"T11200000", *named}


def family_of(sample):
    return re.sub(r"(_seconds)_(bucket|count|sum)$", r"\1", sample)


async def family_names(fleet):
    return {family_of(name) for name, *_ in await scrape(fleet)}


async def test_every_metric_of_an_alert_or_of_the_guide_exists(fleet_of):
    rules = yaml.safe_load((ROOT / "config/alerts.yml").read_text())["groups"][0]["rules"]
    told = await family_names(fleet_of(112))
    guide = (ROOT / "docs/monitoring.md").read_text()
    for rule in rules:
        named = set(re.findall(r"subtokens_\w+", rule["expr"]))
        assert named, rule
        assert {family_of(name) for name in named} <= told, rule["alert"]
    assert set(re.findall(r"`(subtokens_\w+)", guide)) == told
