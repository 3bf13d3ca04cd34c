"""The page of metrics, read with Prometheus' own parser."""

from __future__ import annotations

import http.client
from typing import Any

import pytest
from message_examples import WINDOW
from prometheus_client.parser import text_string_to_metric_families
from standings import MODEL, STANDING

from edge_agent.errors import ListenRefused
from edge_agent.telemetry.exposition import CONTENT_TYPE, render
from edge_agent.telemetry.metrics_api import metrics_listener, metrics_route
from edge_agent.telemetry.standing import Standing
from edge_agent.telemetry.tally import MOST_BUNDLES, Tally
from edge_contracts.messages import Event
from edge_contracts.sketch import QuantileSketch, bin_index


def tally(*windows: Any) -> Tally:
    counted = Tally()
    for window in windows:
        counted.take(window)
    return counted


def families(standing: Standing, counted: Tally) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(render(standing, counted))}


def values(family: Any) -> dict[tuple[str, ...], float]:
    return {(sample.name, *sample.labels.values()): sample.value for sample in family.samples}


def test_prometheus_reads_every_line() -> None:
    found = families(STANDING, tally(WINDOW, Event(name="started", time_ms=1)))
    assert all(
        family.documentation and family.type in ("gauge", "counter", "histogram") for family in found.values()
    )
    (info,) = found["edgefleet_model_info"].samples
    assert info.labels["runtime"] == MODEL.runtime, "quotes, backslashes and line ends survive"
    assert values(found["edgefleet_healthy"]) == {("edgefleet_healthy",): 1}
    assert values(found["edgefleet_temperature_celsius"]) == {("edgefleet_temperature_celsius",): 41.5}
    assert values(found["edgefleet_drifting"]) == {("edgefleet_drifting", "data-drift"): 1}
    heard = values(found["edgefleet_server_heard_timestamp_seconds"])
    assert heard == {("edgefleet_server_heard_timestamp_seconds",): 1.7}


def test_counters_grow_over_windows_by_bundle_and_reason() -> None:
    other = WINDOW.model_copy(update={"bundle": "sha256:" + "cd" * 32})
    found = families(STANDING, tally(WINDOW, other, WINDOW))
    assert values(found["edgefleet_inferences"]) == {
        ("edgefleet_inferences_total", "ab" * 6): 6,
        ("edgefleet_inferences_total", "cd" * 6): 3,
    }
    assert values(found["edgefleet_errors"])[("edgefleet_errors_total", "ab" * 6, "runtime")] == 2
    assert values(found["edgefleet_refused"])[("edgefleet_refused_total", "ab" * 6, "shape")] == 4


def test_the_histogram_of_latencies_is_cumulative_and_ends_with_all() -> None:
    latencies = [0.05, 0.3, 3.0, 3.0, 40.0, 20_000.0]
    bins: dict[int, int] = {}
    for latency_ms in latencies:
        bins[bin_index(latency_ms)] = bins.get(bin_index(latency_ms), 0) + 1
    window = WINDOW.model_copy(update={"latency_ms": QuantileSketch(bins=bins)})
    found = families(STANDING, tally(window))["edgefleet_inference_seconds"]
    buckets = {s.labels["le"]: s.value for s in found.samples if s.name.endswith("_bucket")}
    assert buckets["0.0001"] == 1
    assert buckets["0.0005"] == 2
    assert buckets["0.005"] == 4
    assert buckets["10.0"] == 5
    assert buckets["+Inf"] == 6
    assert list(buckets.values()) == sorted(buckets.values())
    (total,) = [s.value for s in found.samples if s.name.endswith("_sum")]
    assert total == pytest.approx(sum(latencies) / 1000, rel=0.02)


def test_many_models_do_not_make_series_without_end() -> None:
    windows = [WINDOW.model_copy(update={"bundle": f"sha256:{n:02x}" + "0" * 62}) for n in range(20)]
    assert len(tally(*windows).bundles) == MOST_BUNDLES


def test_a_device_without_a_model_is_not_healthy() -> None:
    found = families(Standing(time_ms=1, started_ms=1, agent="0.1.0"), Tally())
    assert values(found["edgefleet_healthy"]) == {("edgefleet_healthy",): 0}
    assert "edgefleet_model_info" not in found


@pytest.mark.parametrize("text", ["0.0.0.0:0", "example.org:0", "9105", "127.0.0.1:x", "127.0.0.1:99999"])
def test_an_address_that_is_not_this_machines_alone_is_refused(text: str) -> None:
    with pytest.raises(ListenRefused, match=r"127\.0\.0\.1"):
        metrics_listener(text, str)


def test_the_listener_answers_metrics_and_gives_its_port_back() -> None:
    listener = metrics_listener("127.0.0.1:0", lambda: "edgefleet_trial 0\n")
    listener.start()
    port = int(str(listener.address).strip("()").split(",")[1])
    with pytest.raises(ListenRefused, match="in use"):
        metrics_listener(f"127.0.0.1:{port}", str)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"edgefleet_trial 0\n")
    assert answer.headers["Content-Type"] == CONTENT_TYPE
    for method, path, status in (("GET", "/nothing", 404), ("POST", "/metrics", 405)):
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()
    listener.stop()
    metrics_listener(f"127.0.0.1:{port}", str).stop()


def test_beside_the_inference_api_metrics_need_the_token() -> None:
    assert not metrics_route(str).open
