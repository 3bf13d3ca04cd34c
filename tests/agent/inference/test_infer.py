"""`edge-agent infer`: one data file, one bundle, no network; what is not in order is refused on one line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import agent_bundles
import lineup_models
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.device.config import trust
from edge_agent.device.home import Home
from edge_agent.errors import AgentError, ChildFailed, RuntimeUnavailable
from edge_agent.inference.infer import infer
from edge_contracts.arrays import read_npz, write_npz
from edge_contracts.errors import BundleInvalid, DigestMismatch, KeyInvalid, KeyUnknown
from edge_contracts.keys import PrivateKey

EXPECTED = agent_bundles.reference(agent_bundles.GOLDEN_X)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a bundle, a data file, the publisher's key and an empty home."""
    (tmp_path / "tiny.bundle").write_bytes(agent_bundles.build("float32"))
    (tmp_path / "x.npz").write_bytes(write_npz({"x": agent_bundles.GOLDEN_X, "y": np.zeros(16)}))
    (tmp_path / "public.pem").write_bytes(agent_bundles.KEY.public.pem)
    return tmp_path


def run(place: Path, *more: str, bundle: str = "tiny.bundle", data: str = "x.npz") -> Result:
    arguments = [str(place / bundle), "--input", str(place / data), "--home", str(place / "home"), *more]
    return CliRunner().invoke(infer, arguments)


def refusal(result: Result) -> BaseException:
    assert result.exception is not None
    assert result.stdout == ""
    assert "\n" not in str(result.exception)
    return result.exception


def test_json_holds_the_outputs_by_tensor_name_and_the_latency(place: Path) -> None:
    result = run(place, "--json")
    assert result.exit_code == 0
    told: dict[str, Any] = json.loads(result.stdout)
    assert np.allclose(told["outputs"]["scores"], EXPECTED, atol=1e-5)
    assert 0 < told["latency_ms"]["median"] <= told["latency_ms"]["p95"]
    assert told["samples"] == 16
    assert told["runtime"].startswith("litert ")
    assert [t["class"] for t in told["top"]] == [agent_bundles.LABELS[i] for i in EXPECTED.argmax(axis=1)]


def test_a_person_reads_a_line_for_each_sample(place: Path) -> None:
    lines = run(place).stdout.splitlines()
    assert lines[0].startswith("tiny 1: float32 in litert ")
    best = agent_bundles.LABELS[int(EXPECTED[0].argmax())]
    assert lines[1].split() == ["0", best, f"{EXPECTED[0].max():.4f}"]
    assert lines[-1].startswith("latency of one inference: median ")


def test_outputs_are_written_by_tensor_name(place: Path) -> None:
    assert run(place, "--output", str(place / "out.npz")).exit_code == 0
    assert np.allclose(read_npz(place / "out.npz")["scores"], EXPECTED, atol=1e-5)


def test_outputs_that_cannot_be_written_leave_nothing_behind(place: Path) -> None:
    (place / "out").mkdir()
    assert isinstance(refusal(run(place, "--output", str(place / "out"))), AgentError)
    assert list((place / "out").iterdir()) == []
    assert not (place / "out.part").exists()


# --- signatures


def test_an_unchecked_signature_is_owned_up_to(place: Path) -> None:
    result = run(place, "--json")
    assert json.loads(result.stdout)["signature"] == "not checked"
    assert "signature not checked" in result.stderr


def test_a_signature_is_checked_with_the_key_that_is_given(place: Path) -> None:
    result = run(place, "--json", "--trust", str(place / "public.pem"))
    told = json.loads(result.stdout)
    assert (told["signature"], told["signed_by"]) == ("verified", agent_bundles.KEY.public.key_id)
    assert result.stderr == ""


def test_another_publishers_bundle_is_refused(place: Path) -> None:
    (place / "other.pem").write_bytes(PrivateKey.generate().public.pem)
    assert isinstance(refusal(run(place, "--trust", str(place / "other.pem"))), KeyUnknown)


def test_one_of_several_keys_is_enough(place: Path) -> None:
    (place / "other.pem").write_bytes(PrivateKey.generate().public.pem)
    keys = ("--trust", str(place / "other.pem"), "--trust", str(place / "public.pem"))
    assert run(place, *keys).exit_code == 0


def test_the_devices_own_trust_is_used_without_asking(place: Path) -> None:
    trust(Home(place / "home"), PrivateKey.generate().public)
    assert isinstance(refusal(run(place)), KeyUnknown)
    trust(Home(place / "home"), agent_bundles.KEY.public)
    assert json.loads(run(place, "--json").stdout)["signature"] == "verified"


def test_a_key_that_is_not_there_is_named(place: Path) -> None:
    assert "none.pem" in str(refusal(run(place, "--trust", str(place / "none.pem"))))
    assert isinstance(refusal(run(place, "--trust", str(place / "x.npz"))), KeyInvalid)


def test_a_changed_byte_is_seen_without_any_key(place: Path) -> None:
    with zipfile.ZipFile(place / "tiny.bundle") as source:
        files = {name: source.read(name) for name in source.namelist()}
    model = bytearray(files["artifacts/float32.tflite"])
    model[len(model) // 2] ^= 1
    files["artifacts/float32.tflite"] = bytes(model)
    with zipfile.ZipFile(place / "changed.bundle", "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    assert isinstance(refusal(run(place, bundle="changed.bundle")), DigestMismatch)


# --- what else can be wrong


@pytest.mark.parametrize("content", [b"", b"not a bundle", b"PK\x03\x04"])
def test_what_is_not_a_bundle_is_refused(content: bytes, place: Path) -> None:
    (place / "bad.bundle").write_bytes(content)
    assert isinstance(refusal(run(place, bundle="bad.bundle")), BundleInvalid)


def test_files_that_are_not_there_are_named(place: Path) -> None:
    assert "none.bundle" in str(refusal(run(place, bundle="none.bundle")))
    assert "none.npz" in str(refusal(run(place, data="none.npz")))


@pytest.mark.parametrize(
    ("arrays", "code", "text"),
    [
        ({"x": np.ones((2, 5), np.float32)}, "shape", "expected (n, 4)"),
        ({"x": np.ones((2, 4), np.uint8)}, "dtype", "expected float32"),
        ({"x": np.full((2, 4), np.nan, np.float32)}, "not-finite", "sample 0"),
        ({"picture": np.ones((2, 4), np.float32)}, "names", "expected 'x'"),
    ],
)
def test_data_that_the_contract_does_not_allow_is_refused(
    arrays: dict[str, Any], code: str, text: str, place: Path
) -> None:
    (place / "bad.npz").write_bytes(write_npz(arrays))
    error = refusal(run(place, data="bad.npz"))
    assert isinstance(error, ChildFailed)
    assert error.code == code
    assert text in str(error)


def test_suspicious_data_is_answered_with_a_warning(place: Path) -> None:
    (place / "far.npz").write_bytes(write_npz({"x": agent_bundles.GOLDEN_X * 1000}))
    assert "16 of 16 samples are out-of-range" in run(place, data="far.npz").stdout


def test_a_model_that_kills_its_runtime_is_one_line(place: Path) -> None:
    files = {"artifacts/float32.tflite": agent_bundles.tflite_crashing()}
    (place / "crash.bundle").write_bytes(agent_bundles.build("float32", files=files))
    error = refusal(run(place, bundle="crash.bundle"))
    assert isinstance(error, ChildFailed)
    assert error.code in {"crash", "model-invalid"}


def test_a_bundle_for_hardware_that_is_not_here_says_what_is_missing(place: Path) -> None:
    changes = {"runtimes": ("edgetpu",), "compiled_for": "edge-tpu"}
    (place / "coral.bundle").write_bytes(agent_bundles.build("int8", artifact=changes))
    error = refusal(run(place, bundle="coral.bundle"))
    assert isinstance(error, RuntimeUnavailable)
    assert "Edge TPU" in str(error) or "libedgetpu" in str(error)


def test_without_an_input_file_the_usage_is_shown(place: Path) -> None:
    result = CliRunner().invoke(infer, [str(place / "tiny.bundle")])
    assert result.exit_code == 2
    assert "--input" in result.stderr


def test_an_answer_that_is_not_sure_enough_is_marked(place: Path) -> None:
    (place / "tiny.bundle").write_bytes(lineup_models.bundle(below=0.5))
    (place / "x.npz").write_bytes(
        write_npz({"x": np.concatenate([lineup_models.SURE_X, lineup_models.UNSURE_X])})
    )
    told = json.loads(run(place, "--json").stdout)
    assert told["confidence"] == pytest.approx([lineup_models.SURE, lineup_models.UNSURE], abs=1e-5)
    assert told["uncertain"] == [False, True]
    lines = run(place).stdout.splitlines()
    assert [line.endswith("  uncertain") for line in lines[1:3]] == [False, True]
    assert lines[3].startswith("warning: 1 of 2 answers are uncertain")


def test_without_a_calibration_nothing_is_said_of_confidence(place: Path) -> None:
    assert not {"confidence", "uncertain"} & json.loads(run(place, "--json").stdout).keys()
    assert "uncertain" not in run(place).stdout


def test_a_refusal_is_one_line_and_exit_code_1(place: Path) -> None:
    (place / "bad.npz").write_bytes(b"not an archive")
    arguments = ["infer", str(place / "tiny.bundle"), "--input", str(place / "bad.npz")]
    result = CliRunner().invoke(main, [*arguments, "--home", str(place / "home"), "--json"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "bad.npz is not an .npz file" in result.stderr


def test_outputs_that_cannot_be_written_are_one_line(place: Path) -> None:
    words = ["infer", str(place / "tiny.bundle"), "--input", str(place / "x.npz"), "--home", str(place / "h")]
    nowhere = place / "x.npz" / "o.npz"  # nor can what was begun there be removed, as on a read-only disk
    told = CliRunner().invoke(main, [*words, "--output", str(nowhere)])
    assert told.exit_code == 1 and f"cannot write {nowhere}: Not a directory" in told.stderr
