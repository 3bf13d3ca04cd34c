"""edge-convert at the command line: exit codes, one-line errors, JSON, and what is left on the disk."""

from __future__ import annotations

import importlib.util
import json
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digit_models import classifier, parts, write_data

from edge_contracts.profile import builtin_names
from edge_convert.cli import run


class Terminal:
    """Runs command lines and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str | Path) -> int:
        code = run([str(a) for a in arguments])
        self.out, self.err = self._capsys.readouterr()
        return code

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    def refuses(self, code: int, *arguments: str | Path) -> str:
        """The one line that a refused command prints."""
        assert self(*arguments) == code
        assert self.out == ""
        assert self.err.startswith("edge-convert: ")
        assert self.err.count("\n") == 1
        assert "Traceback" not in self.err
        return self.err


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, data, keys, and one finished build in `out`."""
    folder = tmp_path_factory.mktemp("desk")
    classifier(folder / "digits.onnx")
    write_data(folder / "calibration.npz", "calibration")
    write_data(folder / "evaluation.npz", "evaluation")
    assert run(["keygen", "--output", str(folder / "keys")]) == 0
    assert run(build_arguments(folder, folder / "out", "--evaluation", str(folder / "evaluation.npz"))) == 0
    return folder


def build_arguments(desk: Path, output: Path, *more: str, **changes: Path | str) -> list[str]:
    options = {
        "model": desk / "digits.onnx",
        "calibration": desk / "calibration.npz",
        "sign_key": desk / "keys" / "private.pem",
        "profile": "arm-cpu",
        "name": "digits",
        "version": "1.0",
    } | changes
    line = ["build", str(options.pop("model")), "--latency-gate", "off", "--output", str(output)]
    for name, value in options.items():
        line += [f"--{name.replace('_', '-')}", str(value)]
    return [*line, *more]


def bundle(desk: Path) -> Path:
    return desk / "out" / "digits-1.0-arm-cpu.bundle"


# --- keys ----------------------------------------------------------------------------------------


def test_keygen_makes_a_pair_that_only_its_owner_reads(tmp_path: Path, terminal: Terminal) -> None:
    assert terminal("keygen", "--output", tmp_path / "new" / "keys", "--json") == 0
    private = tmp_path / "new" / "keys" / "private.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert b"PUBLIC KEY" in (private.parent / "public.pem").read_bytes()
    assert len(terminal.document["key_id"]) == 32


@pytest.mark.parametrize("lost", ["private.pem", "public.pem"])
def test_keygen_never_overwrites_a_key(tmp_path: Path, terminal: Terminal, lost: str) -> None:
    terminal("keygen", "--output", tmp_path)
    (tmp_path / lost).unlink()
    (kept,) = tmp_path.iterdir()
    before = kept.read_bytes()
    assert "not overwritten" in terminal.refuses(1, "keygen", "--output", tmp_path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]


# --- profiles ------------------------------------------------------------------------------------


def test_every_profile_is_listed_and_shown(terminal: Terminal) -> None:
    assert terminal("profiles", "--json") == 0
    assert [p["name"] for p in terminal.document] == builtin_names()
    for name in builtin_names():
        assert terminal("profiles", "show", name) == 0
        assert name in terminal.out
    assert terminal("profiles") == 0
    assert "raspberry-pi-5" in terminal.out


def test_a_misspelt_profile_or_key_is_named_with_the_nearest(tmp_path: Path, terminal: Terminal) -> None:
    assert "did you mean 'coral-usb'" in terminal.refuses(1, "profiles", "show", "coral-ubs")
    (tmp_path / "mine.toml").write_text('name = "mine"\nextends = "arm-cpu"\nmemory_byte = 1\n')
    said = terminal.refuses(1, "profiles", "show", tmp_path / "mine.toml")
    assert "unknown key 'memory_byte'; did you mean 'memory_bytes'" in said


# --- build ---------------------------------------------------------------------------------------


def test_a_build_prints_every_candidate_and_where_the_bundle_is(
    desk: Path, tmp_path: Path, terminal: Terminal
) -> None:
    code = terminal(*build_arguments(desk, tmp_path, "--json"))
    assert code == 0
    (profile,) = terminal.document["profiles"]
    assert profile["bundle"] == "digits-1.0-arm-cpu.bundle"
    assert sum(c["state"] == "chosen" for c in profile["candidates"]) == 1
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written == terminal.document
    assert terminal(*build_arguments(desk, tmp_path)) == 0
    assert "chosen" in terminal.out
    assert str(tmp_path / "digits-1.0-arm-cpu.bundle") in terminal.out


def test_a_failed_gate_exits_with_1_names_layers_and_writes_no_bundle(
    desk: Path, tmp_path: Path, terminal: Terminal
) -> None:
    spoilt = classifier(tmp_path / "spoilt.onnx", spoilt=True)
    out = tmp_path / "out"
    assert terminal(*build_arguments(desk, out, model=spoilt, profile="coral-tpu")) == 1
    assert "no bundle" in terminal.err
    assert "layers that cost most: " in terminal.err
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "report.json"]


def broken_models(folder: Path) -> dict[str, Path]:
    whole = classifier(folder / "whole.onnx").read_bytes()
    files = {
        "text.onnx": b"hello",
        "text.tflite": b"hello",
        "empty.onnx": b"",
        "truncated.onnx": whole[: len(whole) // 2],
        "model.pb": whole,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in [*files, "missing.onnx"]}


@pytest.mark.parametrize(
    "name", ["text.onnx", "text.tflite", "empty.onnx", "truncated.onnx", "model.pb", "missing.onnx"]
)
def test_a_file_that_is_no_model_is_refused_and_nothing_is_written(
    desk: Path, tmp_path: Path, terminal: Terminal, name: str
) -> None:
    model = broken_models(tmp_path)[name]
    # a missing extra is another fault than a file that is no model
    missing = name == "model.h5" and importlib.util.find_spec("tensorflow") is None
    said = terminal.refuses(2 if missing else 1, *build_arguments(desk, tmp_path / "out", model=model))
    assert "tensorflow" in said if missing else name in said
    assert not (tmp_path / "out").exists()


def test_weights_that_are_nan_are_refused(desk: Path, tmp_path: Path, terminal: Terminal) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(desk / "digits.onnx")
    kernels = numpy_helper.to_array(model.graph.initializer[0]).copy()
    kernels[0, 0, 0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernels, "kernels"))
    onnx.save(model, tmp_path / "nan.onnx")
    said = terminal.refuses(1, *build_arguments(desk, tmp_path / "out", model=tmp_path / "nan.onnx"))
    assert "kernels" in said
    assert "NaN" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x[:, :, :4], "has shape (300, 1, 4, 8)"),
        (lambda x: np.transpose(x, (0, 2, 3, 1)), "numpy.transpose(x, (0, 3, 1, 2))"),
        (lambda x: (x * 16).astype(np.uint8), "has dtype uint8; expected float32"),
        (lambda x: x * np.float32(np.nan), "NaN"),
        (lambda x: x[:3], "holds 3 samples"),
        (lambda x: x * np.float32(255), "both must be in the model's own input space"),
    ],
)
def test_calibration_data_of_another_kind_are_refused_with_a_report(
    desk: Path, tmp_path: Path, terminal: Terminal, change: Any, reason: str
) -> None:
    np.savez(tmp_path / "bad.npz", x=change(parts()["calibration"][0]))
    arguments = build_arguments(desk, tmp_path / "out", calibration=tmp_path / "bad.npz")
    said = terminal.refuses(1, *arguments, "--evaluation", desk / "evaluation.npz")
    assert reason in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]
    assert reason in json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["refusal"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["build"], "Missing argument 'MODEL'"),
        (["build", "m.onnx"], "Missing option"),
        (["bild"], "No such command 'bild'"),
        (["benchmark", "m.onnx", "--rounds", "1"], "--rounds"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_where_help_is(
    terminal: Terminal, arguments: Sequence[str], reason: str
) -> None:
    said = terminal.refuses(2, *arguments)
    assert reason in said
    assert "--help" in said


@pytest.mark.parametrize(
    "more",
    [
        ("--name", "two words"),
        ("--version", "../1"),
        ("--prune", "1.5"),
        ("--prune", "most"),
        ("--max-drop", "-1"),
        ("--latency-gate", "maybe"),
    ],
)
def test_a_value_outside_its_bounds_is_wrong_usage(
    desk: Path, tmp_path: Path, terminal: Terminal, more: tuple[str, str]
) -> None:
    said = terminal.refuses(2, *build_arguments(desk, tmp_path / "out", *more))
    assert more[0] in said
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused(desk: Path, tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "out").write_text("mine")
    assert str(tmp_path / "out") in terminal.refuses(1, *build_arguments(desk, tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "mine"


# --- verify --------------------------------------------------------------------------------------


def test_verify_says_who_signed_and_what_it_holds(desk: Path, terminal: Terminal) -> None:
    public = desk / "keys" / "public.pem"
    assert terminal("verify", bundle(desk), "--trust", public) == 0
    assert "signed by" in terminal.out
    assert "artifacts/int8.tflite" in terminal.out
    assert terminal("verify", bundle(desk), "--trust", public, "--json") == 0
    assert terminal.document["manifest"]["name"] == "digits"
    assert terminal.document["digest"].startswith("sha256:")


def test_verify_refuses_a_stranger(desk: Path, tmp_path: Path, terminal: Terminal) -> None:
    terminal("keygen", "--output", tmp_path)
    said = terminal.refuses(1, "verify", bundle(desk), "--trust", tmp_path / "public.pem")
    assert "not trusted" in said


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_verify_refuses_a_bundle_with_one_byte_changed(
    desk: Path, tmp_path: Path, terminal: Terminal, place: float
) -> None:
    content = bytearray(bundle(desk).read_bytes())
    content[int(len(content) * place)] ^= 1
    changed = tmp_path / "changed.bundle"
    changed.write_bytes(content)
    terminal.refuses(1, "verify", changed, "--trust", desk / "keys" / "public.pem")


def test_verify_needs_a_key_to_trust(desk: Path, terminal: Terminal) -> None:
    assert "--trust" in terminal.refuses(2, "verify", bundle(desk))
    private = desk / "keys" / "private.pem"
    assert "give the public one" in terminal.refuses(1, "verify", bundle(desk), "--trust", private)


# --- inspect and benchmark -----------------------------------------------------------------------


def test_inspect_counts_what_is_in_a_model(desk: Path, terminal: Terminal) -> None:
    profiles = ("--profile", "coral-usb", "--profile", "raspberry-pi-4", "--profile", "intel-npu")
    assert terminal("inspect", desk / "digits.onnx", *profiles, "--json") == 0
    found = terminal.document
    # conv: 6 x 6 places, 16 filters of 9 taps; dense: 576 inputs, 10 outputs
    assert found["macs"] == 6 * 6 * 16 * 9 + 576 * 10
    assert found["parameters"] == 16 * 9 + 16 + 576 * 10 + 10
    assert found["operators"]["conv2d"] == [1, 5184]
    coral, raspberry, _ = found["profiles"]
    assert coral["fits"]
    assert all(row["mapped"] for row in coral["fit"])
    assert coral["shares"]["accelerator"] == 1.0
    # the profile says 6e9 multiply-accumulates a second in int8
    assert raspberry["predicted_ms"]["int8"] == pytest.approx(1000 * found["macs"] / 6.0e9)
    assert terminal("inspect", desk / "digits.onnx", *profiles) == 0
    assert "coral-usb (Coral USB Accelerator on a Linux host): fits" in terminal.out


def test_inspect_refuses_what_is_no_model(tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "x.onnx").write_bytes(b"x")
    terminal.refuses(1, "inspect", tmp_path / "x.onnx")


def test_benchmark_holds_a_bundle_against_its_source(desk: Path, terminal: Terminal) -> None:
    arguments = ("benchmark", bundle(desk), "--against", desk / "digits.onnx", "--rounds", "5")
    assert terminal(*arguments, "--json") == 0
    ours, theirs = terminal.document
    assert (ours["runtime"], theirs["runtime"]) == ("LiteRT", "OpenVINO")
    assert theirs["ratio"] == 1.0
    assert 0 < ours["median_ms"] < 1000
    assert terminal(*arguments) == 0
    assert "ratio" in terminal.out


def test_benchmark_refuses_what_it_cannot_run(desk: Path, tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "x.bin").write_bytes(b"0123456789")
    assert "x.bin is not" in terminal.refuses(1, "benchmark", tmp_path / "x.bin")
    (tmp_path / "x.bundle").write_bytes(b"0123456789")
    assert "not a bundle" in terminal.refuses(1, "benchmark", tmp_path / "x.bundle")


# --- the program itself --------------------------------------------------------------------------

# A device's interpreter, where the converter's extra is not installed: imports of it fail.
WITHOUT_EXTRA = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"numpy", "onnx", "openvino", "ai_edge_litert", "flatbuffers", "rich"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from edge_convert.cli import run
sys.exit(run(sys.argv[1:]))
"""


def without_extra(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_extra_help_keys_and_verify_still_work(desk: Path, tmp_path: Path) -> None:
    assert without_extra("--help").returncode == 0
    assert without_extra("build", "--help").returncode == 0
    assert without_extra("profiles").returncode == 0
    assert without_extra("keygen", "--output", tmp_path).returncode == 0
    assert without_extra("verify", bundle(desk), "--trust", desk / "keys" / "public.pem").returncode == 0


def test_without_the_extra_a_build_says_how_to_install_it(desk: Path, tmp_path: Path) -> None:
    done = without_extra(*build_arguments(desk, tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'edgefleet[converter]'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_change_of_keys_is_signed_by_the_old_one_and_read_by_devices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edge_contracts.keys import TrustedKeys, read_public
    from edge_contracts.trust import open_keys

    edge_convert = Terminal(capsys)
    for name in ("old", "new"):
        assert edge_convert("keygen", "--output", tmp_path / name) == 0
    old, new = (read_public(tmp_path / name / "public.pem") for name in ("old", "new"))
    arguments = ("--sign-key", tmp_path / "old" / "private.pem", "--output", tmp_path / "x.keys")
    change = ("keys", "change", *arguments, "--counter", "3", "--fleet", "plant")
    more = ("--add", tmp_path / "new" / "public.pem", "--revoke", tmp_path / "old" / "public.pem", "--stop")
    assert edge_convert(*change, *more) == 0
    statement, signer = open_keys((tmp_path / "x.keys").read_bytes(), TrustedKeys.of([old]))
    assert signer == old.key_id
    assert (statement.add, statement.revoke, statement.stop) == ((new.base64,), (old.key_id,), True)
    assert (statement.fleet, statement.counter) == ("plant", 3)
    assert edge_convert(*change) == 2
    assert "nothing is changed" in edge_convert.err
    assert edge_convert(*change, "--revoke", "not-a-key") == 1
    assert "revoke" in edge_convert.err
