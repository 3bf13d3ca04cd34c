"""What the TensorFlow child runs: a Keras file or a SavedModel to float TensorFlow Lite, and itself.

Both become one function of named tensors with a batch of one; TensorFlow's own converter writes that
without any optimization, and the same function answers samples.
"""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_convert.errors import SourceInvalid, UnsupportedFeature
from edge_convert.fixed_inputs import FixedInputs
from edge_convert.frameworks import wire
from edge_convert.frameworks.wire import Arrays, Header
from edge_convert.importers import keras_config

DEFAULT_SIGNATURE = "serving_default"
_MAX_UNPACKED_BYTES = 2 << 30
# operators that touch files, print or call back into Python, in a graph that is to be run
_REACH_OUT = frozenset(
    {
        "EagerPyFunc", "PyFunc", "PyFuncStateless", "ReadFile", "WriteFile", "MatchingFiles", "PrintV2",
        "Print", "WholeFileReaderV2", "TextLineReaderV2", "FixedLengthRecordReaderV2", "TFRecordReaderV2",
        "SqlDataset", "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDatasetV2",
        "LoadDataset", "SaveDataset", "SaveDatasetV2", "DebugIdentityV2", "DebugIdentityV3", "RpcCall",
        "RpcClient", "DataServiceDatasetV4", "RegisterDatasetV2", "WriteSummary", "CreateSummaryFileWriter",
        "CollectiveReduceV2", "Restore", "RestoreSlice", "Save", "SaveSlices",
    }
)  # fmt: skip
# every SavedModel has these for its variables; a signature has no use for them
_OF_VARIABLES = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"})


@dataclass(frozen=True)
class Named:
    """One input or output.

    Args:
        name: The model's own.
        shape: None where it is open.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: Any


@dataclass(frozen=True)
class Opened:
    """A model as a function.

    Args:
        call: Takes tensors in the order of the inputs, gives them in that of the outputs.
        keeper: Holds the variables.
    """

    inputs: Sequence[Named]
    outputs: Sequence[str]
    call: Callable[[Sequence[Any]], Sequence[Any]]
    keeper: Any


class Program:
    """The model that this child has open."""

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._function: Any = None
        self._keeper: Any = None  # a function does not keep its variables alive

    def convert(self, header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        """Open a model and write it as TensorFlow Lite."""
        if importlib.util.find_spec("tensorflow") is None:
            raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
        path = Path(header["path"])
        if header["kind"] == "keras":
            keras_config.check(_config_of(path))  # before seconds are spent on an import

        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        opened = (_saved_model if header["kind"] == "savedmodel" else _keras)(path, header["signature"])
        fixed = FixedInputs({name: tuple(shape) for name, shape in header["shapes"].items()})
        fixed.check_used([port.name for port in opened.inputs], ())
        specs = [
            tf.TensorSpec(fixed.of(port.name, port.shape), port.dtype, name=f"input_{i}")
            for i, port in enumerate(opened.inputs)
        ]

        @tf.function(input_signature=specs, autograph=False)  # type: ignore[untyped-decorator]
        def model(*feeds: Any) -> Sequence[Any]:
            return opened.call(feeds)

        self._function, self._keeper = model.get_concrete_function(), opened.keeper
        _refuse_reaching_out(self._function.graph.as_graph_def(), _REACH_OUT | _OF_VARIABLES)
        # from_saved_model would leave the variables in the file as resources
        frozen = convert_variables_to_constants_v2(self._function)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        content = converter.convert()
        reply = {
            "inputs": [port.name for port in opened.inputs],
            "outputs": list(opened.outputs),
            "tools": {"tensorflow": tf.__version__, "keras": tf.keras.__version__},
        }
        return reply, {wire.CONTENT: wire.file_array(content)}

    def run(self, header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        """Answer one sample."""
        import tensorflow as tf

        answers = self._function(*(tf.constant(arrays[str(i)]) for i in range(len(arrays))))
        return {}, {str(i): answer.numpy() for i, answer in enumerate(answers)}


# --- Keras ---------------------------------------------------------------------------------------


def _keras(path: Path, signature: str) -> Opened:
    if signature:
        raise UnsupportedFeature(
            f"a Keras file has one signature; --signature {signature!r} is for SavedModel folders"
        )
    import keras

    model = keras.models.load_model(path, compile=False, safe_mode=True)
    inputs = getattr(model, "inputs", None)
    if not inputs or not getattr(model, "outputs", None):
        raise UnsupportedFeature("the model does not say its input shapes; build it, or export a SavedModel")
    structure = getattr(model, "_inputs_struct", None)
    # a Sequential has no names for its outputs; a functional model names them after their layers, too
    names = list(getattr(model, "output_names", None) or [model.layers[-1].name])

    def call(feeds: Sequence[Any]) -> Sequence[Any]:
        # a functional model takes its inputs nested as it was made with them
        packed = keras.tree.pack_sequence_as(structure, list(feeds)) if structure is not None else feeds[0]
        return list(keras.tree.flatten(model(packed, training=False)))

    return Opened([Named(t.name, tuple(t.shape), t.dtype) for t in inputs], names, call, model)


def _config_of(path: Path) -> bytes | str:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > _MAX_UNPACKED_BYTES:
                raise SourceInvalid(
                    f"the file unpacks to {unpacked} bytes, at most {_MAX_UNPACKED_BYTES} are read"
                )
            if "config.json" not in archive.namelist():
                raise SourceInvalid(
                    "the archive has no config.json; expected what model.save('model.keras') writes"
                )
            return archive.read("config.json")
    import h5py

    if not h5py.is_hdf5(path):
        raise SourceInvalid("neither a .keras archive nor an HDF5 file, or damaged")
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
    if config is None:
        raise SourceInvalid("the file holds weights without a model; save the whole model with model.save()")
    return bytes(config) if isinstance(config, bytes) else str(config)


# --- SavedModel ----------------------------------------------------------------------------------


def _saved_model(path: Path, signature: str) -> Opened:
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    stored = saved_model_pb2.SavedModel()
    try:
        stored.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError:
        raise SourceInvalid("saved_model.pb is not a SavedModel, or is damaged") from None
    for graph in stored.meta_graphs:
        _refuse_reaching_out(graph.graph_def, _REACH_OUT)
    loaded = tf.saved_model.load(str(path))
    name, function = _chosen(dict(loaded.signatures), signature)
    keywords = function.structured_input_signature[1]
    inputs = [Named(key, _shape(spec, key), spec.dtype) for key, spec in _in_order(function, keywords)]
    outputs = sorted(function.structured_outputs)

    def call(feeds: Sequence[Any]) -> Sequence[Any]:
        answers = function(**{port.name: feed for port, feed in zip(inputs, feeds, strict=True)})
        return [answers[key] for key in outputs]

    if not inputs or not outputs:
        raise UnsupportedFeature(f"signature {name!r} has no inputs or no outputs")
    return Opened(inputs, outputs, call, loaded)


def _chosen(signatures: dict[str, Any], wanted: str) -> tuple[str, Any]:
    if not signatures:
        raise SourceInvalid(
            "the SavedModel has no signature; save it with tf.saved_model.save(..., signatures=...)"
        )
    known = ", ".join(sorted(signatures))
    if wanted and wanted not in signatures:
        raise SourceInvalid(f"the SavedModel has no signature {wanted!r}; it has {known}")
    name = wanted or (next(iter(signatures)) if len(signatures) == 1 else DEFAULT_SIGNATURE)
    if name not in signatures:
        raise SourceInvalid(f"the SavedModel has several signatures ({known}); choose one with --signature")
    return name, signatures[name]


def _in_order(function: Any, keywords: dict[str, Any]) -> list[tuple[str, Any]]:
    """Inputs in the order of the function's own placeholders; a signature's keywords are sorted."""
    order = [tensor.name.split(":")[0] for tensor in function.inputs]
    return sorted(keywords.items(), key=lambda item: (_place(order, f"{item[0]}"), item[0]))


def _place(order: list[str], key: str) -> int:
    found = [i for i, name in enumerate(order) if name in (key, f"{DEFAULT_SIGNATURE}_{key}")]
    return found[0] if found else len(order)


def _shape(spec: Any, name: str) -> tuple[int | None, ...]:
    if spec.shape.rank is None:
        raise UnsupportedFeature(f"input {name!r} has no known rank; export fixed sizes")
    return tuple(spec.shape.as_list())


def _refuse_reaching_out(graph: Any, operators: frozenset[str]) -> None:
    """Refuse operators that touch anything but numbers."""
    for nodes in (graph.node, *(f.node_def for f in graph.library.function)):
        for node in nodes:
            if node.op in operators:
                raise UnsupportedFeature(
                    f"operator {node.op} of node {node.name!r:.80} reaches outside the model, "
                    "and cannot be converted"
                )


if __name__ == "__main__":
    program = Program()
    wire.serve({"convert": program.convert, "run": program.run})
