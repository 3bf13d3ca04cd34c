"""The page's parts about the device: what it needs there, ARM CPUs, the NPU's compiler."""

from __future__ import annotations

from small_nets import picture_net

from edge_contracts.profile import load_profile
from edge_convert import inspect as inspection
from edge_convert.device.arm_check import ArmCheck
from edge_convert.device.npu import Compiled
from edge_convert.page import device

EVIL = "<script>alert(1)</script>"


def test_memory_and_prediction_are_shown_and_the_prediction_is_called_one() -> None:
    fit = inspection.fit(picture_net(), load_profile("coral-usb"))
    made = device.parts_of({"fit_summary": fit.summary_fields()})
    assert "8 of 8 operators on the accelerator (100%), 50% asked for" in made
    assert "stay on the chip" in made and "of activations at their peak" in made
    assert "a prediction, nothing was measured there" in made
    assert "peak, never reached" in made  # what the profile says of its rates


def test_emulated_cpus_are_shown_with_instructions_and_failures() -> None:
    good = ArmCheck("int8", "cortex-a76", 16, 1, None, 1.0, 1234567)
    bad = ArmCheck("int8", "cortex-a72", 16, 2, None, 0.5, None)
    made = device.parts_of({"arm_checks": [good.fields(), bad.fields()]})
    assert "cortex-a76" in made and "1,234,567" in made
    assert "answers differ by 2 codes, 1 allowed" in made
    assert made.count("badge good") == made.count("badge bad") == 1


def test_the_npus_compiler_is_shown_with_estimates_and_refusals_escaped() -> None:
    taken = Compiled("int8", "3720", "openvino 2026.4.1", 28.67, 4)
    refused = Compiled("float16", "4000", "openvino 2026.4.1", None, None, EVIL)
    made = device.parts_of({"npu_compilations": [taken.fields(), refused.fields()]})
    assert "28.7 µs" in made
    assert "never checked on an NPU" in made
    assert EVIL not in made and "&lt;script&gt;" in made


def test_nothing_is_shown_of_what_was_not_tried() -> None:
    assert device.parts_of({}) == ""
    assert device.parts_of({"fit_summary": None, "arm_checks": [], "npu_compilations": []}) == ""
