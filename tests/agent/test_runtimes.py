"""Every registered runtime keeps the same promises; the ones that cannot run here say why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import agent_bundles
import numpy as np
import pytest

from edge_agent.errors import InferenceFailed, ModelInvalid, RuntimeUnavailable, RuntimeUnknown
from edge_agent.runtimes import registry
from edge_agent.runtimes.base import Device, OpenModel, Runtime
from edge_agent.runtimes.choice import Choice, Option, choose, options
from edge_agent.runtimes.edgetpu import find_accelerators, find_fault
from edge_contracts.bundle import open_bundle
from edge_contracts.manifest import Artifact, Manifest
from edge_contracts.profile import builtin_names, load_profile

RUNTIMES = registry.names()
KINDS = {"litert": ("float32", "int8"), "openvino": ("openvino",), "edgetpu": ("int8",)}


def extracted(tmp_path: Path, *kinds: str, **changes: Any) -> tuple[Path, Manifest]:
    bundle = open_bundle(agent_bundles.build(*kinds, **changes))
    bundle.extract(tmp_path / "bundle")
    return tmp_path / "bundle", bundle.manifest


def usable(runtime: Runtime, artifact: Artifact) -> str:
    """The first device that is here; the test is skipped when there is none."""
    for device in runtime.devices(artifact):
        if not device.missing:
            return device.name
    pytest.skip("; ".join(f"{d.name}: {d.missing}" for d in runtime.devices(artifact)))


def opened(tmp_path: Path, name: str, kind: str) -> tuple[OpenModel, Artifact]:
    folder, manifest = extracted(tmp_path, kind)
    artifact = manifest.artifacts[0]
    runtime = registry.load(name)
    return runtime.open(folder, artifact, usable(runtime, artifact)), artifact


def codes(artifact: Artifact, row: int = 0) -> dict[str, np.ndarray]:
    x = agent_bundles.GOLDEN_X[row : row + 1]
    if artifact.inputs[0].dtype == "int8":
        x = np.clip(np.rint(x / np.float32(agent_bundles.INPUT_SCALE)), -128, 127).astype(np.int8)
    return {"x": x}


# --- what every runtime promises

CASES = [(name, kind) for name in RUNTIMES for kind in KINDS.get(name, ())]


def test_every_runtime_has_a_model_to_be_tested_with() -> None:
    assert set(KINDS) == set(RUNTIMES)


def test_every_profile_names_runtimes_that_exist() -> None:
    for name in builtin_names():
        assert set(load_profile(name).runtimes) <= set(RUNTIMES)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_is_called_like_its_file_and_lists_devices_with_reasons(name: str, tmp_path: Path) -> None:
    runtime = registry.load(name)
    assert runtime.name == name
    _, manifest = extracted(tmp_path, KINDS[name][0])
    devices = runtime.devices(manifest.artifacts[0])
    assert devices
    for device in devices:
        assert device.name
        assert "\n" not in device.missing


@pytest.mark.parametrize("name", RUNTIMES)
def test_looking_a_runtime_up_imports_nothing_heavy(name: str) -> None:
    code = (
        "import sys; from edge_agent.runtimes import registry; "
        f"registry.load({name!r}); "
        "print([m for m in ('ai_edge_litert', 'tflite_runtime', 'openvino') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_tensors_are_those_that_the_manifest_binds(name: str, kind: str, tmp_path: Path) -> None:
    model, artifact = opened(tmp_path, name, kind)
    for bindings, tensors in ((artifact.inputs, model.inputs), (artifact.outputs, model.outputs)):
        for binding in bindings:
            assert tensors[binding.tensor].dtype == binding.dtype
            assert tensors[binding.tensor].shape == binding.shape


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_answers_are_right_and_the_same_each_time(name: str, kind: str, tmp_path: Path) -> None:
    model, artifact = opened(tmp_path, name, kind)
    first = [model.run(codes(artifact, row))["scores"] for row in range(16)]
    again = [model.run(codes(artifact, row))["scores"] for row in range(16)]
    # an answer is the caller's to keep: the next run must not write into it
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    scores = np.concatenate(first).astype(np.float64)
    output = artifact.outputs[0]
    if output.scale is not None:
        scores = (scores - output.zero_point) * output.scale
    tolerance = 0.02 if output.scale is not None else 1e-5
    assert np.allclose(scores, agent_bundles.reference(agent_bundles.GOLDEN_X), atol=tolerance)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_wrong_dtype_or_shape_is_an_error_and_the_model_lives_on(
    name: str, kind: str, tmp_path: Path
) -> None:
    model, artifact = opened(tmp_path, name, kind)
    for wrong in (np.zeros((1, 4), np.float64), codes(artifact)["x"][:, :3]):
        with pytest.raises(InferenceFailed):
            model.run({"x": wrong})
    assert model.run(codes(artifact))["scores"].shape == (1, 3)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_closed_model_refuses_to_run_and_closes_twice(name: str, kind: str, tmp_path: Path) -> None:
    model, artifact = opened(tmp_path, name, kind)
    model.close()
    model.close()
    with pytest.raises(InferenceFailed, match="closed"):
        model.run(codes(artifact))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\0" * 4096], ids=["empty", "text", "zeros"])
@pytest.mark.parametrize("name", RUNTIMES)
def test_a_file_that_is_not_a_model_is_refused_on_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    kind = KINDS[name][0]
    path = "artifacts/tiny.xml" if kind == "openvino" else f"artifacts/{kind}.tflite"
    folder, manifest = extracted(tmp_path, kind, files={path: content})
    runtime = registry.load(name)
    device = usable(runtime, manifest.artifacts[0])
    with pytest.raises(ModelInvalid) as refusal:
        runtime.open(folder, manifest.artifacts[0], device)
    assert Path(path).name in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    half = agent_bundles.tflite_float32()[:300]
    folder, manifest = extracted(tmp_path, "float32", files={"artifacts/float32.tflite": half})
    with pytest.raises(ModelInvalid):
        registry.load("litert").open(folder, manifest.artifacts[0], "CPU")


def test_an_unknown_runtime_is_named_with_those_that_are_there() -> None:
    with pytest.raises(RuntimeUnknown, match=r"'hexagon'.*edgetpu, litert, openvino"):
        registry.load("hexagon")


@pytest.mark.parametrize("name", ["base", "registry", "__init__", "../session"])
def test_only_runtimes_can_be_loaded(name: str) -> None:
    with pytest.raises(RuntimeUnknown):
        registry.load(name)


# --- litert


def test_a_model_compiled_for_the_edge_tpu_is_refused_on_a_cpu(shared_data: Path, tmp_path: Path) -> None:
    content = (shared_data / "coral" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite").read_bytes()
    folder, manifest = extracted(tmp_path, "int8", files={"artifacts/int8.tflite": content})
    with pytest.raises(ModelInvalid, match="compiled for the Edge TPU"):
        registry.load("litert").open(folder, manifest.artifacts[0], "CPU")


def test_an_operator_that_is_not_here_is_named(shared_data: Path, tmp_path: Path) -> None:
    content = (shared_data / "coral" / "model_invoking_error.tflite").read_bytes()
    folder, manifest = extracted(tmp_path, "int8", files={"artifacts/int8.tflite": content})
    with pytest.raises(ModelInvalid, match="fake-op-double"):
        registry.load("litert").open(folder, manifest.artifacts[0], "CPU")


# --- openvino


def test_importing_openvino_reports_usage_to_nobody() -> None:
    code = (
        "import sys\n"
        "def watch(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname'):\n"
        "        print('CALLED HOME', event, args)\n"
        "sys.addaudithook(watch)\n"
        "from edge_agent.runtimes.openvino import import_openvino\n"
        "import_openvino()\n"
        "print(any(m.startswith('openvino_telemetry.') for m in sys.modules))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False"]


def test_openvino_prefers_the_npu_and_says_when_there_is_none(tmp_path: Path) -> None:
    _, manifest = extracted(tmp_path, "openvino")
    npu, cpu = registry.load("openvino").devices(manifest.artifacts[0])
    assert (npu.name, cpu) == ("NPU", Device("CPU"))
    if npu.missing:
        assert "no NPU" in npu.missing
        assert "not openvino in openvino on NPU: no NPU" in choose(options(manifest)).fallback


def test_openvino_gives_a_dynamic_batch_the_shape_of_the_manifest(tmp_path: Path) -> None:
    xml, weights = agent_bundles.openvino_ir(batch=-1)
    folder, manifest = extracted(
        tmp_path, "openvino", files={"artifacts/tiny.xml": xml, "artifacts/tiny.bin": weights}
    )
    model = registry.load("openvino").open(folder, manifest.artifacts[0], "CPU")
    assert model.inputs["x"].shape == (1, 4)
    assert model.run({"x": agent_bundles.GOLDEN_X[:1]})["scores"].shape == (1, 3)


# --- edgetpu: what is missing is said precisely


def test_accelerators_are_found_on_usb_and_pcie(tmp_path: Path) -> None:
    assert find_accelerators(tmp_path) == []
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/apex_0").touch()
    for place, vendor, product in (
        ("1-1", "1d6b", "0002"),  # a hub
        ("1-2", "1a6e", "089a"),  # the accelerator before its firmware
        ("2-1", "18d1", "9302"),  # and after
    ):
        folder = tmp_path / "sys/bus/usb/devices" / place
        folder.mkdir(parents=True)
        (folder / "idVendor").write_text(vendor + "\n")
        (folder / "idProduct").write_text(product + "\n")
    (tmp_path / "sys/bus/usb/devices/1-2:1.0").mkdir()  # an interface has no ids
    assert find_accelerators(tmp_path) == [f"PCIe {tmp_path}/dev/apex_0", "USB 1-2", "USB 2-1"]


@pytest.mark.parametrize(
    ("compiled_for", "accelerators", "library_error", "expected"),
    [
        ("edge-tpu", ["USB 1-2"], None, ""),
        ("edge-tpu", [], None, "no Edge TPU on USB or PCIe"),
        ("edge-tpu", ["USB 1-2"], "no such file", "libedgetpu.so.1 does not load (no such file)"),
        ("", ["USB 1-2"], None, "the artifact is not compiled for the Edge TPU (no compiler)"),
    ],
)
def test_the_edge_tpu_says_precisely_what_is_missing(
    compiled_for: str, accelerators: list[str], library_error: str | None, expected: str, tmp_path: Path
) -> None:
    changes = {"compiled_for": compiled_for, "not_compiled": "" if compiled_for else "no compiler"}
    _, manifest = extracted(tmp_path, "int8", artifact=changes)
    assert find_fault(manifest.artifacts[0], accelerators, library_error) == expected


def test_a_coral_bundle_without_a_coral_runs_its_cpu_twin_and_says_so(tmp_path: Path) -> None:
    changes = {"runtimes": ("edgetpu", "litert"), "not_compiled": "edgetpu_compiler is not on PATH"}
    _, manifest = extracted(tmp_path, "int8", artifact=changes)
    choice = choose(options(manifest))
    assert choice.option == Option("int8", "litert", "CPU")
    assert "edgetpu_compiler is not on PATH" in choice.fallback


def test_a_compiled_artifact_is_not_offered_to_the_cpu(tmp_path: Path) -> None:
    changes = {"runtimes": ("edgetpu", "litert"), "compiled_for": "edge-tpu"}
    _, manifest = extracted(tmp_path, "int8", "float32", artifact=changes)
    ways = options(manifest)
    assert ways[Option("int8", "litert", "CPU")] == "the artifact is compiled for edge-tpu"
    assert choose(ways).option == Option("float32", "litert", "CPU")


# --- choosing is pure

FIRST, SECOND, THIRD = (Option(name, "litert", "CPU") for name in ("a", "b", "c"))


def test_the_first_option_that_is_there_is_taken_without_a_fallback() -> None:
    assert choose({FIRST: "", SECOND: ""}) == Choice(FIRST, "")


def test_a_fallback_names_everything_that_was_better() -> None:
    choice = choose({FIRST: "no driver", SECOND: "", THIRD: ""}, {SECOND: "crashed"})
    assert choice == Choice(THIRD, "not a in litert on CPU: no driver; not b in litert on CPU: crashed")


def test_a_long_reason_still_fits_into_a_message() -> None:
    assert len(choose({FIRST: "x" * 1000, SECOND: ""}).fallback) == 300


def test_nothing_that_runs_is_an_error_with_every_reason() -> None:
    with pytest.raises(RuntimeUnavailable, match=r"no driver.*crashed"):
        choose({FIRST: "no driver", SECOND: ""}, {SECOND: "crashed"})


def test_a_runtime_of_a_later_release_is_passed_over(tmp_path: Path) -> None:
    _, manifest = extracted(tmp_path, "float32", artifact={"runtimes": ("hexagon", "litert")})
    choice = choose(options(manifest))
    assert choice.option.runtime == "litert"
    assert "hexagon" in choice.fallback
