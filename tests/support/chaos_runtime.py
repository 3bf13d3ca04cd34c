"""A real runtime with faults on command: it opens the LiteRT file, and misbehaves as a device would.

What it does is written in a file (`CHAOS_FILE`), so that a test can change it while a child runs:
a word, and after it a count of how often ("crash 1": once). Without a word it is LiteRT. It is found
like any vendor's runtime, by an entry point (`chaos.install`), here and in the children.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_agent.errors import InferenceFailed, RuntimeUnavailable
from edge_agent.runtimes import litert
from edge_agent.runtimes.base import Device, Tensors, TensorShape
from edge_contracts.manifest import Artifact

CHAOS_FILE = "EDGEFLEET_CHAOS"
LEAKED: list[bytearray] = []


def order(take: bool = True) -> str:
    """What to do now."""
    path = Path(os.environ[CHAOS_FILE])
    word, _, count = path.read_text().strip().partition(" ")
    if count and take:
        left = int(count) - 1
        path.write_text(f"{word} {left}" if left else "")
    return word


def misbehave(word: str) -> None:
    """Do what a broken driver does."""
    if word == "crash":
        print("the accelerator is gone", file=sys.stderr, flush=True)
        ctypes.string_at(0)  # SIGSEGV
    elif word == "hang":
        # PyDLL keeps the interpreter's lock, as native code does that forgets to let it go
        ctypes.PyDLL(None).sleep(600)
    elif word == "slow":
        time.sleep(0.3)
    elif word == "leak":
        LEAKED.append(bytearray(os.urandom(1 << 20) * 8))
    elif word == "error":
        raise InferenceFailed("the accelerator says no")
    elif word == "chatter":
        os.write(2, b"warning: the accelerator is warm\n" * 2000)


class ChaosModel:
    """An open model that does as it is told."""

    def __init__(self, model: litert.TfliteModel) -> None:
        self._model = model
        self.inputs: Mapping[str, TensorShape] = model.inputs
        self.outputs: Mapping[str, TensorShape] = model.outputs

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Answer, or not."""
        word = order()
        misbehave(word)
        answer = self._model.run(inputs)
        return (
            {name: values[..., ::-1].copy() for name, values in answer.items()} if word == "wrong" else answer
        )

    def close(self) -> None:
        """Close."""
        self._model.close()


class Chaos:
    """The runtime `chaos` with its device TPU."""

    name = "chaos"

    def version(self) -> str:
        """A version that a test can change."""
        return os.environ.get("EDGEFLEET_CHAOS_VERSION", "1.0")

    def devices(self, artifact: Artifact) -> tuple[Device, ...]:
        """Its accelerator."""
        return (Device("TPU", "it is unplugged" if order(take=False) == "unplugged" else ""),)

    def open(self, folder: Path, artifact: Artifact, device: str, threads: int = 1) -> ChaosModel:
        """Open the .tflite file, or do not."""
        word = order(take=False)
        if word.startswith("open-"):
            order()
            misbehave(word.removeprefix("open-"))
        if word in ("refuse", "unplugged"):
            raise RuntimeUnavailable("the accelerator does not open")
        return ChaosModel(litert.open_tflite(folder, artifact, threads))


RUNTIME = Chaos()
