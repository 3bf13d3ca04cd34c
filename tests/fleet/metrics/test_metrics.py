"""Metrics as Prometheus reads them; the rules and the dashboard name only what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet_rows import FleetRows, digest
from fleet_server import Running
from prometheus_client.parser import text_string_to_metric_families

from edge_fleet.alerts.forgeries import BAD_SIGNATURES, FORKS
from edge_fleet.alerts.watch import Watch
from edge_fleet.metrics.exposition import Family, Sample, one, text
from edge_fleet.storage.rollups import roll_up

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "edgefleet.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "edgefleet.json"
METRIC = re.compile(r"\bedgefleet[_:][a-z_:0-9]+")


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    built = FleetRows(fleet.server.store, fleet.server.now_ms)
    built.publish("1")
    built.enrol(*(f"d{n}" for n in range(40)))
    for n in range(40):
        built.report(f"d{n}", digest("1"), inferences=100, errors=1)
    return built


def scrape(fleet: Running) -> tuple[str, dict[str, list[Any]]]:
    """The text, and the samples by metric."""
    answer = fleet.admin.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith(
        "text/plain; version=0.0.4"
    )
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return answer.text, found


def named(fleet: Running) -> set[str]:
    """Every metric that a scrape declares, with samples or without, and what the rules record."""
    declared = set(re.findall(r"^# TYPE (\S+)", scrape(fleet)[0], re.M))
    recorded = {
        r["record"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for r in group["rules"]
        if "record" in r
    }
    return declared | recorded


def test_the_fleet_is_counted(fleet: Running, rows: FleetRows) -> None:
    roll_all(fleet)
    found = scrape(fleet)[1]
    states = {s.labels["state"]: s.value for s in found["edgefleet_devices"]}
    assert states["seen"] == 40 and states["silent"] == 0
    [inferences] = found["edgefleet_model_inferences_total"]
    assert inferences.value == 4000 and inferences.labels["release"] == "digits@1"
    assert found["edgefleet_model_errors_total"][0].value == 40
    latency = {s.labels["q"]: s.value for s in found["edgefleet_model_latency_seconds"]}
    assert latency["0.5"] == pytest.approx(0.005, rel=0.05)
    assert found["edgefleet_broker_up"][0].value == 1


def roll_all(fleet: Running) -> None:
    with fleet.server.store.write() as connection:
        while roll_up(connection):
            pass


def test_no_device_is_a_series(fleet: Running, rows: FleetRows) -> None:
    for seconds in (0, 1000):
        Watch(fleet.server, lambda: True).round(fleet.server.now_ms() + 1000 * seconds)
    roll_all(fleet)
    told, found = scrape(fleet)
    assert not re.search(r'="d\d+"', told)
    assert sum(map(len, found.values())) < 60, "whatever the number of devices"


def test_the_first_forgery_is_an_increase_for_prometheus(fleet: Running) -> None:
    """A counter that is first seen at 1 has not increased."""
    [asked] = [e for e in expressions(yaml.safe_load(RULES.read_text())) if "edgefleet_refused_total" in e]
    reasons = re.findall(r'reason=~"([^"]+)"', asked)[0].split("|")
    assert set(reasons) == {*BAD_SIGNATURES, *FORKS}, "the rule asks for what our own alerts are about"
    found = {s.labels["reason"]: s.value for s in scrape(fleet)[1]["edgefleet_refused_total"]}
    assert {reason: found[reason] for reason in reasons} == dict.fromkeys(reasons, 0)


def test_strangers_get_no_metrics(fleet: Running) -> None:
    assert fleet.http.get("/metrics").status_code == 401
    with fleet.as_role("viewer") as viewer:
        assert viewer.get("/metrics").status_code == 200


def test_labels_are_escaped_so_that_prometheus_reads_them_back() -> None:
    odd = 'a"b\\c\nd'
    [family] = text_string_to_metric_families(
        text([Family("x", "gauge", "of\nx", (Sample(1.5, {"l": odd}),))])
    )
    [sample] = family.samples
    assert (sample.value, sample.labels["l"]) == (1.5, odd)
    assert text([one("y_total", "counter", "y", 3)]).endswith("y_total 3\n")


def expressions(document: Any) -> list[str]:
    """Every `expr` of a document."""
    if isinstance(document, dict):
        own = [document["expr"]] if "expr" in document else []
        return own + [e for value in document.values() for e in expressions(value)]
    return [e for value in document for e in expressions(value)] if isinstance(document, list) else []


def test_the_dashboard_and_the_rules_ask_for_metrics_that_exist(fleet: Running, rows: FleetRows) -> None:
    there = named(fleet)
    for asked in (
        expressions(json.loads(DASHBOARD.read_text())),
        expressions(yaml.safe_load(RULES.read_text())),
    ):
        wanted = {name for expression in asked for name in METRIC.findall(expression)}
        assert len(wanted) > 5 and wanted <= there, wanted - there
    assert {"edgefleet_cows"} - there, "and a metric that is not there would be noticed"


def test_every_metric_is_somewhere_on_the_dashboard_or_in_a_rule(fleet: Running) -> None:
    asked = DASHBOARD.read_text() + RULES.read_text()
    declared = set(re.findall(r"^# TYPE (\S+)", scrape(fleet)[0], re.M))
    assert {name for name in declared if name not in asked} <= {"edgefleet_model_refused_total"}


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def promtool(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    return subprocess.run([program, *words], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_promtool_reads_the_metrics_and_the_rules(fleet: Running, rows: FleetRows, tmp_path: Path) -> None:
    checked = promtool("check", "rules", str(RULES), cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    program = shutil.which("promtool")
    assert program is not None
    linted = subprocess.run(
        [program, "check", "metrics"], input=scrape(fleet)[0], capture_output=True, text=True, timeout=60
    )
    assert (linted.returncode, linted.stderr) == (0, "")


def test_the_rules_fire_when_they_should_and_not_else(tmp_path: Path) -> None:
    for name in ("edgefleet.rules.yml", "edgefleet.rules.test.yml"):
        shutil.copy(RULES.parent / name, tmp_path)
    passed = promtool("test", "rules", "edgefleet.rules.test.yml", cwd=tmp_path)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    spoilt = (
        (tmp_path / "edgefleet.rules.yml")
        .read_text()
        .replace("edgefleet_broker_up == 0", "edgefleet_broker_up == 2")
    )
    (tmp_path / "edgefleet.rules.yml").write_text(spoilt)
    assert promtool("test", "rules", "edgefleet.rules.test.yml", cwd=tmp_path).returncode != 0
