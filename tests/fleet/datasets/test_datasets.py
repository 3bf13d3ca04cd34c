"""From a device's review ring to a data set that edge-convert reads, with the lineage of every sample."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cbor2
import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fleet_device import FleetDevice, enrol, eventually
from fleet_rows import FleetRows, digest
from fleet_server import Running
from sqlalchemy import update
from webhook_receiver import receiver

from edge_agent.doubt.outbound import Outbound, Sender, sealed
from edge_agent.doubt.ring import Bounds, Head, ReviewRing
from edge_agent.doubt.settings import ReviewSettings
from edge_contracts import cose
from edge_contracts.arrays import read_npz, write_npz
from edge_contracts.digest import digest_of
from edge_contracts.keys import PrivateKey
from edge_convert.data import InputPort, read_samples
from edge_fleet import schema
from edge_fleet.alerts.machine import Phase
from edge_fleet.alerts.rows import load_open
from edge_fleet.alerts.watch import Watch
from edge_fleet.api import datasets
from edge_fleet.datasets import rows
from edge_fleet.datasets.cli import dataset as command
from edge_fleet.datasets.export import Sample, arrays
from edge_fleet.errors import RequestInvalid

BUNDLE = digest("1", "x86-cpu")
INPUTS = np.random.default_rng(3).normal(0, 1, (3, 1, 6)).astype(np.float32)


@dataclass(frozen=True)
class Kept:
    """A device with three kept inputs, the second of which has a label."""

    device: FleetDevice
    ring: ReviewRing
    sender: Sender


def keep(ring: ReviewRing, place: int, label: int | None = None, bundle: str = BUNDLE) -> None:
    head = Head(
        request=f"r{place}",
        time_ms=1000 + place,
        bundle=bundle,
        artifact="int8",
        reason="uncertain",
        confidence=0.4,
        answer=place,
        label=label,
    )
    assert ring.keep(head, {"x": INPUTS[place]}, Bounds(1 << 20, 100))


@pytest.fixture(scope="module")
def published(fleet: Running) -> FleetRows:
    built = FleetRows(fleet.server.store, fleet.server.now_ms)
    built.publish("1", "x86-cpu")
    return built


@pytest.fixture
def kept(fleet: Running, published: FleetRows, tmp_path: Path) -> Kept:
    """What the agent's own code sends to the server's address."""
    device = enrol(fleet.http, fleet.token())
    ring = ReviewRing(tmp_path / "review", tmp_path / "review.key")
    for place in range(3):
        keep(ring, place, label=7 if place == 1 else None)
    sender = Sender("f", device.id, device.key)
    settings = ReviewSettings(upload_to=f"{fleet.url}/api/v1/review", bytes_per_day=1 << 20)
    assert Outbound(ring, tmp_path / "sent.json", settings, sender, lambda: 0.0).send_waiting() == 3
    return Kept(device, ring, sender)


def run(fleet: Running, *words: str, code: int = 0) -> str:
    token = fleet.token("operator")
    found = CliRunner().invoke(command, [*words, "--server", fleet.url, "--token", token])
    assert found.exit_code == code, found.output + repr(found.exception)
    return found.output


def samples_of(fleet: Running, device: str) -> list[dict[str, object]]:
    listed = json.loads(run(fleet, "list", "--json"))
    return sorted((s for s in listed if s["device"] == device), key=lambda s: int(s["number"]))


def test_edge_convert_reads_what_devices_kept_and_people_labelled(
    fleet: Running, kept: Kept, tmp_path: Path
) -> None:
    first, second, third = samples_of(fleet, kept.device.id)
    assert (second["label"], second["labelled_by"], first["label"]) == (7, "device", None)
    run(fleet, "label", str(first["id"]), "3")
    run(fleet, "label", str(second["id"]), "2")
    file = tmp_path / "samples.npz"
    run(fleet, "export", "--of", BUNDLE, "--output", str(file))
    read = read_samples(file, [InputPort("x", (1, 6), "float32")])
    found = read_npz(file)
    mine = found["device"] == kept.device.id
    np.testing.assert_array_equal(read.feeds["x"][mine], INPUTS[:2, 0])
    assert read.labels is not None
    assert list(read.labels[mine]) == [3, 2], "what a person said later counts"
    envelopes = [digest_of(sealed(kept.ring, number, kept.sender)) for number in (0, 1)]
    assert list(found["envelope"][mine]) == envelopes, "what the device signed, by its digest"
    assert set(found["bundle"]) == {BUNDLE} and list(found["number"][mine]) == [0, 1]
    assert third["label"] is None
    run(fleet, "export", "--of", BUNDLE, "--all", "--output", str(file))
    calibration = read_samples(file, [InputPort("x", (1, 6), "float32")])
    assert calibration.labels is None and len(calibration.feeds["x"]) >= 3


def test_parquet_has_a_row_for_each_sample(fleet: Running, kept: Kept, tmp_path: Path) -> None:
    file = tmp_path / "samples.parquet"
    run(fleet, "export", "--all", "--of", BUNDLE, "--output", str(file))
    table = pq.read_table(file)
    mine = [row for row in table.to_pylist() if row["device"] == kept.device.id]
    np.testing.assert_allclose([row["x"] for row in mine], INPUTS[:, 0])
    assert table.schema.metadata[b"shape:x"] == b"6"
    assert [row["time_ms"] for row in mine] == [1000, 1001, 1002]


def post(fleet: Running, envelope: bytes) -> httpx.Response:
    return fleet.http.post("/api/v1/review", content=envelope)


def forged(kept: Kept, **changes: object) -> bytes:
    """The first kept input with parts of its payload replaced, signed by its device."""
    payload = cbor2.loads(cose.parse(sealed(kept.ring, 0, kept.sender)).payload) | changes
    return cose.sign(cbor2.dumps(payload), kept.sender.context, kept.sender.key)


def test_only_what_an_enrolled_device_has_signed_is_kept(fleet: Running, kept: Kept) -> None:
    envelope = sealed(kept.ring, 0, kept.sender)
    before = len(samples_of(fleet, kept.device.id))
    assert post(fleet, envelope).status_code == 204, "again, and nothing changes"
    stranger = Sender("f", kept.device.id, PrivateKey.generate())
    assert post(fleet, sealed(kept.ring, 0, stranger)).status_code == 400
    assert post(fleet, sealed(kept.ring, 0, Sender("g", kept.device.id, kept.device.key))).status_code == 400
    assert post(fleet, sealed(kept.ring, 0, Sender("f", "nobody", kept.device.key))).status_code == 401
    assert post(fleet, envelope[:-1] + bytes([envelope[-1] ^ 1])).status_code == 400
    assert post(fleet, b"no envelope").status_code == 400
    assert len(samples_of(fleet, kept.device.id)) == before


@pytest.mark.parametrize(
    "inputs",
    [
        b"no npz",
        write_npz({"x": np.zeros((2, 6), np.float32)}),
        write_npz({"x": np.full((1, 6), np.nan, np.float32)}),
        write_npz({"x": np.array(["text"])}),
    ],
)
def test_inputs_that_are_not_one_sample_of_numbers_are_refused(
    fleet: Running, kept: Kept, inputs: bytes
) -> None:
    assert post(fleet, forged(kept, inputs=inputs)).status_code == 400
    assert post(fleet, forged(kept, number=77)).status_code == 204, "and the same without the fault is taken"


def test_a_label_must_be_a_class() -> None:
    assert rows.class_of(("cat", "dog"), 2, "dog") == (1, "dog")
    assert rows.class_of(("cat", "dog"), 2, "0") == (0, "cat")
    assert rows.class_of((), None, "12") == (12, "")
    assert rows.class_of((), 13, "12") == (12, "")
    named, unnamed = ((("cat", "dog"), 2, "2"), (("cat",), 1, "cow")), (((), None, "cow"), ((), None, "-1"))
    for labels, count, wanted in (*named, *unnamed, ((), 12, "12")):
        with pytest.raises(RequestInvalid, match="is no class of this model"):
            rows.class_of(labels, count, wanted)


def test_the_classes_of_a_model_without_names_are_counted(fleet: Running, kept: Kept) -> None:
    """A slip of the hand would spoil the whole export: edge-convert takes no class that the model lacks."""
    with fleet.server.store.read() as connection:
        names, count = rows.classes_of(connection, BUNDLE)
    assert count is not None and len(names) in (0, count)
    first = samples_of(fleet, kept.device.id)[0]
    run(fleet, "label", str(first["id"]), str(count), code=1)
    run(fleet, "label", str(first["id"]), str(count - 1))


def test_an_export_that_does_not_fit_one_file_says_where_the_older_ones_are(
    fleet: Running, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MAX_EXPORT_BYTES", 2 * INPUTS[0].nbytes)
    file = tmp_path / "samples.npz"
    found: list[int] = []
    told, seen = "", 0
    while not seen or "--before" in told:
        words = ["--before", told.split()[-1]] if seen else []
        told = run(fleet, "export", "--all", "--of", BUNDLE, "--output", str(file), *words)
        read = read_npz(file)
        assert 1 <= len(read["x"]) <= 2
        found, seen = [*map(int, read["id"]), *found], seen + 1
    listed = [s["id"] for s in json.loads(run(fleet, "list", "--of", BUNDLE, "--json"))]
    assert found == sorted(listed), "each once, and by the numbers that `label` takes"


def test_what_a_person_labelled_outlives_what_the_device_labels_itself(
    fleet: Running, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = samples_of(fleet, kept.device.id)[0]
    run(fleet, "label", str(first["id"]), "1")
    monkeypatch.setattr(rows, "PER_DEVICE", 2)
    about = cbor2.loads(cose.parse(sealed(kept.ring, 1, kept.sender)).payload)["about"]
    for number in (60, 61, 62):
        assert post(fleet, forged(kept, number=number, about=about)).status_code == 204
    assert [s["number"] for s in samples_of(fleet, kept.device.id)] == [0, 62]


def test_samples_of_several_forms_are_not_mixed() -> None:
    lineage = (9, "d", "b", "a", "e", 1, 2, "r", 0, "")
    one = Sample({"x": np.zeros((1, 4), np.float32)}, 1, lineage)
    other = Sample({"x": np.zeros((1, 5), np.float32)}, 1, lineage)
    assert set(arrays([one, one])) >= {"x", "y", "device", "envelope"}
    with pytest.raises(RequestInvalid, match="several forms"):
        arrays([one, other])
    with pytest.raises(RequestInvalid, match="no kept inputs match"):
        arrays([])
    two = Sample({"x": np.zeros((1, 4), np.float32), "number": np.zeros((1, 1), np.float32)}, 1, lineage)
    with pytest.raises(RequestInvalid, match="an input of this model is called 'number'"):
        arrays([two])


def test_reading_is_not_enough_for_what_may_show_people(fleet: Running) -> None:
    with fleet.as_role("viewer") as viewer:
        assert viewer.get("/api/v1/datasets/samples").status_code == 200
        assert viewer.get("/api/v1/datasets/export").status_code == 403


def test_a_device_keeps_a_bounded_number_and_labelled_ones_longest(
    fleet: Running, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PER_DEVICE", 2)
    assert post(fleet, forged(kept, number=50)).status_code == 204
    assert [s["number"] for s in samples_of(fleet, kept.device.id)] == [1, 50]


def test_drift_asks_for_a_retraining_with_evidence_and_samples(fleet: Running, kept: Kept) -> None:
    with receiver() as there:
        body = {"url": there.url, "kinds": ["retraining.requested"]}
        made = fleet.admin.post("/api/v1/webhooks", json=body).json()
        fleet_rows = FleetRows(fleet.server.store, fleet.server.now_ms)
        with fleet.server.store.write() as connection:
            own = update(schema.devices).where(schema.devices.c.id == kept.device.id)
            connection.execute(own.values(state={"counter": 0, "active": {"bundle": BUNDLE}, "knows": []}))
        fleet_rows.report(kept.device.id, BUNDLE, drifting=["data-drift"])
        fleet.admin.post("/api/v1/alert-rules/drift", json={"pending_s": 0})
        Watch(fleet.server, lambda: True).round(fleet.server.now_ms())
        _, raw = eventually(lambda: there.got and there.got[0], "the webhook")
        told = json.loads(raw)["data"]
        assert (told["bundle"], told["evidence"]["rule"]) == (BUNDLE, "drift")
        assert kept.device.id in told["evidence"]["evidence"]["devices"]
        assert told["samples"]["kept"] >= 3 and told["samples"]["labelled"] >= 1
        answer = fleet.admin.get(told["samples"]["export"])
        assert answer.status_code == 200 and "y" in read_npz(answer.content)
        with fleet.server.store.read() as connection:
            assert [a.phase for a in load_open(connection) if a.rule == "drift"] == [Phase.FIRING]
        run(fleet, "retrain", BUNDLE, "--why", "by hand")
        eventually(lambda: len(there.got) == 2, "the second, by hand")
        fleet.admin.post(f"/api/v1/webhooks/{made['id']}/remove")
