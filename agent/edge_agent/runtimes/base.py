"""What every runtime is to the agent: it says where it could run an artifact, and opens it there.

A runtime is one file in this folder with a constant `RUNTIME`; `registry.py` finds it by its name in
the manifest, `choice.py` picks among them. Tensors here are the artifact's own (names, shapes, codes);
the contract's space is `session.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from edge_contracts.manifest import Artifact
from edge_contracts.profile import RuntimeName

Tensors = dict[str, NDArray[Any]]

CPU = "CPU"


@dataclass(frozen=True)
class Device:
    """A place where a runtime could run an artifact.

    Args:
        name: Such as "CPU", "NPU" or "EDGETPU".
        missing: "" when it can; otherwise precisely what is missing.
    """

    name: str
    missing: str = ""


@dataclass(frozen=True)
class TensorShape:
    """One tensor as the opened file states it.

    Args:
        dtype: numpy's name, such as "int8".
    """

    dtype: str
    shape: tuple[int, ...]


class OpenModel(Protocol):
    """An artifact that is open in a runtime. Not for use by two threads at once."""

    @property
    def inputs(self) -> Mapping[str, TensorShape]:
        """By tensor name."""

    @property
    def outputs(self) -> Mapping[str, TensorShape]:
        """By tensor name."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Answer one sample.

        Args:
            inputs: Every input by tensor name, of exactly the dtype and shape in `inputs`.

        Returns:
            Every output by tensor name; the arrays are the caller's to keep.

        Raises:
            InferenceFailed: The runtime reported an error.
        """

    def close(self) -> None:
        """Give the model's memory back; a closed model cannot run. Closing twice is harmless."""


@runtime_checkable
class Widens(Protocol):
    """An open model whose file may also be opened for several samples at once."""

    def widened(self, samples: int) -> OpenModel:
        """The same file open once more, with a first axis of so many; it is the caller's to close.

        Raises:
            ModelInvalid: It cannot be resized.
        """


class Runtime(Protocol):
    """Something that opens artifacts."""

    @property
    def name(self) -> RuntimeName:
        """As manifests and profiles call it; also the name of its file."""

    def version(self) -> str:
        """What is installed, such as "2.3.0"; "" when nothing is."""

    def devices(self, artifact: Artifact) -> tuple[Device, ...]:
        """Where it could run an artifact, best first; the ones that cannot say why."""

    def open(self, folder: Path, artifact: Artifact, device: str, threads: int = 1) -> OpenModel:
        """Open an artifact.

        Args:
            folder: Of the extracted bundle (`Bundle.extract`).
            device: Name of one of `devices(artifact)` from which nothing is missing.
            threads: At most so many on a CPU.

        Raises:
            RuntimeUnavailable: The device is gone, or the runtime is not installed.
            ModelInvalid: The files are not a model that this runtime can run.
        """
