"""A new model is tried in a child: whatever it does there, this process lives and knows why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import agent_bundles
import pytest

from edge_agent.errors import ChildFailed, TrialFailed
from edge_agent.inference.isolation import COMMAND, encoded, run_child
from edge_agent.runtimes.choice import Option
from edge_agent.updates.trial import Limits, run_trial
from edge_contracts.bundle import Bundle, open_bundle


def extracted(tmp_path: Path, *kinds: str, **changes: Any) -> tuple[Path, Bundle]:
    bundle = open_bundle(agent_bundles.build(*kinds, **changes))
    bundle.extract(tmp_path / "bundle")
    return tmp_path / "bundle", bundle


@pytest.mark.parametrize("kind", agent_bundles.KINDS)
def test_a_good_model_passes_and_is_measured(kind: str, tmp_path: Path) -> None:
    folder, bundle = extracted(tmp_path, kind)
    report = run_trial(folder, bundle.manifest)
    assert report.choice.option.artifact == kind
    assert (report.golden.total, report.golden.agree) == (16, 16)
    assert report.latency_p95_ms > 0 and report.memory_bytes > 0


@pytest.mark.parametrize("name", ["kws_dscnn_int8_ref", "ic_resnet8_float32", "kws_dscnn_dynrange_ref"])
def test_real_models_pass(name: str, shared_data: Path, tmp_path: Path) -> None:
    content = (shared_data / "models" / f"{name}.tflite").read_bytes()
    bundle = open_bundle(agent_bundles.around(content))
    bundle.extract(tmp_path / "bundle")
    assert run_trial(tmp_path / "bundle", bundle.manifest).golden.agree == 8


def test_a_file_that_kills_its_runtime_kills_only_the_child(tmp_path: Path) -> None:
    files = {"artifacts/float32.tflite": agent_bundles.tflite_crashing()}
    folder, bundle = extracted(tmp_path, "float32", files=files)
    with pytest.raises(TrialFailed) as refusal:
        run_trial(folder, bundle.manifest)
    # LiteRT 2.3 dies of it; one that only refuses it would be as good
    assert refusal.value.code in {"crash", "model-invalid"}


def test_a_file_that_is_not_a_model_fails_with_the_runtimes_words(tmp_path: Path) -> None:
    folder, bundle = extracted(tmp_path, "float32", files={"artifacts/float32.tflite": b"not a model"})
    with pytest.raises(TrialFailed, match=r"float32\.tflite cannot be opened") as refusal:
        run_trial(folder, bundle.manifest)
    assert refusal.value.code == "model-invalid"


def test_a_model_that_hangs_is_given_up(tmp_path: Path) -> None:
    folder, bundle = extracted(tmp_path, "float32")
    with pytest.raises(TrialFailed) as refusal:
        run_trial(folder, bundle.manifest, Limits(timeout_s=0.02))
    assert refusal.value.code == "hang"


def test_a_model_that_answers_something_else_fails(tmp_path: Path) -> None:
    wrong = agent_bundles.reference(agent_bundles.GOLDEN_X)[:, ::-1]
    folder, bundle = extracted(tmp_path, "int8", expected=wrong)
    with pytest.raises(TrialFailed, match="golden answers agree, needed") as refusal:
        run_trial(folder, bundle.manifest)
    assert refusal.value.code == "golden-mismatch"


@pytest.mark.parametrize(
    ("limits", "changes", "code"),
    [
        (Limits(), {"latency_p95_ms": 1e-6}, "too-slow"),
        (Limits(latency_p95_ms=1e-6), {}, "too-slow"),
        (Limits(memory_bytes=4096), {}, "too-large"),
    ],
)
def test_a_model_beyond_its_budget_fails(
    limits: Limits, changes: dict[str, Any], code: str, tmp_path: Path
) -> None:
    folder, bundle = extracted(tmp_path, "float32", **changes)
    with pytest.raises(TrialFailed) as refusal:
        run_trial(folder, bundle.manifest, limits)
    assert refusal.value.code == code


def test_a_bundle_that_nothing_here_can_run_fails_without_a_child(tmp_path: Path) -> None:
    def no_child(job: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        raise AssertionError("a child was started")

    changes = {"runtimes": ("edgetpu",), "compiled_for": "edge-tpu"}
    folder, bundle = extracted(tmp_path, "int8", artifact=changes)
    with pytest.raises(TrialFailed, match=r"libedgetpu|Edge TPU") as refusal:
        run_trial(folder, bundle.manifest, run=no_child)
    assert refusal.value.code == "runtime-unavailable"


def test_an_option_that_crashes_gives_way_to_the_next_and_the_reason_stays(tmp_path: Path) -> None:
    files = {"artifacts/float32.tflite": agent_bundles.tflite_crashing()}
    folder, bundle = extracted(tmp_path, "float32", "int8", files=files)
    report = run_trial(folder, bundle.manifest)
    assert report.choice.option == Option("int8", "litert", "CPU")
    assert report.choice.fallback.startswith("not float32 in litert on CPU: ")


def test_when_every_option_fails_the_first_ones_code_and_all_reasons_are_given(tmp_path: Path) -> None:
    wrong = agent_bundles.reference(agent_bundles.GOLDEN_X)[:, ::-1]
    files = {"artifacts/float32.tflite": b"not a model"}
    folder, bundle = extracted(tmp_path, "float32", "int8", files=files, expected=wrong)
    with pytest.raises(TrialFailed, match=r"cannot be opened.*not int8 in litert") as refusal:
        run_trial(folder, bundle.manifest)
    assert refusal.value.code == "model-invalid"


def test_golden_answers_that_are_missing_fail_the_trial(tmp_path: Path) -> None:
    folder, bundle = extracted(tmp_path, "float32")
    (folder / "golden.npz").write_bytes(b"PK")
    with pytest.raises(TrialFailed) as refusal:
        run_trial(folder, bundle.manifest)
    assert refusal.value.code == "format-invalid"


# --- the child itself, and other programs in its place


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("code", "expected", "text"),
    [
        ("import os; os.abort()", "crash", "SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", "crash", "SIGKILL"),
        (
            "import sys; print('no more TPU', file=sys.stderr); sys.exit(3)",
            "crash",
            "exit code 3: no more TPU",
        ),
        ("print('hello')", "no-answer", "hello"),
        ("print([1])", "no-answer", "1"),
        ("pass", "no-answer", "answered"),
        ('print(\'{"failed": "model-invalid", "detail": "why"}\')', "model-invalid", "why"),
    ],
)
def test_each_way_to_die_has_its_code(code: str, expected: str, text: str) -> None:
    with pytest.raises(ChildFailed, match=text) as refusal:
        run_child({"kind": "trial"}, 30.0, program(code))
    assert refusal.value.code == expected


def test_a_child_that_hangs_is_dead_afterwards(tmp_path: Path) -> None:
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(ChildFailed, match="in 1 s"):
        run_child({"kind": "trial"}, 1.0, program(code))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_a_runtime_prints_does_not_spoil_the_answer(tmp_path: Path) -> None:
    # LiteRT prints its delegate's name; the answer must be alone on stdout
    folder, _ = extracted(tmp_path, "float32")
    option = {"artifact": "float32", "runtime": "litert", "device": "CPU"}
    job = {"kind": "trial", "folder": str(folder), "option": option, "threads": 1}
    assert run_child(job, 60.0)["golden_total"] == 16


def test_nothing_in_the_working_folder_is_imported(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the working folder')")
    child = subprocess.run(
        COMMAND, input=encoded({"kind": "nothing"}, 5.0), capture_output=True, cwd=tmp_path, check=False
    )
    assert b"working folder" not in child.stderr
    assert b"KeyError: 'nothing'" in child.stderr
