"""What the PyTorch child runs: an exported program to ONNX, and the program itself on samples.

torch.onnx's exporter translates it; why not a table of our own is docs/decisions/0026. The archive has
been through `importers/torch_archive.clean`: nothing in it is a pickle or an expression to evaluate.
"""

from __future__ import annotations

import io
from importlib import metadata
from typing import Any

import numpy as np

from edge_convert.errors import SourceInvalid, UnsupportedFeature
from edge_convert.frameworks import wire
from edge_convert.frameworks.wire import Arrays, Header

PACKAGES = ("torch", "onnxscript", "onnx")


class Program:
    """The exported program that this child has open."""

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._module: Any = None

    def convert(self, header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        """Load an archive and write it as ONNX."""
        import onnxscript  # noqa: F401  # said to be missing before anything is done
        import torch

        torch.set_num_threads(1)
        program = torch.export.load(io.BytesIO(arrays[wire.CONTENT].tobytes()))
        _refuse_state(program)
        self._module = program.module(check_guards=False)
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
        if exported is None:
            raise SourceInvalid("PyTorch's exporter gave no model")
        content = exported.model_proto.SerializeToString(deterministic=True)
        versions = {name: metadata.version(name) for name in PACKAGES}
        return {"tools": versions}, {wire.CONTENT: wire.file_array(content)}

    def run(self, header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        """Answer one sample."""
        import torch
        from torch.utils import _pytree as tree

        # a copy, because torch takes no read-only memory
        feeds = [torch.from_numpy(np.array(arrays[str(i)])) for i in range(len(arrays))]
        with torch.no_grad():
            answers = tree.tree_leaves(self._called(feeds))
        return {}, {str(i): answer.numpy() for i, answer in enumerate(answers)}

    def _called(self, feeds: list[Any]) -> Any:
        """Call the module with its inputs where it wants them, keywords and nested tuples included."""
        from torch.utils import _pytree as tree

        words, keywords = tree.tree_unflatten(feeds, self._module._in_spec)
        return self._module(*words, **keywords)


def _refuse_state(program: Any) -> None:
    """Refuse what answers the same input differently the next time."""
    # only the functional form says what is changed in place
    signature = program.run_decompositions({}).graph_signature
    changed = sorted({**signature.buffers_to_mutate, **signature.user_inputs_to_mutate}.values())
    if changed:
        raise UnsupportedFeature(f"the program keeps state between calls, in {', '.join(changed)}")
    if any(not isinstance(name, str) for name in signature.user_outputs):
        raise UnsupportedFeature("an output of the program is a constant, not a tensor")


if __name__ == "__main__":
    program = Program()
    wire.serve({"convert": program.convert, "run": program.run})
