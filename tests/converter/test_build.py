"""Whole builds of a real classifier: source, candidates, gates, bundle."""

from __future__ import annotations

import base64
import json
import os
import platform
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from digit_models import classifier, parts, write_data
from onnx_models import Network, rng, saved

from edge_contracts.arrays import read_npz
from edge_contracts.bundle import Bundle, open_bundle
from edge_contracts.digest import digest_of_file
from edge_contracts.errors import KeyInvalid, ProfileUnknown
from edge_contracts.features import features
from edge_contracts.keys import PrivateKey, TrustedKeys, write_private
from edge_contracts.manifest import Material
from edge_contracts.signing import verify
from edge_convert import importers
from edge_convert.api import convert
from edge_convert.binding import decode, encode
from edge_convert.build import BuildOptions, build
from edge_convert.emitters import tflite
from edge_convert.engine import open_artifact, run
from edge_convert.errors import DataInvalid, DistillationRefused, SourceInvalid, UnsupportedOperator
from edge_convert.fixed_inputs import FixedInputs
from edge_convert.gates import Limits
from edge_convert.graph import Graph, constant
from edge_convert.results import BuildResult, TrialState
from edge_convert.source import read_source

UNTIMED = Limits(latency="off")  # timed work is never a test


@dataclass(frozen=True)
class Bench:
    folder: Path
    key: PrivateKey
    options: BuildOptions

    def build(self, **changes: Any) -> BuildResult:
        return build(replace(self.options, **changes), lambda text: None)

    def report(self, output: Path | None = None) -> dict[str, Any]:
        text = ((output or self.options.output) / "report.json").read_text(encoding="utf-8")
        return dict(json.loads(text))


def bench(folder: Path) -> Bench:
    key = PrivateKey.generate()
    write_private(key, folder / "private.pem")
    (folder / "labels.txt").write_text("".join(f"digit {i}\n" for i in range(10)), encoding="utf-8")
    options = BuildOptions(
        model=classifier(folder / "digits.onnx"),
        profiles=["arm-cpu"],
        name="digits",
        version="1",
        calibration=write_data(folder / "calibration.npz", "calibration", labels=False),
        evaluation=write_data(folder / "evaluation.npz", "evaluation"),
        labels=folder / "labels.txt",
        sign_key=folder / "private.pem",
        output=folder / "out",
        limits=UNTIMED,
        prune="none",
    )
    return Bench(folder, key, options)


@pytest.fixture
def digits(tmp_path: Path) -> Bench:
    return bench(tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, BuildResult]:
    made = bench(tmp_path_factory.mktemp("built"))
    return made, made.build(profiles=["arm-cpu", "coral-usb", "intel-npu", "x86-cpu"], prune="auto")


def opened(built: tuple[Bench, BuildResult], profile: str) -> Bundle:
    made, _ = built
    return open_bundle(made.options.output / f"digits-1-{profile}.bundle")


PROFILES = ["arm-cpu", "coral-usb", "intel-npu", "x86-cpu"]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_family_gets_a_bundle_that_its_publisher_signed(
    built: tuple[Bench, BuildResult], profile: str
) -> None:
    made, result = built
    bundle = opened(built, profile)
    verified = verify(bundle, TrustedKeys.of([made.key.public]))
    assert result.passed
    assert verified.manifest.profile == profile
    assert verified.manifest.task == "classification"
    assert verified.manifest.labels[3] == "digit 3"
    assert [a.precision for a in verified.manifest.artifacts] == ["int8"]
    outcome = next(o for o in result.outcomes if o.profile == profile)
    assert outcome.bundle_digest == verified.digest


@pytest.mark.parametrize("profile", PROFILES)
def test_the_contract_and_the_bindings_alone_are_enough_to_answer_right(
    built: tuple[Bench, BuildResult], profile: str
) -> None:
    """What the agent does: no graph, no quantization, only the manifest and the files."""
    bundle = opened(built, profile)
    manifest = bundle.manifest
    (artifact,) = manifest.artifacts
    engine = open_artifact({f.path: bundle.contents[f.path] for f in artifact.files}, artifact.format)
    x, y = parts()["evaluation"]
    (spec,), (into,), (out,) = manifest.inputs, artifact.inputs, artifact.outputs
    assert (spec.name, spec.shape, spec.layout) == ("pixels", (1, 1, 8, 8), "NCHW")
    scores = decode(out, run(engine, {into.tensor: encode(into, x)})[out.tensor])
    accuracy = (scores.argmax(axis=1) == y).mean()
    assert accuracy == pytest.approx(manifest.evaluation[artifact.id].artifact)
    assert accuracy > 0.93


@pytest.mark.parametrize("profile", PROFILES)
def test_golden_inputs_are_calibration_samples_with_the_artifacts_answers(
    built: tuple[Bench, BuildResult], profile: str
) -> None:
    bundle = opened(built, profile)
    (artifact,) = bundle.manifest.artifacts
    golden = read_npz(bundle.contents["golden.npz"])
    inputs, expected = golden["input/pixels"], golden[f"expected/{artifact.id}/scores"]
    assert len(inputs) == bundle.manifest.golden.count == 16
    assert set(expected.argmax(axis=1)) == set(range(10))
    calibration = parts()["calibration"][0]
    assert all((calibration == sample).all(axis=(1, 2, 3)).any() for sample in inputs)
    engine = open_artifact({f.path: bundle.contents[f.path] for f in artifact.files}, artifact.format)
    (into,), (out,) = artifact.inputs, artifact.outputs
    again = decode(out, run(engine, {into.tensor: encode(into, inputs)})[out.tensor])
    np.testing.assert_array_equal(again, expected)


def test_the_baseline_counts_every_calibration_sample_as_the_device_would(
    built: tuple[Bench, BuildResult],
) -> None:
    bundle = opened(built, "arm-cpu")
    x = parts()["calibration"][0]
    scalars = {scalar.name: scalar for scalar in bundle.manifest.baseline.scalars}
    assert set(scalars) == {
        "input:pixels:mean",
        "input:pixels:std",
        "output:scores:class",
        "output:scores:confidence",
    }
    means = features({"pixels": x}, {}, "classification")["input:pixels:mean"]
    counted = [0] * len(scalars["input:pixels:mean"].counts)
    for value in means:
        counted[scalars["input:pixels:mean"].bin_of(float(value))] += 1
    assert tuple(counted) == scalars["input:pixels:mean"].counts
    assert sum(scalars["output:scores:class"].counts) == len(x)


def test_provenance_names_everything_by_digest(built: tuple[Bench, BuildResult]) -> None:
    made, result = built
    origin = opened(built, "arm-cpu").manifest.provenance
    assert origin.source_digest == digest_of_file(made.options.model)
    assert origin.calibration == digest_of_file(made.options.calibration)
    assert made.options.evaluation is not None
    assert origin.evaluation == digest_of_file(made.options.evaluation)
    assert origin.recipe.startswith("wi8")
    (chosen,) = [t for t in result.outcomes[0].trials if t.state is TrialState.CHOSEN]
    assert origin.pruning == chosen.pruning
    assert {"numpy", "onnx", "ai-edge-litert"} <= set(origin.tools)


def test_what_was_not_compiled_says_so(built: tuple[Bench, BuildResult]) -> None:
    for profile, word in (("coral-usb", "edgetpu_compiler"), ("intel-npu", "NPU compiler")):
        (artifact,) = opened(built, profile).manifest.artifacts
        assert artifact.compiled_for == ""
        assert word in artifact.not_compiled
    assert opened(built, "coral-usb").manifest.artifacts[0].runtimes == ("edgetpu", "litert")
    assert opened(built, "arm-cpu").manifest.artifacts[0].not_compiled == ""


def test_two_builds_give_the_same_bytes(digits: Bench, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    model = moved / "digits.onnx"
    model.write_bytes(digits.options.model.read_bytes())
    first = digits.build(profiles=["arm-cpu", "intel-npu"])
    second = digits.build(profiles=["intel-npu", "arm-cpu"], model=model, output=moved / "out")
    alone = digits.build(output=moved / "alone")
    assert first.passed
    assert second.passed
    assert alone.passed
    name = "digits-1-arm-cpu.bundle"
    assert (moved / "alone" / name).read_bytes() == (moved / "out" / name).read_bytes()
    for profile in ("arm-cpu", "intel-npu"):
        name = f"digits-1-{profile}.bundle"
        assert (digits.options.output / name).read_bytes() == (moved / "out" / name).read_bytes()


def test_a_build_from_python_fixes_open_sizes_and_constant_inputs(tmp_path: Path) -> None:
    net = Network({"x": ["n", 3, "width"], "gain": [1]})
    y = net.node("Mul", net.node("Tanh", "x"), "gain")
    path = saved(
        net.model(net.node("MatMul", y, net.weight(rng().standard_normal((5, 4)).astype(np.float32)))),
        tmp_path,
    )
    write_private(PrivateKey.generate(), tmp_path / "private.pem")
    converted = partial(
        convert,
        path,
        profiles=["arm-cpu"],
        name="m",
        version="1",
        calibration=rng().standard_normal((16, 3, 5)).astype(np.float32),
        sign_key=tmp_path / "private.pem",
        output=tmp_path / "out",
        recipe="wi8_ai8_minmax",
        limits=UNTIMED,
    )
    result = converted(input_shapes={"width": 5}, input_values={"gain": 2.5})
    assert result.source["inputs"] == [{"name": "x", "shape": [1, 3, 5], "layout": ""}]
    assert result.source["fixed_values"] == {"gain": [2.5]}
    with pytest.raises(SourceInvalid, match="no input 'y'"):
        converted(input_shapes={"y": [1, 3, 5]})
    with pytest.raises(SourceInvalid, match="expected 1,3,224,224"):
        converted(input_shapes={"width": -5})


def test_the_number_of_threads_changes_no_byte(digits: Bench) -> None:
    program = """
        import sys
        from pathlib import Path
        import numpy
        numpy.ones((512, 512)) @ numpy.ones((512, 512))
        from edge_convert import convert
        from edge_convert.gates import Limits
        folder = Path(sys.argv[1])
        convert(
            folder / "digits.onnx", profiles=["arm-cpu"], name="digits", version="1",
            calibration=folder / "calibration.npz", sign_key=folder / "private.pem",
            output=folder / sys.argv[2], limits=Limits(latency="off"), recipe="wi8_ai8_mse_bc",
        )
    """
    made = []
    for threads in ("1", "4"):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", textwrap.dedent(program), str(digits.folder), threads]
        subprocess.run(command, env=environment, check=True)
        made.append((digits.folder / threads / "digits-1-arm-cpu.bundle").read_bytes())
    assert made[0] == made[1]


def test_float_is_the_fallback_where_int8_cannot_pass(digits: Bench) -> None:
    model = classifier(digits.folder / "spoilt.onnx", spoilt=True)
    result = digits.build(model=model, profiles=["arm-cpu", "coral-usb"])
    arm, coral = result.outcomes
    assert arm.passed
    assert "fallback to float16" in arm.summary
    (artifact,) = open_bundle(digits.options.output / arm.bundle).manifest.artifacts
    assert artifact.precision == "float16"
    assert not coral.passed  # it has nothing but int8
    assert not result.passed
    assert sorted(path.name for path in digits.options.output.iterdir()) == [
        "digits-1-arm-cpu.bundle",
        "report.html",
        "report.json",
    ]
    document = digits.report()
    assert [p["passed"] for p in document["profiles"]] == [True, False]
    layers = document["profiles"][1]["layers"]
    assert "conv" in layers[0]["source"]
    assert layers[0]["sqnr_db"] < 5


def test_one_candidate_is_chosen_and_the_others_are_reported(built: tuple[Bench, BuildResult]) -> None:
    made, result = built
    for outcome, reported in zip(result.outcomes, made.report()["profiles"], strict=True):
        assert [t.state for t in outcome.trials].count(TrialState.CHOSEN) == 1
        assert [p["name"] for p in reported["pareto"]] == [t.name for t in outcome.trials]
        assert {p["precision"] for p in reported["pareto"]} >= {"int8"}
        assert any(p["on_front"] for p in reported["pareto"])
        assert reported["search"]["tried"] == len(outcome.trials)
        assert reported["search"]["ended"] == ""


def test_a_limit_that_nothing_meets_leaves_a_report_and_no_bundle(digits: Bench) -> None:
    result = digits.build(
        limits=replace(UNTIMED, min_agreement=1.0, max_drop=0.0),
        model=classifier(digits.folder / "spoilt.onnx", spoilt=True),
        profiles=["coral-usb"],
    )
    assert not result.passed
    assert not list(digits.options.output.glob("*.bundle"))
    assert digits.report()["profiles"][0]["candidates"][0]["state"] == "failed"


def test_a_bundle_of_an_earlier_build_is_kept_and_said(digits: Bench) -> None:
    digits.build()
    before = (digits.options.output / "digits-1-arm-cpu.bundle").read_bytes()
    (outcome,) = digits.build(
        limits=replace(UNTIMED, min_sqnr_db=0, max_drop=0, min_agreement=1.0),
        model=classifier(digits.folder / "spoilt.onnx", spoilt=True),
        profiles=["coral-tpu"],
        version="2",
    ).outcomes
    assert outcome.notes[0].startswith("what would help: ")
    assert not any("still there" in note for note in outcome.notes)
    (digits.options.output / "digits-2-coral-tpu.bundle").write_bytes(before)
    (outcome,) = digits.build(
        model=digits.folder / "spoilt.onnx", profiles=["coral-tpu"], version="2"
    ).outcomes
    assert outcome.notes[-1] == "digits-2-coral-tpu.bundle is still there, from an earlier build"
    assert (digits.options.output / "digits-2-coral-tpu.bundle").read_bytes() == before


def test_without_evaluation_samples_are_kept_back_and_accuracy_is_absent(digits: Bench) -> None:
    result = digits.build(evaluation=None)
    score = open_bundle(digits.options.output / "digits-1-arm-cpu.bundle").manifest.evaluation["int8"]
    assert (score.samples, score.metric, score.artifact) == (60, "", None)
    assert score.agreement is not None
    assert any("kept back" in note for note in result.notes)


def test_labels_that_do_not_fit_the_pictures_are_found_out(digits: Bench) -> None:
    x, y = parts()["evaluation"]
    np.savez(digits.folder / "mixed.npz", x=x, y=np.random.RandomState(0).permutation(y))
    with pytest.raises(DataInvalid, match=r"guessing would be for 10\.0%"):
        digits.build(evaluation=digits.folder / "mixed.npz")
    assert "guessing" in digits.report()["refusal"]


def test_pictures_in_the_wrong_range_are_found_out_by_the_sources_answers(digits: Bench) -> None:
    x, _ = parts()["calibration"]
    np.savez(digits.folder / "dark.npz", x=x / 1000)
    with pytest.raises(DataInvalid, match=r"gives class \d to all 300 samples"):
        digits.build(calibration=digits.folder / "dark.npz", evaluation=None)


def test_pruning_is_recorded(digits: Bench) -> None:
    digits.build(prune=0.5, limits=replace(UNTIMED, max_drop=50.0, min_agreement=0.4))
    manifest = open_bundle(digits.options.output / "digits-1-arm-cpu.bundle").manifest
    assert manifest.provenance.pruning.startswith("0.5: 8 weak channels removed; ")
    assert digits.report()["profiles"][0]["candidates"][0]["pruned"] is True


def test_a_taught_form_says_so_in_its_provenance(digits: Bench) -> None:
    pytest.importorskip("torch", reason="extra [torch]")
    loose = replace(UNTIMED, max_drop=50.0, min_agreement=0.4)
    digits.build(prune=0.5, distill_steps=20, limits=loose)
    manifest = open_bundle(digits.options.output / "digits-1-arm-cpu.bundle").manifest
    assert "; distilled for 20 steps, kept step " in manifest.provenance.pruning


def test_a_stride_is_not_moved_without_distillation(digits: Bench) -> None:
    with pytest.raises(DistillationRefused, match="ask for both"):
        digits.build(stride_hoist=True)


def test_a_source_that_cannot_be_read_leaves_nothing_behind(digits: Bench) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Det", ["x"], ["y"], "odd one")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    path = digits.folder / "det.onnx"
    path.write_bytes(helper.make_model(graph, ir_version=9).SerializeToString())
    with pytest.raises(UnsupportedOperator, match="odd one"):
        digits.build(model=path)
    assert not digits.options.output.exists()


def test_keys_and_profiles_are_checked_before_any_work(digits: Bench) -> None:
    with pytest.raises(KeyInvalid):
        digits.build(sign_key=digits.folder / "none.pem")
    with pytest.raises(ProfileUnknown, match="did you mean 'arm-cpu'"):
        digits.build(profiles=["arm-cpus"])
    assert not digits.options.output.exists()


def test_an_older_bundle_survives_a_build_that_cannot_write(
    digits: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits.build()
    path = digits.options.output / "digits-1-arm-cpu.bundle"
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        digits.build(version="1")
    assert path.read_bytes() == before
    assert not [p for p in digits.options.output.iterdir() if p.name.startswith(".")]


def test_a_tflite_source_goes_to_both_targets(digits: Bench) -> None:
    graph = read_source(digits.options.model).graph
    model = digits.folder / "digits.tflite"
    model.write_bytes(tflite.emit(graph))
    (port,) = read_source(model).graph.inputs
    moved = {}
    for part in ("calibration", "evaluation"):
        x, y = parts()[part]
        moved[part] = digits.folder / f"{part}-nhwc.npz"
        np.savez(moved[part], x=np.transpose(x, (0, 2, 3, 1)), y=y)
    assert port.shape == (1, 8, 8, 1)
    result = digits.build(model=model, profiles=["arm-cpu", "intel-npu"], **moved)
    assert result.passed
    manifest = open_bundle(digits.options.output / "digits-1-intel-npu.bundle").manifest
    assert manifest.inputs[0].shape == (1, 8, 8, 1)
    assert manifest.evaluation["int8"].artifact == pytest.approx(0.945, abs=0.01)


def test_a_model_with_two_inputs_and_two_outputs_that_does_not_classify(digits: Bench) -> None:
    network = Network({"picture": (1, 3, 8, 8), "pose": (1, 6)})
    seen = network.node("GlobalAveragePool", network.node("Relu", network.conv("picture", 3, 64)))
    flat = network.node("Flatten", seen)
    both = network.node("Concat", flat, "pose", axis=1)
    weights = network.weight(rng(5).normal(size=(70, 4)).astype(np.float32))
    model = saved(network.model(network.node("MatMul", both, weights), flat), digits.folder)
    data = {
        "picture": rng(1).normal(size=(60, 3, 8, 8)).astype(np.float32),
        "pose": rng(2).normal(size=(60, 6)).astype(np.float32),
    }
    np.savez(digits.folder / "both.npz", **data)  # type: ignore[arg-type]
    result = digits.build(
        model=model,
        calibration=digits.folder / "both.npz",
        evaluation=None,
        labels=None,
        profiles=["arm-cpu", "intel-npu"],
    )
    assert result.passed
    for profile in ("arm-cpu", "intel-npu"):
        bundle = open_bundle(digits.options.output / f"digits-1-{profile}.bundle")
        manifest = bundle.manifest
        assert manifest.task == "other"
        assert [t.name for t in manifest.inputs] == ["picture", "pose"]
        assert [t.layout for t in manifest.inputs] == ["NCHW", ""]
        assert set(read_npz(bundle.contents["golden.npz"])) == {
            "input/picture",
            "input/pose",
            *(f"expected/int8/{t.name}" for t in manifest.outputs),
        }
        score = manifest.evaluation["int8"]
        assert score.agreement is None
        assert score.sqnr_db is not None
        assert score.sqnr_db > 25


def test_an_import_that_changes_answers_is_refused(digits: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of an importer is made here: the file is read with its kernels mirrored."""
    honest = importers.load

    def mirrored(path: Path, fixed: FixedInputs) -> Graph:
        graph = honest(path, fixed)
        tensors = {
            name: constant(name, t.data[:, :, ::-1]) if t.data is not None and t.data.ndim == 4 else t
            for name, t in graph.tensors.items()
        }
        return replace(graph, tensors=tensors)

    monkeypatch.setattr(importers, "load", mirrored)
    (outcome,) = digits.build().outcomes
    assert not outcome.passed
    assert "dB from the source's own answers, expected 60" in outcome.summary
    assert not list(digits.options.output.glob("*.bundle"))


def test_the_signed_statement_names_every_material_and_the_machine(built: tuple[Bench, BuildResult]) -> None:
    bundle = opened(built, "arm-cpu")
    options = built[0].options
    assert options.evaluation and options.labels
    materials: dict[str, Material] = {m.role: m for m in bundle.manifest.provenance.materials}
    for role, path in {
        "source": options.model,
        "calibration": options.calibration,
        "evaluation": options.evaluation,
        "labels": options.labels,
    }.items():
        found = materials.pop(role)
        assert (found.name, found.digest, found.bytes) == (
            path.name,
            digest_of_file(path),
            path.stat().st_size,
        )
    assert f"{materials['recipe'].name}@{materials['recipe'].digest}" == bundle.manifest.provenance.recipe
    payload = json.loads(base64.b64decode(json.loads(bundle.envelope)["payload"]))
    definition = payload["predicate"]["buildDefinition"]
    named = {d["name"]: d.get("digest") for d in definition["resolvedDependencies"]}
    assert named["digits.onnx"] == {"sha256": digest_of_file(options.model).removeprefix("sha256:")}
    assert definition["internalParameters"]["environment"]["machine"] == platform.machine()


def test_weights_that_an_onnx_file_keeps_beside_it_are_run_and_named(digits: Bench) -> None:
    apart = digits.folder / "apart.onnx"
    onnx.save(
        onnx.load(digits.options.model),
        apart,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert digits.build(model=apart, recipe="wf32").passed  # the fidelity gate ran it in OpenVINO
    bundle = open_bundle(digits.options.output / "digits-1-arm-cpu.bundle")
    sources = [m for m in bundle.manifest.provenance.materials if m.role == "source"]
    assert [(m.name, m.digest, m.bytes) for m in sources] == [
        (path.name, digest_of_file(path), path.stat().st_size)
        for path in (apart, digits.folder / "weights.bin")
    ]
