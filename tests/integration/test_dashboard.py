"""config/grafana-dashboard.json asks for nothing that the monitor does not tell."""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from subtokens.workers.monitor import Fleets, serving

from .test_monitor import fetch

DASHBOARD = json.loads((Path(__file__).parents[2] / "config/grafana-dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [target for panel in PANELS for target in panel["targets"]]


async def labels_told(fleet):
    """The sample names of a scrape, each with its labels."""
    async with serving(Fleets([fleet]), "127.0.0.1", 0) as url:
        _, _, text = await fetch(url, "/metrics")
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_every_metric_and_label_of_the_dashboard_exists(fleet_of):
    told = await labels_told(fleet_of(112))
    asked = set()
    for target in TARGETS:
        selected = re.findall(r"(subtokens_\w+)\{([^}]*)\}", target["expr"])
        assert selected
        assert len(selected) == target["expr"].count("subtokens_"), "one selects every partner"
        known = set()
        for metric, matchers in selected:
            assert set(re.findall(r"(\w+)=", matchers)) <= told[metric]
            assert 'partner=~"$partner"' in matchers
            known |= told[metric]
            asked.add(metric)
        for grouped in re.findall(r"by \(([^)]*)\)", target["expr"]):
            assert set(grouped.split(", ")) <= known
        kept = set(re.findall(r"by \(([^)]*)\)", target["expr"])[-1:]) or known
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert shown <= {label for labels in kept for label in labels.split(", ")}
    untold = {re.sub(r"_(bucket|count|sum)$", "", name) for name in set(told) - asked}
    of_asked = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}
    assert untold - of_asked == {"subtokens_forecast_known"}


def test_the_dashboard_is_laid_out_in_four_groups_and_asks_the_chosen_source():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Coverage", "Renewal", "Calls", "The partner's state"]
    assert {panel["datasource"]["uid"] for panel in [*PANELS, *TARGETS]} == {"${datasource}"}
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "partner"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_above, (one, other)


def test_prometheus_understands_what_the_dashboard_asks(tmp_path):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("no promtool on PATH; it comes with Prometheus")
    filled = [re.sub(r"\$__(rate_interval|range)", "5m", one["expr"]) for one in TARGETS]
    rules = [{"record": f"asked:{n}", "expr": expr} for n, expr in enumerate(filled)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
