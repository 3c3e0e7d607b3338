"""`subtokens monitor` beside a worker and beat: what Prometheus and an operator see of them."""

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from subtokens.workers.processes import Child

from .conftest import PARTNER, Site, Upstream, account_ids, await_ready, eventually

ACCOUNTS = account_ids(1, 30)


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def figures(url: str) -> dict[str, float]:
    """A scrape: the metrics that have no label but the partner's, and by outcome `name outcome`."""
    _, text = fetch(f"{url}/metrics")
    told: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels.keys() - {"partner", "attempt"}
            if not labels:
                told[sample.name] = sample.value
            elif labels == {"outcome"} or sample.labels.get("call") == "exchange":
                key = f"{sample.name} {sample.labels['outcome']}"
                told[key] = told.get(key, 0) + sample.value
    return told


def start_monitor(site: Site) -> Child:
    return Child.python(
        "subtokens.workers.cli",
        *("monitor", "--port", "0"),
        environment=site.whole_environment,
        log=site.log_of("monitor"),
    )


@pytest.mark.faults  # it waits until nobody swept for a while
def test_a_monitor_sees_renewals_rise_and_says_so_when_nobody_sweeps_any_more(
    new_site: Callable[..., Site],
) -> None:
    with Upstream(accounts=30, lifetime_seconds=5) as upstream:
        site = new_site(upstream.base_url)
        with start_monitor(site) as monitor:
            found = eventually(
                lambda: re.search(r"http://[\d.:]+", monitor.said()), told=monitor.said
            )
            url = found.group()
            status, why = fetch(f"{url}/readyz")
            assert (status, "no sweep yet" in why) == (503, True)

            worker, beat = site.worker("worker"), site.celery("beat", "beat")
            await_ready(worker)
            site.enrol(ACCOUNTS)
            eventually(lambda: figures(url)["subtokens_exchanges_total ok"] == 30)
            eventually(lambda: fetch(f"{url}/readyz") == (200, "ready\n"))
            eventually(lambda: figures(url)["subtokens_renewals_total ok"] >= 60, told=worker.said)
            seen = figures(url)
            assert seen["subtokens_uncovered_account_seconds_total"] == 0
            assert seen["subtokens_lapses_total"] == 0
            assert seen["subtokens_renewals_total failed"] == 0
            assert seen["subtokens_beats_alive"] == 1
            assert seen["subtokens_workers_alive"] >= 1
            assert seen["subtokens_up"] == 1

            beat.kill()
            worker.terminate()  # its two processes write what they have counted
            eventually(lambda: not worker.is_alive, told=worker.said)
            counted, calls = figures(url), upstream.stats()["calls"]
            assert counted["subtokens_calls_total ok"] == calls["exchange"]
            assert counted["subtokens_call_seconds_count ok"] == calls["exchange"]
            eventually(lambda: fetch(f"{url}/readyz")[0] == 503)
            _, why = fetch(f"{url}/readyz")
            assert re.fullmatch(rf"{PARTNER}: no sweep for 1\d s; do beat and a worker .*\n", why)
            assert fetch(f"{url}/healthz")[0] == 200
            # What was issued has ended meanwhile, and nobody renews.
            eventually(lambda: figures(url)["subtokens_uncovered_account_seconds_total"] > 0)
            _, told = fetch(f"{url}/status.json")
            assert json.loads(told)["partners"][0]["status"]["expired"] == 30

            site.server.kill()
            eventually(lambda: fetch(f"{url}/metrics")[1].count("subtokens_up{") == 1)
            eventually(lambda: figures(url) == {"subtokens_up": 0})
            assert "Redis cannot be reached" in fetch(f"{url}/readyz")[1]

            os.kill(monitor.pid, signal.SIGTERM)
            eventually(lambda: not monitor.is_alive)
            assert monitor.exit_code == 0
        said = monitor.said() + told
        assert "Traceback" not in said
        assert "CANARY" not in said


def test_a_port_that_is_taken_and_a_missing_extra_are_told_with_their_remedy(
    new_site: Callable[..., Site],
) -> None:
    site = new_site("http://127.0.0.1:1/v1")
    with start_monitor(site) as monitor:
        found = eventually(lambda: re.search(r"http://[\d.]+:(\d+)", monitor.said()))
        taken = site.cli("monitor", "--port", found.group(1))
    assert taken.code == 2
    assert "Address already in use; name another by --port" in taken.err

    (site.folder / "prometheus_client.py").write_text(
        "raise ModuleNotFoundError('no such thing', name='prometheus_client')\n"
    )
    missing = site.cli("monitor", "--port", "0")
    assert missing.code == 2
    assert "pip install 'subtokens[cli,metrics]'" in missing.err
