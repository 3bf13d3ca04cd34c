"""The NPU compiler as a command: how it is found, what it is given, and what becomes of its words.

Intel's compiler is not here in most places, so a stand-in that speaks the protocol takes its place; what
it computes is made up. examples/npu-compiler/ sets the real one up, and then the last test runs it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from fit_files import int8_candidate
from small_nets import picture_net, pictures

from edge_convert.device import npu
from edge_convert.device.npu import Compiled, better, compile_form, find, sentence
from edge_convert.errors import CompilerMissing

XML, BIN = b"<net/>", b"weights"


def stand_in(folder: Path, script: str) -> Path:
    """A command of the protocol."""
    path = folder / "npu-compile"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    def install(script: str) -> npu.Compiler:
        monkeypatch.setenv(npu.VARIABLE, str(stand_in(tmp_path, script)))
        found = find()
        assert found is not None
        return found

    return install


GIVEN = """echo "given $(cat "$1") $(cat "${1%.xml}.bin") $2 $3"
echo "compiler wonder 3.1"
echo "[INFO] 08:00 [inference-execution-analysis]   Estimated inference latency: 28.67 us in dpu frequency"
printf blob > "$4"
"""


def test_the_command_gets_model_platform_and_precision(use: object, tmp_path: Path) -> None:
    script = 'cp "$1" "${1%.xml}.bin" ' + f"{tmp_path}/\n" + GIVEN
    result = compile_form(use(script), XML, BIN, "int8", "3720")  # type: ignore[operator]
    assert result == Compiled("int8", "3720", "wonder 3.1", 28.67, 4)
    assert (tmp_path / "model.xml").read_bytes() == XML
    assert (tmp_path / "model.bin").read_bytes() == BIN


def test_a_command_may_have_arguments_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stand_in(tmp_path, 'test "$1" = --fast || exit 3\nprintf x > "$5"\necho "estimate_us 1.5"')
    monkeypatch.setenv(npu.VARIABLE, f"{path} --fast")
    found = find()
    assert found is not None
    assert compile_form(found, XML, BIN, "int8", "4000") == Compiled("int8", "4000", "npu-compile", 1.5, 1)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'compiling: no such operator'; exit 1", "compiling: no such operator"),
        ("exit 1", "it said nothing"),
        ("exit 0", "it ended well and wrote no blob"),
        ('printf x > "$4"; kill -SEGV $$', "ended by signal 11"),
        ("exec sleep 60", "no result within 0.5 s"),
    ],
    ids=["refuses", "is silent", "writes nothing", "crashes", "hangs"],
)
def test_a_compiler_that_fails_is_quoted(use: object, script: str, words: str) -> None:
    result = compile_form(use(script), XML, BIN, "int8", "3720", timeout_s=0.5)  # type: ignore[operator]
    assert not result.compiled and result.estimate_us is None
    assert result.refusal == words


def test_a_compiler_without_an_estimate_is_believed_and_chooses_nothing(use: object) -> None:
    result = compile_form(use('printf x > "$4"'), XML, BIN, "int8", "3720")  # type: ignore[operator]
    assert result.compiled and result.estimate_us is None
    assert better({"int8": [result]}) is None


def test_a_program_that_cannot_be_started_is_reported(tmp_path: Path) -> None:
    compiler = npu.Compiler((str(tmp_path / "gone"),), {})
    assert "could not be started" in compile_form(compiler, XML, BIN, "int8", "3720").refusal


def test_without_a_compiler_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(npu.VARIABLE, raising=False)
    if sys.platform == "linux":  # OpenVINO's Linux package has the plug-in and no compiler
        assert find() is None
    assert "no NPU compiler here" in npu.NOT_COMPILED


@pytest.mark.parametrize("named", ["/nowhere/npu-compile", "folder"])
def test_a_variable_that_names_nothing_is_refused(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(npu.VARIABLE, str(tmp_path) if named == "folder" else named)
    with pytest.raises(CompilerMissing, match=npu.VARIABLE):
        find()


def test_a_folder_with_the_library_is_put_on_the_loaders_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library here is an empty file: openvino must say that it cannot compile, and be quoted."""
    (tmp_path / "libopenvino_intel_npu_compiler.so").touch()
    monkeypatch.setenv(npu.VARIABLE, str(tmp_path))
    found = find()
    assert found is not None
    path = found.environment["PATH" if os.name == "nt" else "LD_LIBRARY_PATH"]
    assert path.split(os.pathsep)[0] == str(tmp_path)
    files = int8_candidate(picture_net(), "intel-npu", {"x": pictures(4)}).files
    result = compile_form(found, files[".xml"], files[".bin"], "int8", "3720")
    assert not result.compiled
    assert result.refusal and "\n" not in result.refusal


def compiled(estimate: float | None, platform: str = "3720", refusal: str = "") -> Compiled:
    return Compiled("int8", platform, "c", estimate, None if refusal else 1, refusal)


def test_the_form_with_the_lowest_estimate_is_better() -> None:
    assert better({"int8": [compiled(35.6)], "float16": [compiled(23.4)]}) == "float16"
    assert better({"int8": [compiled(9.0)], "float16": [compiled(9.0)]}) == "int8"
    # 10 x 40 is less than 25 x 25 by the geometric mean, which no platform's own scale can tip
    two = {
        "int8": [compiled(25.0), compiled(25.0, "4000")],
        "float16": [compiled(10.0), compiled(40.0, "4000")],
    }
    assert better(two) == "float16"


def test_a_form_that_one_platform_refuses_is_never_better() -> None:
    forms = {"int8": [compiled(1.0), compiled(None, "4000", "no")], "float16": [compiled(9.0), compiled(9.0)]}
    assert better(forms) == "float16"
    assert better({"int8": [compiled(None, refusal="no")]}) is None
    assert better({}) is None


def test_what_was_found_is_said_in_one_sentence() -> None:
    said = sentence([compiled(28.67), compiled(None, "4000", "no such thing")])
    assert "NPU 3720 takes it, about 28.67 us by its own estimate" in said
    assert "NPU 4000 refuses it: no such thing" in said
    assert said.startswith("not compiled into the bundle: the device's driver compiles")


REAL = os.environ.get(npu.VARIABLE, "")


@pytest.mark.skipif(not REAL, reason=f"no NPU compiler: {npu.VARIABLE} is not set (examples/npu-compiler)")
def test_the_real_compiler_takes_what_is_written_for_the_npu() -> None:
    found = find()
    assert found is not None
    files = int8_candidate(picture_net(), "intel-npu", {"x": pictures(4)}).files
    for platform in npu.PLATFORMS:
        first, second = (
            compile_form(found, files[".xml"], files[".bin"], "int8", platform) for _ in range(2)
        )
        assert first.compiled and first.estimate_us is not None and 0 < first.estimate_us < 1000, first
        assert first == second
    broken = compile_form(found, b"<net/>", b"", "int8", "3720")
    assert not broken.compiled and broken.refusal
