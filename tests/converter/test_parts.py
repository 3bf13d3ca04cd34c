"""Artifacts for accelerators: compiled where a compiler is, and honest where it is not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from digit_models import classifier, parts

from edge_contracts.manifest import Score
from edge_contracts.profile import Accelerator, DeviceProfile, load_profile
from edge_convert import candidates
from edge_convert.candidates import Candidate
from edge_convert.device.fit import Place
from edge_convert.graph import Graph
from edge_convert.parts import Refused, parts_for
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.source import read_source

SCORE = Score(samples=10, agreement=1.0)
# Stands where Google's closed compiler would: it cannot be had here (studies/converter.md, section 4).
COMPILES = """#!/bin/sh
echo 'Edge TPU Compiler version 16.0.384591198'
echo 'Total number of operations: 4'
cp "$4" "$3/model_edgetpu.tflite"
"""
FAILS = "#!/bin/sh\necho 'Internal compiler error. Aborting!'\nexit 1\n"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return read_source(classifier(tmp_path_factory.mktemp("parts") / "digits.onnx")).graph


@pytest.fixture(scope="module")
def int8(graph: Graph) -> Candidate:
    feeds = {"pixels": parts()["calibration"][0][:50]}
    profile = load_profile("coral-tpu")
    recipe = candidates.recipes_for("int8")[0]
    quantization = Quantizer(graph, feeds).quantize(recipe, rules_for(profile))
    return candidates.written(graph, profile.target, recipe, quantization)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return tmp_path / "edgetpu_compiler"


def install(program: Path, text: str) -> None:
    program.write_text(text)
    program.chmod(0o755)


def test_without_a_compiler_only_the_cpu_twin_is_made(graph: Graph, int8: Candidate, program: Path) -> None:
    made = parts_for(load_profile("coral-usb"), graph, int8, SCORE)
    (twin,) = made.parts
    # the accelerator stays first: a device then reports that, and why, it does without
    assert (twin.id, twin.runtimes, twin.compiled_for) == ("int8", ("edgetpu", "litert"), "")
    assert twin.not_compiled == "not compiled: edgetpu_compiler is not on PATH"
    assert twin.not_compiled in made.notes


def test_a_compiled_artifact_comes_first_and_keeps_its_twin(
    graph: Graph, int8: Candidate, program: Path
) -> None:
    install(program, COMPILES)
    made = parts_for(load_profile("coral-usb"), graph, int8, SCORE)
    compiled, twin = made.parts
    assert (compiled.id, compiled.runtimes, compiled.compiled_for) == (
        "int8-edgetpu",
        ("edgetpu",),
        "edge-tpu",
    )
    assert (twin.id, twin.runtimes, twin.not_compiled) == ("int8", ("litert",), "")
    assert "compiled: 4 of 4 operators by edgetpu_compiler 16.0.384591198" in made.notes


def test_a_compiler_that_fails_is_quoted(graph: Graph, int8: Candidate, program: Path) -> None:
    install(program, FAILS)
    (twin,) = parts_for(load_profile("coral-usb"), graph, int8, SCORE).parts
    assert (
        twin.not_compiled == "not compiled: edgetpu_compiler failed: edgetpu_compiler ended with exit code 1"
    )


def test_an_artifact_that_would_stay_on_the_cpu_is_refused_with_the_reason(
    graph: Graph, int8: Candidate
) -> None:
    floating = candidates.float_form(graph, "tflite")
    in_float = replace(int8, files=floating.files)
    with pytest.raises(
        Refused, match=r"0% of the operators would run on the Edge TPU, .* asks for 50%"
    ) as caught:
        parts_for(load_profile("coral-usb"), graph, in_float, SCORE)
    assert caught.value.fit.rows
    assert caught.value.fit.share(Place.ACCELERATOR) == 0


def test_parameters_beyond_the_chip_are_noted(graph: Graph, int8: Candidate, program: Path) -> None:
    small = load_profile("coral-usb").model_copy(
        update={"accelerator": Accelerator(kind="edge-tpu", memory_bytes=1000)}
    )
    assert any("the rest is streamed" in note for note in parts_for(small, graph, int8, SCORE).notes)


def test_every_accelerator_of_a_profile_has_its_maker() -> None:
    from edge_contracts.profile import builtin_names
    from edge_convert.parts import COMPILE

    profiles: list[DeviceProfile] = [load_profile(name) for name in builtin_names()]
    assert {p.accelerator.kind for p in profiles if p.accelerator} <= set(COMPILE)
