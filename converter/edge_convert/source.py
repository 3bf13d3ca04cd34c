"""The source model: the file, its float graph, and itself running in its own runtime.

Reading refuses what cannot be converted before anything is written. Whether our graph gives the
source's answers is a gate (`gates.fidelity`), asked in `build.py` with real samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_contracts.digest import digest_of
from edge_convert import importers, passes
from edge_convert.binding import Model, bind_source
from edge_convert.engine import Engine, LiteRtEngine, OpenVinoEngine
from edge_convert.errors import SourceInvalid
from edge_convert.fixed_inputs import NOTHING_FIXED, FixedInputs
from edge_convert.frameworks import reading
from edge_convert.graph import Graph
from edge_convert.samples_axis import Framed, with_samples_axis

_WEIGHT_CODES = ("INT4", "INT8", "UINT8")


@dataclass(frozen=True, eq=False)
class Source:
    """A model to convert.

    Args:
        name: File name without its folder.
        graph: After all exact simplifications; its ports are the contract.
        hybrid: Weights or activations are integers in the file, so its own runtime adds noise to what
            the float graph, which is dequantized, answers.
        content: The file's bytes, with its companions' in them; b"" where a framework reads it.
        fixed: What the user fixed of it.
        codes: It computes in integers throughout, and may be an artifact as it is.
        framed: Ports that have an axis of 1 more in front than the file's tensors.
        size: Bytes of the file with its companions, or of all files of the folder.
        tools: Versions of the framework that read it, where one did.
        framework: The model opened by that framework.
        companions: Files beside it that hold its weights.
    """

    name: str
    digest: str
    format: str
    graph: Graph
    hybrid: bool
    content: bytes
    fixed: FixedInputs = NOTHING_FIXED
    framed: frozenset[str] = frozenset()
    codes: bool = False
    size: int = 0
    tools: Mapping[str, str] = field(default_factory=dict)
    framework: Engine | None = None
    companions: tuple[Path, ...] = ()

    def open(self) -> Model:
        """Open the model itself in its own runtime.

        .tflite in LiteRT; .onnx in OpenVINO, or in ONNX's reference implementation where it refuses; else
        its framework.
        """
        shapes = {p.name: p.shape[p.name in self.framed :] for p in self.graph.inputs}
        engine: Engine
        if self.framework is not None:
            engine = self.framework
        elif self.format == "tflite":
            engine = LiteRtEngine(self.content, shapes)
        else:
            engine = self._open_onnx(shapes)
        return bind_source(self.graph, Framed(engine, self.framed) if self.framed else engine)

    def notes_on(self, own: Model) -> tuple[str, ...]:
        """What is odd about the source running by itself; nothing, usually."""
        if self.format != "onnx" or own.engine.runtime == OpenVinoEngine.runtime:
            return ()
        return (f"OpenVINO does not open the source; its answers are those of {own.engine.runtime}",)

    def _open_onnx(self, shapes: Mapping[str, tuple[int, ...]]) -> Engine:
        from edge_convert.engine_onnx import OnnxReferenceEngine
        from edge_convert.importers.onnx_file import with_values

        content = with_values(self.content, self.fixed) if self.fixed.values else self.content
        try:
            return OpenVinoEngine(content, shapes=shapes)
        except SourceInvalid as refusal:
            # it refuses some branches and some forms of recurrent layers that ONNX allows
            try:
                return OnnxReferenceEngine(content, shapes)
            except SourceInvalid:
                raise refusal from None


def read_source(path: Path, fixed: FixedInputs = NOTHING_FIXED, signature: str = "") -> Source:
    """Read a model file, or a SavedModel folder.

    Args:
        fixed: Sizes that the file leaves open, and inputs that become constants.
        signature: Which of a SavedModel's functions; "" for its only one, or "serving_default".

    Raises:
        SourceInvalid: Not there, of another kind, truncated, with NaN weights, or with operators
            outside the set.
        ModuleNotFoundError: The framework that it needs is not installed.
    """
    kind = reading.kind_of(path)
    if signature and kind != "savedmodel":
        raise SourceInvalid(f"{path.name}: --signature is for SavedModel folders; this file has one function")
    if kind:
        return _of_framework(path, reading.read(path, fixed, signature), fixed)
    graph, framed = with_samples_axis(importers.load(path, fixed))
    graph = passes.simplify(graph)
    content = path.read_bytes()
    digest, size = digest_of(content), len(content)
    is_tflite = content[4:8] == importers.TFLITE_IDENTIFIER
    companions = () if is_tflite else _companions(path, content)
    if companions:
        from edge_convert.importers.onnx_file import parsed

        size += sum(companion.stat().st_size for companion in companions)
        content = parsed(path).SerializeToString()  # with the weights in it, for its own runtime
    return Source(
        name=path.name,
        digest=digest,
        format="tflite" if is_tflite else "onnx",
        # the graph's name reaches the artifacts: it must not depend on where the file lies
        graph=replace(graph, name=path.stem),
        hybrid=_has_integer_weights(content) if is_tflite else _rounds(content),
        content=content,
        fixed=fixed,
        framed=framed,
        codes=is_tflite and not framed and _computes_in_codes(content),
        size=size,
        companions=companions,
    )


def _companions(path: Path, content: bytes) -> tuple[Path, ...]:
    from edge_convert.importers.onnx_file import external_files

    return external_files(path, content)


def _of_framework(path: Path, read: reading.Read, fixed: FixedInputs) -> Source:
    graph, framed = with_samples_axis(read.graph)
    return Source(
        name=path.name,
        digest=read.digest,
        format=read.format,
        graph=replace(passes.simplify(graph), name=path.stem),
        hybrid=False,
        content=b"",
        fixed=fixed,
        framed=framed,
        size=read.size,
        tools=read.tools,
        framework=read.engine,
    )


def _computes_in_codes(content: bytes) -> bool:
    from edge_convert.importers.tflite_file import parse
    from edge_convert.importers.tflite_quantized import is_codes

    file = parse(content)
    return any(is_codes(file.tensors[i]) for i in (*file.inputs, *file.outputs))


def _rounds(content: bytes) -> bool:
    from edge_convert.importers.onnx_file import is_quantized

    return is_quantized(content)


def _has_integer_weights(content: bytes) -> bool:
    from edge_convert.importers.tflite_file import parse

    return any(
        record.type in _WEIGHT_CODES and record.raw is not None and record.quantization is not None
        for record in parse(content).tensors
    )
