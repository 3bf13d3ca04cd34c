"""How models fit classes of device: rows, rules, sizes and predictions."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from fit_files import int8_candidate
from small_nets import Net, picture_net, pictures

from edge_contracts.profile import DeviceProfile, builtin_names, load_profile
from edge_convert import candidates
from edge_convert import inspect as inspection
from edge_convert.device import fit_rows, npu_rules
from edge_convert.device.fit import Place, Row, judge, predicted_ms
from edge_convert.emitters.tflite_writer import ModelWriter
from edge_convert.graph import Op
from edge_convert.quantizing.quantization import QuantParams
from edge_convert.source import read_source

CORAL = load_profile("coral-usb")
ARM = load_profile("raspberry-pi-5")
NPU = load_profile("intel-npu-meteor-lake")


def changed(profile: DeviceProfile, **values: object) -> DeviceProfile:
    return profile.model_copy(update=values)


def with_custom_operator(name: str) -> bytes:
    """A file of one operator that is no built-in."""
    writer = ModelWriter("test")
    x, y = writer.tensor("x", (1, 8), "int8"), writer.tensor("y", (1, 8), "int8")
    writer.operator("RELU", [x], [y])
    model = schema.ModelT.InitFromPackedBuf(writer.finish([("x", x)], [("y", y)]), 0)
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[0].customCode = name
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("name", builtin_names())
def test_every_profile_gives_a_row_with_rule_and_source_for_every_operator(name: str) -> None:
    fit = inspection.fit(picture_net(), load_profile(name))
    assert fit.fits, fit.reasons
    assert len(fit.rows) >= 7
    for row in fit.rows:
        assert row.rule and row.source and row.precision, row
        assert row.place is fit.best_place
    assert fit.macs == sum(row.macs for row in fit.rows) > 0
    assert fit.parameters > 0 and fit.activation_bytes > 0


def test_work_is_counted_the_same_from_the_graph_and_from_the_file() -> None:
    graph = picture_net()
    from_file = inspection.fit(graph, ARM)
    from_graph = inspection.fit(graph, NPU)
    # first 6x6x16 of 3x3x3, depthwise 6x6x16 of 3x3, pointwise 16 to 16, branch 3x3x16, dense 16 to 10
    by_hand = 36 * 16 * 27 + 36 * 16 * 9 + 36 * 16 * 16 + 36 * 16 * 144 + 160
    assert from_file.macs == from_graph.macs == by_hand


def test_predictions_are_work_over_rate() -> None:
    assert predicted_ms(3_000_000, {"int8": 1e9, "float32": 0.0}) == {"int8": 3.0}
    fit = inspection.fit(picture_net(), ARM)
    assert fit.predicted_ms is not None
    assert fit.predicted_ms["int8"] == pytest.approx(1000 * fit.macs / 3.0e10)
    assert "not a measurement" in fit.summary_fields()["prediction"]


def test_the_cpu_runs_in_float_what_has_no_int8_kernel() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    graph = net.graph(net.node(Op.SIN, [net.conv("x", 8)]))
    fit = inspection.fit(graph, ARM)
    rows = {row.operator.split(" ")[0]: row for row in fit.rows}
    assert (rows["CONV_2D"].precision, rows["SIN"].precision) == ("int8", "float32")
    assert "int8 kernel" in rows["CONV_2D"].rule and "float kernel" in rows["SIN"].rule
    assert any("stay in float: SIN" in reason for reason in fit.reasons)


def test_the_edge_tpu_leaves_the_rest_to_the_cpu_and_says_why() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    y = net.node(Op.LEAKY_RELU, [net.conv("x", 8)], alpha=0.1)
    graph = net.graph(net.conv(y, 8))
    fit = inspection.fit(graph, CORAL)
    assert [row.place for row in fit.rows] == [Place.ACCELERATOR, Place.CPU, Place.CPU]
    assert "LEAKY_RELU is not among" in fit.rows[1].rule
    assert fit.rows[1].source.startswith("coral.ai/") and fit.rows[2].source.startswith("coral.ai/")
    assert fit.on_chip is not None
    assert (fit.on_chip.subgraphs, fit.on_chip.possible_subgraphs) == (1, 2)
    assert not fit.fits  # a third is mapped, half is asked for
    assert "1 of 3 operators on the accelerator (33%), 50% asked for" in fit.reasons


def test_parameters_beyond_the_chip_are_streamed() -> None:
    accelerator = CORAL.accelerator
    assert accelerator is not None
    small = changed(CORAL, accelerator=accelerator.model_copy(update={"memory_bytes": 1000}))
    chip = inspection.fit(picture_net(), small).on_chip
    assert chip is not None
    assert chip.kept_bytes == 1000
    assert chip.kept_bytes + chip.streamed_bytes == chip.parameter_bytes
    whole = inspection.fit(picture_net(), CORAL).on_chip
    assert whole is not None and whole.streamed_bytes == 0


def test_float_inputs_do_not_fit_where_int8_is_asked_for() -> None:
    writer = ModelWriter("test")
    params = QuantParams(np.asarray(0.1, np.float32), np.asarray(3, np.int32))
    x, y = writer.tensor("x", (1, 8), "float32"), writer.tensor("y", (1, 8), "int8", params=params)
    z = writer.tensor("z", (1, 8), "int8", params=params)
    writer.operator("QUANTIZE", [x], [y])
    writer.operator("TANH", [y], [z])
    fit = fit_rows.of_tflite(writer.finish([("x", x)], [("z", z)]), CORAL)
    assert [row.place for row in fit.rows] == [Place.CPU, Place.ACCELERATOR]
    assert not fit.fits
    assert fit.blocked == ("an input or output is not int8; the profile asks for int8 in and out",)


def test_a_file_too_new_for_the_compiler_is_blocked() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    graph = net.graph(net.node(Op.GELU, [net.conv("x", 8)], approximate=False))
    fit = fit_rows.of_tflite(candidates.float_form(graph, "tflite").files[".tflite"], CORAL)
    assert not fit.fits and fit.share(Place.ACCELERATOR) == 0
    assert "the compiler cannot read the file: GELU" in fit.blocked[0]


def test_a_file_compiled_for_the_edge_tpu_runs_nowhere_on_a_cpu() -> None:
    content = with_custom_operator("edgetpu-custom-op")
    on_cpu = fit_rows.of_tflite(content, ARM)
    assert not on_cpu.fits
    assert on_cpu.rows[0].place is Place.NOWHERE
    assert "compiled for the Edge TPU" in on_cpu.reasons[0]
    assert fit_rows.of_tflite(content, CORAL).rows[0].place is Place.ACCELERATOR


def test_the_published_coral_files(shared_data: Path) -> None:
    folder = shared_data / "coral"
    twin = fit_rows.of_tflite((folder / "mobilenet_v1_0.25_128_quant.tflite").read_bytes(), CORAL)
    assert twin.fits and twin.share(Place.ACCELERATOR) == 1.0
    assert twin.on_chip is not None and twin.on_chip.streamed_bytes == 0
    assert twin.macs == pytest.approx(
        13.6e6, rel=0.01
    )  # Howard et al., arXiv:1704.04861, table 7: 14 million
    compiled = (folder / "mobilenet_v1_0.25_128_quant_edgetpu.tflite").read_bytes()
    assert fit_rows.of_tflite(compiled, ARM).rows[0].place is Place.NOWHERE
    broken = fit_rows.of_tflite((folder / "model_invoking_error.tflite").read_bytes(), CORAL)
    assert not broken.fits and "fake-op-double" in broken.rows[0].operator


def test_a_file_that_is_quantized_already_is_judged_as_it_is(tmp_path: Path) -> None:
    content = int8_candidate(picture_net(), "coral-tpu", {"x": pictures(4)}).files[".tflite"]
    (tmp_path / "int8.tflite").write_bytes(content)
    source = read_source(tmp_path / "int8.tflite")
    assert inspection.fit_source(source, CORAL) == fit_rows.of_tflite(content, CORAL)
    assert inspection.fit_source(source, NPU).rows[0].operator.startswith("conv2d")  # written anew


def test_sizes_beyond_the_profile_do_not_fit() -> None:
    rows = [Row("RELU #0", Place.CPU, "rule", "source")]
    assert judge(ARM, rows, 1, 10, ARM.artifact_bytes).fits
    assert not judge(ARM, rows, 1, 10, ARM.artifact_bytes + 1).fits
    assert not judge(ARM, rows, 1, ARM.memory_bytes, 1).fits


def test_the_npu_refuses_open_dimensions_and_operators_that_it_never_took() -> None:
    graph = picture_net()
    assert all(npu_rules.verdict(graph, node)[0] is Place.ACCELERATOR for node in graph.nodes)
    fit = inspection.fit(graph, NPU)
    assert {row.precision for row in fit.rows} <= {"int8", "float16"}
    assert npu_rules.TAKEN.isdisjoint(npu_rules.UNCERTAIN)


def test_the_rows_of_a_pruned_file_are_those_of_the_file() -> None:
    content = int8_candidate(picture_net(), "coral-tpu", {"x": pictures(4)}).files[".tflite"]
    fit = fit_rows.of_tflite(content, ARM)
    assert fit.artifact_bytes == len(content)
    fields = fit.row_fields()
    assert fields[0]["where"] == "cpu" and fields[0]["mapped"] is True
    assert np.isclose(sum(fit.summary_fields()["shares"].values()), 1.0)
