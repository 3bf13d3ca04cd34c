"""Tiny real bundles for agent tests: softmax(W x + b) as float and int8 TFLite and as OpenVINO IR.

Made without the converter: the TFLite files field by field from the flatbuffer schema, the IR from
OpenVINO's own operators. What they should answer is worked out in numpy (`reference`).
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edge_agent.inference.binding import InputBinder, OutputBinder
from edge_agent.runtimes.openvino import import_openvino
from edge_contracts.arrays import write_npz
from edge_contracts.bundle import pack
from edge_contracts.digest import digest_of
from edge_contracts.features import features, make_baseline
from edge_contracts.keys import PrivateKey
from edge_contracts.manifest import (
    FORMAT,
    Artifact,
    Binding,
    DeviceGates,
    FileRef,
    Golden,
    Manifest,
    Provenance,
    Score,
    TensorSpec,
)
from edge_contracts.signing import sign_manifest

Floats = NDArray[np.float32]
KEY = PrivateKey.generate()
LABELS = ("cat", "dog", "fox")
WEIGHTS = np.array(
    [[0.9, -0.4, 0.1, 0.6], [-0.7, 0.8, 0.2, -0.3], [0.2, 0.3, -0.9, 0.5]], np.float32
)  # (classes, inputs), the layout of TFLite's dense layer
BIAS = np.array([0.1, -0.2, 0.05], np.float32)
GOLDEN_X = np.random.default_rng(7).uniform(-2, 2, (16, 4)).astype(np.float32)
INPUT_SCALE, WEIGHT_SCALE, LOGIT_SCALE = 4 / 255, 0.9 / 127, 8 / 255
KINDS = ("float32", "int8", "openvino")

_PROVENANCE = Provenance(
    source_name="tiny.onnx",
    source_digest=digest_of(b"tiny"),
    source_bytes=4,
    calibration=digest_of(b"calibration"),
    recipe="by-hand",
    pruning="none",
    tools={},
)


def reference(x: NDArray[Any]) -> Floats:
    """What the model should answer, in float64."""
    logits = x.astype(np.float64) @ WEIGHTS.T.astype(np.float64) + BIAS
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: Floats = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return scores


def build(
    *kinds: str,
    key: PrivateKey = KEY,
    name: str = "tiny",
    version: str = "1",
    profile: str = "x86-cpu",
    expected: Floats | None = None,
    latency_p95_ms: float = 1000.0,
    min_sqnr_db: float = 20.0,
    artifact: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> bytes:
    """The archive of a signed bundle.

    Args:
        kinds: Of KINDS, in order of preference; "float32" when none is given.
        expected: What its golden inputs should answer, shape (16, 3).
        artifact: Fields of the first artifact to replace.
        files: Contents to put in the place of the right ones, by path.
        manifest: Fields of the manifest to replace.
    """
    contents: dict[str, bytes] = {}
    artifacts = []
    golden: dict[str, NDArray[Any]] = {"input/x": GOLDEN_X}
    for kind in kinds or ("float32",):
        artifacts.append(_artifact(kind, contents, files or {}))
        golden[f"expected/{kind}/scores"] = reference(GOLDEN_X) if expected is None else expected
    if artifact:
        artifacts[0] = artifacts[0].model_copy(update=artifact)
    contents["golden.npz"] = write_npz(golden)
    probes = np.random.default_rng(8).uniform(-2, 2, (400, 4)).astype(np.float32)
    baseline = make_baseline(features({"x": probes}, {"scores": reference(probes)}, "classification"), 3)
    fields: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "profile": profile,
        "task": "classification",
        "inputs": (TensorSpec(name="x", shape=(1, 4), value_range=(-2, 2)),),
        "outputs": (TensorSpec(name="scores", shape=(1, 3)),),
        "labels": LABELS,
        "artifacts": tuple(artifacts),
        "golden": Golden(
            file=_ref("golden.npz", contents), count=16, min_agreement=0.9, min_sqnr_db=min_sqnr_db
        ),
        "baseline": baseline,
        "evaluation": {a.id: Score(samples=400) for a in artifacts},
        "gates": DeviceGates(latency_p95_ms=latency_p95_ms),
        "provenance": _PROVENANCE,
    }
    stated = Manifest.model_validate(fields | dict(manifest or {}))
    return pack(stated, sign_manifest(stated, key), contents)


def around(model: bytes) -> bytes:
    """A bundle around any TFLite file with tensors per sample: its golden answers are its own.

    Inputs and outputs are float32 in the contract; what the file quantizes is bound by its own scales.
    """
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    contents = {"artifacts/model.tflite": model}
    bound: dict[str, tuple[Binding, ...]] = {}
    specs: dict[str, tuple[TensorSpec, ...]] = {}
    for kind in ("inputs", "outputs"):
        details = getattr(interpreter, f"get_{kind[:-1]}_details")()
        names = (
            ["x"] if kind == "inputs" and len(details) == 1 else [f"{kind}{i}" for i in range(len(details))]
        )
        bound[kind] = tuple(_bind(name, detail) for name, detail in zip(names, details, strict=True))
        specs[kind] = tuple(
            TensorSpec(name=b.name, shape=b.shape, value_range=_range(b) if kind == "inputs" else None)
            for b in bound[kind]
        )
    rng = np.random.default_rng(0)
    x: dict[str, NDArray[Any]] = {}
    for spec in specs["inputs"]:
        low, high = spec.value_range or (0.0, 1.0)
        x[spec.name] = rng.uniform(low, high, (8, *spec.shape[1:])).astype(np.float32)
    answers: dict[str, list[NDArray[Any]]] = {b.name: [] for b in bound["outputs"]}
    for row in range(8):
        for spec, b, detail in zip(
            specs["inputs"], bound["inputs"], interpreter.get_input_details(), strict=True
        ):
            interpreter.set_tensor(detail["index"], InputBinder(spec, b)(x[b.name][row : row + 1])[0])
        interpreter.invoke()
        for b, detail in zip(bound["outputs"], interpreter.get_output_details(), strict=True):
            answers[b.name].append(interpreter.get_tensor(detail["index"])[None])
    y = {
        b.name: OutputBinder(spec, b)(np.concatenate(answers[b.name]))
        for b, spec in zip(bound["outputs"], specs["outputs"], strict=True)
    }
    contents["golden.npz"] = write_npz(
        {f"input/{n}": v for n, v in x.items()} | {f"expected/model/{n}": v for n, v in y.items()}
    )
    artifact = Artifact(
        id="model",
        format="tflite",
        precision="int8" if bound["inputs"][0].scale else "float32",
        runtimes=("litert",),
        files=(_ref("artifacts/model.tflite", contents),),
        inputs=bound["inputs"],
        outputs=bound["outputs"],
    )
    stated = Manifest(
        format="edgefleet.manifest/1",
        name="around",
        version="1",
        profile="x86-cpu",
        task="classification",
        inputs=specs["inputs"],
        outputs=specs["outputs"],
        artifacts=(artifact,),
        golden=Golden(file=_ref("golden.npz", contents), count=8, min_agreement=0.9, min_sqnr_db=20),
        baseline=make_baseline(features(x, y, "classification"), y[bound["outputs"][0].name].shape[1]),
        evaluation={},
        gates=DeviceGates(latency_p95_ms=1000),
        provenance=_PROVENANCE,
    )
    return pack(stated, sign_manifest(stated, KEY), contents)


def _bind(name: str, detail: Mapping[str, Any]) -> Binding:
    scale, zero_point = detail["quantization"]
    return Binding(
        name=name,
        tensor=detail["name"],
        dtype=np.dtype(detail["dtype"]).name,
        shape=tuple(int(size) for size in detail["shape"]),
        scale=scale or None,
        zero_point=int(zero_point),
    )


def _range(binding: Binding) -> tuple[float, float]:
    """What the codes can say, or 0 to 1."""
    if binding.scale is None:
        return (0.0, 1.0)
    return ((-128 - binding.zero_point) * binding.scale, (127 - binding.zero_point) * binding.scale)


def _ref(path: str, contents: Mapping[str, bytes]) -> FileRef:
    return FileRef(path=path, digest=digest_of(contents[path]), bytes=len(contents[path]))


def _artifact(kind: str, contents: dict[str, bytes], replaced: Mapping[str, bytes]) -> Artifact:
    bound_in: dict[str, Any] = {"name": "x", "tensor": "x", "dtype": "float32", "shape": (1, 4)}
    bound_out: dict[str, Any] = {"name": "scores", "tensor": "scores", "dtype": "float32", "shape": (1, 3)}
    if kind == "openvino":
        made = dict(zip(("artifacts/tiny.xml", "artifacts/tiny.bin"), openvino_ir(), strict=True))
    else:
        made = {f"artifacts/{kind}.tflite": tflite_int8() if kind == "int8" else tflite_float32()}
    if kind == "int8":
        bound_in |= {"dtype": "int8", "scale": INPUT_SCALE}
        bound_out |= {"dtype": "int8", "scale": 1 / 256, "zero_point": -128}
    contents |= {path: replaced.get(path, content) for path, content in made.items()}
    return Artifact(
        id=kind,
        format="openvino-ir" if kind == "openvino" else "tflite",
        precision="int8" if kind == "int8" else "float32",
        runtimes=("openvino",) if kind == "openvino" else ("litert",),
        files=tuple(_ref(path, contents) for path in made),
        inputs=(Binding(**bound_in),),
        outputs=(Binding(**bound_out),),
    )


@cache
def openvino_ir(batch: int = 1) -> tuple[bytes, bytes]:
    """The model as OpenVINO IR: the .xml, then the .bin; a batch of -1 is of any size."""
    openvino = import_openvino()
    op = importlib.import_module("openvino.opset13")
    x = op.parameter([batch, 4], np.float32, name="x")
    logits = op.add(op.matmul(x, op.constant(WEIGHTS), False, True), op.constant(BIAS[None]))
    model = openvino.Model([op.softmax(logits, 1)], [x], "tiny")
    model.inputs[0].tensor.set_names({"x"})
    model.outputs[0].tensor.set_names({"scores"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


@cache
def tflite_float32() -> bytes:
    """The model in float."""
    none = (None, 0)
    return _tflite(schema.TensorType.FLOAT32, WEIGHTS, BIAS, (none, none, none, none, none), (1, 1))


@cache
def tflite_crashing() -> bytes:
    """A well-formed file that kills its runtime: the dense layer's weights are left out.

    LiteRT 2.3 dies with SIGSEGV (found by changing the file field by field).
    """
    none = (None, 0)
    scales = (none, none, none, none, none)
    return _tflite(schema.TensorType.FLOAT32, WEIGHTS, BIAS, scales, (1, 1), dense=[0, -1, 2])


@cache
def tflite_int8() -> bytes:
    """The model in int8: int8 in and out, symmetric weights, int32 bias."""
    weights = np.rint(WEIGHTS / WEIGHT_SCALE).astype(np.int8)
    bias = np.rint(BIAS / (INPUT_SCALE * WEIGHT_SCALE)).astype(np.int32)
    scales = (
        (INPUT_SCALE, 0),
        (WEIGHT_SCALE, 0),
        (INPUT_SCALE * WEIGHT_SCALE, 0),
        (LOGIT_SCALE, 0),
        (1 / 256, -128),
    )
    return _tflite(schema.TensorType.INT8, weights, bias, scales, (4, 2))


def _tflite(
    dtype: int,
    weights: NDArray[Any],
    bias: NDArray[Any],
    scales: Sequence[tuple[float | None, int]],
    versions: tuple[int, int],
    dense: Sequence[int] = (0, 1, 2),
) -> bytes:
    """FULLY_CONNECTED, then SOFTMAX.

    Args:
        dense: Tensors that the dense layer takes.
        scales: Scale (None for float) and zero point of x, weights, bias, logits and scores.
        versions: Of the two operators.
    """
    model = schema.ModelT()
    model.version = 3
    model.description = "made by a test"
    graph = schema.SubGraphT()
    graph.tensors, model.buffers = [], [_buffer(b"")]
    bias_dtype = schema.TensorType.INT32 if bias.dtype == np.int32 else dtype
    for (name, shape, kind, content), (scale, zero_point) in zip(
        (
            ("x", (1, 4), dtype, b""),
            ("weights", weights.shape, dtype, weights.tobytes()),
            ("bias", bias.shape, bias_dtype, bias.tobytes()),
            ("logits", (1, 3), dtype, b""),
            ("scores", (1, 3), dtype, b""),
        ),
        scales,
        strict=True,
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), kind
        if content:
            tensor.buffer = len(model.buffers)
            model.buffers.append(_buffer(content))
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
        graph.tensors.append(tensor)
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    graph.operators, model.operatorCodes = [], []
    for number, (code, inputs, output, kind, options) in enumerate(
        (
            (
                schema.BuiltinOperator.FULLY_CONNECTED,
                list(dense),
                3,
                schema.BuiltinOptions.FullyConnectedOptions,
                schema.FullyConnectedOptionsT(),
            ),
            (schema.BuiltinOperator.SOFTMAX, [3], 4, schema.BuiltinOptions.SoftmaxOptions, softmax),
        )
    ):
        operator_code = schema.OperatorCodeT()
        operator_code.builtinCode = operator_code.deprecatedBuiltinCode = code
        operator_code.version = versions[number]
        model.operatorCodes.append(operator_code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = number, inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [0], [4]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _buffer(content: bytes) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8) if content else None
    return buffer
