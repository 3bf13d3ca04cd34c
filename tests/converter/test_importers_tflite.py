"""TensorFlow Lite sources: the graph must give what LiteRT gives on the file, or be refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_cases import CASES, Case, feeds_of, graph_of, run

from edge_convert.emitters.tflite import emit
from edge_convert.emitters.tflite_writer import ModelWriter
from edge_convert.errors import ConvertError, SourceInvalid, UnsupportedFeature, UnsupportedOperator
from edge_convert.fixed_inputs import FixedInputs
from edge_convert.graph import Array, Graph, Op
from edge_convert.importers.tflite import read
from edge_convert.importers.tflite_sparsity import densify
from edge_convert.reference import apply
from edge_convert.reference import run as reference_run
from edge_convert.source import read_source

FLOAT_MODELS = [
    "ad_autoencoder_float32",
    "ad_autoencoder_float32_ref",
    "ic_resnet8_float32",
    "kws_dscnn_float32",
    "vww_mobilenetv1_float32",
]


def evaluate(graph: Graph, feeds: Sequence[Array]) -> list[Array]:
    """The graph in numpy, node by node."""
    values = {name: t.data for name, t in graph.tensors.items() if t.data is not None}
    values |= {port.tensor: feed for port, feed in zip(graph.inputs, feeds, strict=True)}
    for node in graph.nodes:
        values[node.output] = apply(node, [values[name] for name in node.inputs])
        assert values[node.output].shape == graph.tensor(node.output).shape
    return [values[port.tensor] for port in graph.outputs]


def saved(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "source.tflite"
    path.write_bytes(content)
    return path


# --- real models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_a_real_model_comes_back_as_it_was(shared_data: Path, name: str) -> None:
    path = shared_data / "models" / f"{name}.tflite"
    graph = read(path)
    feeds = [np.random.default_rng(4).uniform(-1, 1, p.shape).astype(np.float32) for p in graph.inputs]
    original = run(path.read_bytes(), feeds)
    np.testing.assert_allclose(run(emit(graph), feeds)[0], original[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(evaluate(graph, feeds)[0], original[0], rtol=1e-4, atol=1e-4)


def test_a_hybrid_model_gives_its_dequantized_w(shared_data: Path) -> None:
    path = shared_data / "models" / "kws_dscnn_dynrange_ref.tflite"
    graph = read(path)
    assert {t.dtype for t in graph.tensors.values()} == {"float32"}
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    tensors = model.subgraphs[0].tensors
    hybrid = [t for t in tensors if t.type == schema.TensorType.INT8]
    assert hybrid
    for tensor in hybrid:
        codes = np.frombuffer(model.buffers[tensor.buffer].data.tobytes(), np.int8).reshape(tensor.shape)
        scale = tensor.quantization.scale
        assert scale.size == 1
        np.testing.assert_allclose(graph.constant(tensor.name.decode()), codes * scale[0], rtol=1e-6, atol=0)
    feeds = [np.random.default_rng(4).uniform(-1, 1, p.shape).astype(np.float32) for p in graph.inputs]
    # the hybrid kernel quantizes its activations too: close, not equal
    np.testing.assert_allclose(run(emit(graph), feeds)[0], run(path.read_bytes(), feeds)[0], atol=0.05)


def test_ports_are_the_sources_own(shared_data: Path) -> None:
    graph = read(shared_data / "models" / "ic_resnet8_float32.tflite")
    (port,) = graph.inputs
    assert (port.name, port.shape, port.perm, port.layout) == ("input_1", (1, 32, 32, 3), None, "NHWC")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (
            "coral/mobilenet_v1_0.25_128_quant_edgetpu.tflite",
            r"compiled for the Edge TPU, cannot be a source",
        ),
        ("README.md", r"not a TensorFlow Lite file"),
    ],
)
def test_a_real_file_that_is_no_float_model_is_refused(shared_data: Path, file: str, words: str) -> None:
    with pytest.raises(SourceInvalid, match=words):
        read(shared_data / file)


# --- every operator that our writer can write comes back -----------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
@pytest.mark.parametrize("weights", ["float32", "float16"])
def test_what_was_written_reads_back(tmp_path: Path, case: Case, weights: Any) -> None:
    rng = np.random.default_rng(5)
    content = emit(graph_of(case, rng), weights=weights)
    feeds = feeds_of(case, rng)
    graph = read(saved(tmp_path, content))
    np.testing.assert_allclose(evaluate(graph, feeds)[0], run(content, feeds)[0], rtol=1e-5, atol=2e-5)


# --- what only sources say ------------------------------------------------------------------------


@dataclass
class Source:
    """One operator of a source file; LiteRT says what it computes."""

    code: str
    inputs: Sequence[Any]  # a shape is fed, an array is a constant
    outputs: Sequence[tuple[int, ...]]
    options: Any = None
    fields: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    types: Sequence[str] = ("float32",)

    @property
    def id(self) -> str:
        return f"{self.code} {self.label}".strip()

    def content(self) -> bytes:
        writer = ModelWriter("test")
        fed, indices = [], []
        for number, given in enumerate(self.inputs):
            if isinstance(given, tuple):
                indices.append(writer.tensor(f"x{number}", given, "float32"))
                fed.append((f"x{number}", indices[-1]))
            else:
                data = np.asarray(given)
                indices.append(writer.tensor(f"c{number}", data.shape, str(data.dtype), data))
        outputs = [
            writer.tensor(f"y{i}", shape, self.types[min(i, len(self.types) - 1)])
            for i, shape in enumerate(self.outputs)
        ]
        made = None
        if self.options:
            made = getattr(schema, f"{self.options}OptionsT")()
            for name, value in self.fields.items():
                assert hasattr(made, name)
                setattr(made, name, value)
        writer.operator(self.code, indices, outputs, made)
        return writer.finish(fed, [(f"y{i}", index) for i, index in enumerate(outputs)])


def i32(*values: Any) -> Array:
    return np.array(values, np.int32)


def w(*shape: int) -> Array:
    return np.random.default_rng(6).uniform(-1, 1, shape).astype(np.float32)


X = (1, 6, 5, 4)
S = Source
UNIT = {"strideH": 1, "strideW": 1}
CONV = {"strideH": 2, "strideW": 2, "padding": 0}
POOL = {"filterHeight": 3, "filterWidth": 2, **CONV}
STRIDED = "StridedSlice"
SOURCES = [
    S("CONV_2D", [X, w(3, 3, 3, 4), w(3)], [(1, 3, 3, 3)], "Conv2D", CONV, "SAME"),
    S("CONV_2D", [(1, 5, 6, 4), w(3, 2, 4, 4), w(3)], [(1, 3, 3, 3)], "Conv2D", CONV, "uneven"),
    S(
        "CONV_2D",
        [X, w(3, 3, 3, 4), w(3)],
        [(1, 6, 5, 3)],
        "Conv2D",
        {
            "strideH": 1,
            "strideW": 1,
            "dilationHFactor": 2,
            "dilationWFactor": 2,
            "fusedActivationFunction": 3,
        },
        "dilated, relu6",
    ),
    S(
        "DEPTHWISE_CONV_2D",
        [X, w(1, 3, 3, 8), w(8)],
        [(1, 3, 3, 8)],
        "DepthwiseConv2D",
        {**CONV, "depthMultiplier": 2},
    ),
    S(
        "TRANSPOSE_CONV",
        [i32(1, 11, 9, 3), w(3, 3, 3, 4), X],
        [(1, 11, 9, 3)],
        "TransposeConv",
        CONV,
        "SAME, no bias",
    ),
    S(
        "TRANSPOSE_CONV",
        [i32(1, 13, 11, 3), w(3, 3, 3, 4), X, w(3)],
        [(1, 13, 11, 3)],
        "TransposeConv",
        {**CONV, "padding": 1},
        "VALID",
    ),
    S("AVERAGE_POOL_2D", [X], [(1, 3, 3, 4)], "Pool2D", {**POOL, "fusedActivationFunction": 1}, "relu"),
    S("MAX_POOL_2D", [X], [(1, 3, 3, 4)], "Pool2D", {**POOL, "fusedActivationFunction": 3}, "relu6"),
    S("L2_POOL_2D", [X], [(1, 3, 3, 4)], "Pool2D", POOL),
    S("FULLY_CONNECTED", [(1, 2, 6), w(3, 12), w(3)], [(1, 3)], "FullyConnected", {}, "flattens"),
    S("FULLY_CONNECTED", [(1, 2, 6), w(3, 6), w(3)], [(2, 3)], "FullyConnected", {}, "rows"),
    S(
        "FULLY_CONNECTED",
        [(1, 2, 6), w(3, 6), w(3)],
        [(1, 2, 3)],
        "FullyConnected",
        {"keepNumDims": True},
        "keeps",
    ),
    S("CONCATENATION", [X, (1, 6, 5, 2)], [(1, 6, 5, 6)], "Concatenation", {"axis": -1}, "last axis"),
    S("RESHAPE", [X, i32(1, -1, 4)], [(1, 30, 4)], "Reshape", {}, "rest"),
    S("SQUEEZE", [(1, 1, 5, 1)], [(5,)], "Squeeze", {"squeezeDims": i32()}, "all"),
    S("SQUEEZE", [(1, 1, 5, 1)], [(1, 5, 1)], "Squeeze", {"squeezeDims": i32(1)}, "one"),
    S("EXPAND_DIMS", [(2, 3), np.array(-1, np.int32)], [(2, 3, 1)], "ExpandDims"),
    S("SPLIT", [np.array(3, np.int32), X], [(1, 6, 5, 2)] * 2, "Split", {"numSplits": 2}),
    S(
        "SPLIT_V",
        [X, i32(1, -1, 2), np.array(1, np.int32)],
        [(1, 1, 5, 4), (1, 3, 5, 4), (1, 2, 5, 4)],
        "SplitV",
        {"numSplits": 3},
    ),
    S("UNPACK", [(2, 3, 4)], [(2, 4)] * 3, "Unpack", {"num": 3, "axis": 1}),
    S("PACK", [(2, 4), (2, 4)], [(2, 2, 4)], "Pack", {"valuesCount": 2, "axis": 1}),
    S(
        "STRIDED_SLICE",
        [X, i32(0, 1, -3, 0), i32(0, 5, -1, 4), i32(1, 2, 1, 1)],
        [(1, 2, 2, 4)],
        STRIDED,
        {"beginMask": 1, "endMask": 1},
        "masks",
    ),
    S(
        "STRIDED_SLICE",
        [X, i32(0, 2, 0, 0), i32(1, 3, 5, 4), i32(1, 1, 1, 1)],
        [(1, 5, 4)],
        STRIDED,
        {"shrinkAxisMask": 2},
        "shrinks",
    ),
    S(
        "STRIDED_SLICE",
        [(2, 3), i32(0, 0), i32(2, 0), i32(1, 1)],
        [(2, 1, 3)],
        STRIDED,
        {"newAxisMask": 2},
        "new axis",
    ),
    S(
        "STRIDED_SLICE",
        [X, i32(0, -1), i32(0, 0), i32(1, 1)],
        [(1, 6, 5)],
        STRIDED,
        {"ellipsisMask": 1, "shrinkAxisMask": 2},
        "ellipsis",
    ),
    S("STRIDED_SLICE", [(1, 6), i32(0, -1), i32(1, -7), i32(1, -2)], [(1, 3)], STRIDED, {}, "backwards"),
    S("REVERSE_V2", [X, i32(2)], [X], "ReverseV2"),
    S("SLICE", [X, i32(0, 1, 0, 2), i32(-1, 2, -1, 1)], [(1, 2, 5, 1)], "Slice", {}, "rest"),
    S("ADD_N", [X, X, X], [X], "AddN"),
    S("SQUARE", [X], [X], "Square"),
    S("SQUARED_DIFFERENCE", [X, X], [X], "SquaredDifference"),
    S("RELU_0_TO_1", [X], [X]),
    S("PADV2", [(1, 3), i32([0, 0], [1, 2]), np.array([-4.5], np.float32)], [(1, 6)], "PadV2"),
    S("MEAN", [X, i32(-2, 1)], [(1, 4)], "Reducer", {"keepDims": False}, "axes from the back"),
    S("EQUAL", [X, np.array(0, np.float32)], [X], "Equal", types=["bool"]),
    S("LESS", [X, X], [X], "Less", types=["bool"]),
    S("ARG_MIN", [(1, 7), np.array(1, np.int32)], [(1,)], "ArgMin", {"outputType": 4}, types=["int64"]),
    S("ARG_MAX", [(1, 7), np.array(-1, np.int32)], [(1,)], "ArgMax", {"outputType": 2}, "int32", ["int32"]),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.id)
def test_a_source_operator_gives_what_litert_gives(tmp_path: Path, source: Source) -> None:
    content = source.content()
    graph = read(saved(tmp_path, content))
    rng = np.random.default_rng(7)
    feeds = [rng.uniform(-2, 2, port.shape).astype(np.float32) for port in graph.inputs]
    expected = run(content, feeds)
    got = evaluate(graph, feeds)
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(run(emit(graph), feeds), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_arithmetic_of_a_dynamic_batch_leaves_no_node(tmp_path: Path) -> None:
    """Keras writes a Flatten as SHAPE, STRIDED_SLICE, PACK, RESHAPE."""
    writer = ModelWriter("test")
    x = writer.tensor("x", (1, 3, 4), "float32")
    shape = writer.tensor("shape", (3,), "int32")
    batch = writer.tensor("batch", (), "int32")
    packed = writer.tensor("packed", (2,), "int32")
    y = writer.tensor("y", (1, 12), "float32")
    writer.operator("SHAPE", [x], [shape], schema.ShapeOptionsT())
    cut = schema.StridedSliceOptionsT()
    cut.shrinkAxisMask = 1
    bounds = [writer.tensor(n, (1,), "int32", i32(v)) for n, v in (("begin", 0), ("end", 1), ("strides", 1))]
    writer.operator("STRIDED_SLICE", [shape, *bounds], [batch], cut)
    rest = writer.tensor("rest", (), "int32", np.array(12, np.int32))
    pack = schema.PackOptionsT()
    pack.valuesCount = 2
    writer.operator("PACK", [batch, rest], [packed], pack)
    writer.operator("RESHAPE", [x, packed], [y], schema.ReshapeOptionsT())
    model = schema.ModelT.InitFromPackedBuf(writer.finish([("x", x)], [("y", y)]))
    model.subgraphs[0].tensors[x].shapeSignature = np.array([-1, 3, 4], np.int32)
    graph = read(saved(tmp_path, packed_bytes(model)))
    assert [node.op for node in graph.nodes] == [Op.RESHAPE]
    assert graph.tensor("y").shape == (1, 12)


def test_a_size_computed_from_the_shape_is_known(tmp_path: Path) -> None:
    """Upsampling to twice the size: SHAPE, STRIDED_SLICE, CAST, MUL by 2.0, CAST, RESIZE."""
    writer = ModelWriter("test")
    x = writer.tensor("x", (1, 3, 4, 2), "float32")
    y = writer.tensor("y", (1, 6, 8, 2), "float32")
    shape = writer.tensor("shape", (4,), "int32")
    sides, twice = (writer.tensor(n, (2,), "int32") for n in ("sides", "twice"))
    real, scaled = (writer.tensor(n, (2,), "float32") for n in ("real", "scaled"))
    bounds = [writer.tensor(n, (1,), "int32", i32(v)) for n, v in (("begin", 1), ("end", 3), ("strides", 1))]
    two = writer.tensor("two", (), "float32", np.array(2.0, np.float32))
    writer.operator("SHAPE", [x], [shape], schema.ShapeOptionsT())
    writer.operator("STRIDED_SLICE", [shape, *bounds], [sides], schema.StridedSliceOptionsT())
    writer.operator("CAST", [sides], [real], schema.CastOptionsT())
    writer.operator("MUL", [real, two], [scaled], schema.MulOptionsT())
    writer.operator("CAST", [scaled], [twice], schema.CastOptionsT())
    writer.operator("RESIZE_NEAREST_NEIGHBOR", [x, twice], [y], schema.ResizeNearestNeighborOptionsT())
    graph = read(saved(tmp_path, writer.finish([("x", x)], [("y", y)])))
    assert [(node.op, node.attrs["size"]) for node in graph.nodes] == [(Op.RESIZE_NEAREST, (6, 8))]


def test_a_dynamic_batch_is_fixed_to_one(tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(S("RELU", [(8, 3)], [(8, 3)]).content())
    model.subgraphs[0].tensors[0].shapeSignature = np.array([-1, 3], np.int32)
    graph = read(saved(tmp_path, packed_bytes(model)))
    assert graph.inputs[0].shape == (1, 3)
    assert graph.outputs[0].shape == (1, 3)


def packed_bytes(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_a_file_with_only_the_old_operator_field_is_read(tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(S("RELU", [X], [X]).content())
    for code in model.operatorCodes:
        code.builtinCode = 0  # means ADD
    model.signatureDefs = None
    assert read(saved(tmp_path, packed_bytes(model))).nodes[0].op is Op.RELU


def test_sparse_weights_are_made_dense() -> None:
    """The example of schema.fbs: a 2 x 3 matrix in CSR, rows dense, columns compressed."""
    dense = np.array([[1, 0, 2], [0, 0, 3]], np.float32)
    sparsity = sparsity_table(
        [0, 1],
        [],
        [("dense", 2), ("csr", [0, 2, 3], [0, 2, 2])],
    )
    np.testing.assert_array_equal(densify("w", (2, 3), np.array([1, 2, 3], np.float32), sparsity), dense)


def test_block_sparse_weights_are_made_dense() -> None:
    """A 4 x 4 matrix in blocks of 2 x 2, of which the upper right and the lower left are stored."""
    upper, lower = [[1, 2], [3, 4]], [[5, 6], [7, 8]]
    dense = np.zeros((4, 4), np.float32)
    dense[:2, 2:], dense[2:, :2] = upper, lower
    sparsity = sparsity_table(
        [0, 1, 2, 3],
        [0, 1],
        [("dense", 2), ("csr", [0, 1, 2], [1, 0]), ("dense", 2), ("dense", 2)],
    )
    values = np.array([upper, lower], np.float32).ravel()
    np.testing.assert_array_equal(densify("w", (4, 4), values, sparsity), dense)


@pytest.mark.parametrize(
    "levels",
    [
        [("dense", 2), ("csr", [0, 2, 9], [0, 2, 2])],
        [("dense", 2), ("csr", [0, 2], [0, 2, 2])],
        [("dense", 2), ("csr", [0, 2, 3], [0, 2, 7])],
        [("dense", 2**30), ("csr", [0, 2, 3], [0, 2, 2])],
        [("dense", 2)],
    ],
)
def test_a_damaged_sparse_format_is_refused(levels: list[Any]) -> None:
    with pytest.raises(SourceInvalid, match="sparse tensor 'w'"):
        densify("w", (2, 3), np.array([1, 2, 3], np.float32), sparsity_table([0, 1], [], levels))


def sparsity_table(order: list[int], block_map: list[int], levels: list[Any]) -> Any:
    entry = schema.SparsityParametersT()
    entry.traversalOrder, entry.blockMap, entry.dimMetadata = i32(*order), i32(*block_map), []
    for level in levels:
        metadata = schema.DimensionMetadataT()
        if level[0] == "dense":
            metadata.format, metadata.denseSize = schema.DimensionType.DENSE, level[1]
        else:
            metadata.format = schema.DimensionType.SPARSE_CSR
            metadata.arraySegmentsType = metadata.arrayIndicesType = schema.SparseIndexVector.Int32Vector
            metadata.arraySegments, metadata.arrayIndices = schema.Int32VectorT(), schema.Int32VectorT()
            metadata.arraySegments.values, metadata.arrayIndices.values = i32(*level[1]), i32(*level[2])
        entry.dimMetadata.append(metadata)
    builder = flatbuffers.Builder(256)
    builder.Finish(entry.Pack(builder))
    return schema.SparsityParameters.GetRootAs(bytes(builder.Output()), 0)


# --- refusals -------------------------------------------------------------------------------------


def test_every_operator_outside_the_set_is_named_once(tmp_path: Path) -> None:
    writer = ModelWriter("test")
    x = writer.tensor("x", (1, 4), "float32")
    names = [writer.tensor(f"t{i}", (1, 4), "float32") for i in range(4)]
    for code, source, target in zip(
        ("FLOOR_MOD", "RELU", "FLOOR_MOD", "CUMSUM"), [x, *names], names, strict=False
    ):
        writer.operator(code, [source, source] if code != "RELU" else [source], [target])
    content = writer.finish([("x", x)], [("y", names[-1])])
    with pytest.raises(UnsupportedOperator, match=r"set: FLOOR_MOD \(#0\), CUMSUM \(#3\)$"):
        read(saved(tmp_path, content))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (S("RESHAPE", [X, i32(7, 7)], [(7, 7)], "Reshape"), r"RESHAPE #0: .*cannot take the shape \(7, 7\)"),
        (S("ADD", [X, (1, 3)], [X], "Add"), r"ADD #0: .*do not go together"),
        (S("TRANSPOSE", [X, i32(0, 1, 2, 2)], [X], "Transpose"), r"TRANSPOSE #0: .*no permutation"),
        (S("SLICE", [X, i32(0, 9, 0, 0), i32(1, 1, 1, 1)], [(1, 1, 1, 1)], "Slice"), r"SLICE #0: .*leave"),
        (
            S("CONCATENATION", [X, X], [X], "Concatenation", {"axis": 1, "fusedActivationFunction": 1}),
            r"CONCATENATION #0: .*activation",
        ),
        (S("ADD", [X, X], [X], "Add", {"fusedActivationFunction": 5}), r"ADD #0: fused activation 5"),
        (
            S("CONV_2D", [X, w(3, 9, 9, 4)], [X], "Conv2D", {**UNIT, "padding": 1}),
            r"CONV_2D #0: .*positive",
        ),
        (S("CONV_2D", [X, w(3, 1, 1, 4)], [X], "Conv2D"), r"CONV_2D #0: strides \(0, 0\)"),
    ],
    ids=lambda v: v.id if isinstance(v, Source) else "",
)
def test_an_impossible_use_is_refused_with_its_operator(tmp_path: Path, source: Source, words: str) -> None:
    with pytest.raises(UnsupportedFeature, match=words):
        read(saved(tmp_path, source.content()))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            S("CONV_2D", [X, w(3, 1, 1, 4), w(5)], [X], "Conv2D", UNIT),
            r"shape \[5\]; expected \[3\]",
        ),
        (S("CONV_2D", [X, w(3, 1, 1, 2), w(3)], [X], "Conv2D", UNIT), "cannot be grouped"),
        (S("CONV_2D", [X, i32(*range(12)).reshape(3, 1, 1, 4)], [X], "Conv2D", UNIT), "types .*'int32'"),
        (S("UNPACK", [(1, 2**24)], [(1,)] * 2, "Unpack", {"num": 2, "axis": 1}), "2 parts along axis 1"),
        (S("PRELU", [X, w(3)], [X]), r"slopes of shape \[3\]"),
        (S("BATCH_MATMUL", [(1, 2, 3), (1, 4, 5)], [(1, 2, 5)], "BatchMatMul"), "cannot be multiplied"),
        (S("MIRROR_PAD", [(1, 3), i32([0, 0], [3, 0])], [(1, 6)], "MirrorPad"), "mirror more than"),
    ],
    ids=lambda v: v.id if isinstance(v, Source) else "",
)
def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path, source: Source, words: str) -> None:
    with pytest.raises(UnsupportedFeature, match=words):
        read(saved(tmp_path, source.content()))


def test_the_options_of_another_operator_are_refused(tmp_path: Path) -> None:
    for options in ("Add", None):
        content = S("CONV_2D", [X, w(3, 1, 1, 4)], [X], options).content()
        with pytest.raises(SourceInvalid, match="CONV_2D #0: its options are missing or of another operator"):
            read(saved(tmp_path, content))


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    bad = w(3, 12)
    bad[1, 2:4] = np.nan
    content = S("FULLY_CONNECTED", [(1, 12), bad], [(1, 3)], "FullyConnected").content()
    with pytest.raises(SourceInvalid, match=r"tensor 'c1' has 2 of 36 elements that are NaN or infinite"):
        read(saved(tmp_path, content))


def test_a_dynamic_size_other_than_the_batch_is_refused_with_what_helps(tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(S("RELU", [X], [X]).content())
    model.subgraphs[0].tensors[0].shapeSignature = np.array([-1, -1, 5, 4], np.int32)
    path = saved(tmp_path, packed_bytes(model))
    with pytest.raises(
        UnsupportedFeature, match=r"'x0' has shape .*dynamic dimension 1; fix it: --input-shape"
    ):
        read(path)


def test_a_dynamic_size_is_what_the_user_says(tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(S("RELU", [X], [X]).content())
    model.subgraphs[0].tensors[0].shapeSignature = np.array([-1, -1, 5, 4], np.int32)
    source = read_source(saved(tmp_path, packed_bytes(model)), FixedInputs({"": (1, 9, 5, 4)}))
    x = np.random.default_rng(1).standard_normal((2, 9, 5, 4)).astype(np.float32)
    for answers in (reference_run(source.graph, {"x0": x}), source.open().run({"x0": x})):
        np.testing.assert_array_equal(next(iter(answers.values())), np.maximum(x, 0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"TFL3", "not a TensorFlow Lite file"),
        (b"\x08\x00\x00\x00TFL3" + bytes(8), "damaged|no subgraph"),
        (np.random.default_rng(0).bytes(4096), "not a TensorFlow Lite file"),
        (b"\x1c\x00\x00\x00TFL3" + np.random.default_rng(0).bytes(4096), "damaged|claims|no subgraph"),
    ],
    ids=["empty", "identifier only", "zeros", "noise", "noise behind the identifier"],
)
def test_what_is_no_model_is_refused_on_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(SourceInvalid, match=words) as refused:
        read(saved(tmp_path, content))
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("source.tflite: ")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceInvalid, match=r"nothing\.tflite: No such file"):
        read(tmp_path / "nothing.tflite")


def small_model() -> bytes:
    """A convolution, a reshape and a dense layer: a few kilobytes with every kind of table."""
    writer = ModelWriter("test")
    conv = schema.Conv2DOptionsT()
    conv.strideH = conv.strideW = 1
    x = writer.tensor("x", (1, 4, 4, 2), "float32")
    k, b = w(3, 3, 3, 2), w(3)
    kernel, bias = writer.tensor("k", k.shape, "float32", k), writer.tensor("b", b.shape, "float32", b)
    a = writer.tensor("a", (1, 4, 4, 3), "float32")
    writer.operator("CONV_2D", [x, kernel, bias], [a], conv)
    flat = writer.tensor("flat", (1, 48), "float32")
    shape = writer.tensor("shape", (2,), "int32", i32(1, 48))
    writer.operator("RESHAPE", [a, shape], [flat], schema.ReshapeOptionsT())
    d = w(5, 48)
    dense = writer.tensor("d", d.shape, "float32", d)
    y = writer.tensor("y", (1, 5), "float32")
    writer.operator("FULLY_CONNECTED", [flat, dense], [y], schema.FullyConnectedOptionsT())
    return writer.finish([("x", x)], [("y", y)])


def test_damaged_bytes_are_refused_or_read_but_never_crash(tmp_path: Path) -> None:
    """Every byte outside the weights flipped in two ways, and every length: only ConvertError may come."""
    content = small_model()
    path = tmp_path / "source.tflite"
    weight_bytes = {
        position
        for data in (w(3, 3, 3, 2), w(5, 48))
        for start in [content.index(data.tobytes())]
        for position in range(start, start + data.nbytes)
    }
    refused = 0
    structure = [p for p in range(len(content)) if p not in weight_bytes]
    for position in structure:
        for flip in (0xFF, 0x01 << (position % 8)):
            damaged = bytearray(content)
            damaged[position] ^= flip
            refused += _refused(path, bytes(damaged))
    assert refused > len(structure) // 4
    for length in range(0, len(content), 7):
        refused += _refused(path, content[:length])


def _refused(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        read(path)
    except ConvertError as error:
        assert "\n" not in str(error)
        return True
    return False


def test_a_truncated_real_model_is_refused(shared_data: Path, tmp_path: Path) -> None:
    content = (shared_data / "models" / "ic_resnet8_float32.tflite").read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        assert _refused(tmp_path / "source.tflite", content[: int(len(content) * share)])
