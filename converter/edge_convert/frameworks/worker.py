"""A framework in a child process: started, asked, and ended with whoever holds it.

The child gets an empty folder of its own to stand in, no device but the CPU, one thread and no way
to report usage. It is no sandbox: what a model file could make a framework run is refused before the
framework sees it (`importers/torch_archive.py`, `importers/keras_config.py`).
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from edge_convert import errors
from edge_convert.errors import ConvertError, SourceInvalid
from edge_convert.frameworks import wire
from edge_convert.graph import Array

ANSWER_S = 600.0  # the longest conversion seen took 40 s; a child that says nothing for this long hangs
# TensorFlow and PyTorch had 0.45 GB with small models in; the rest is for what a model computes
BASE_BYTES = 3 << 29
STACK_BYTES = 16 << 20  # each of their threads reserves one
COPIES = 16  # of the weights: loaded, exported, folded, written
_STOP_S = 5.0
_CHUNK_BYTES = 1 << 20
_WORDS = 300  # of a framework's last words
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "DO_NOT_TRACK": "1",
    "KERAS_BACKEND": "tensorflow",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",  # sets of names are walked while a graph is written
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # its sums depend on the processor
}


class Worker:
    """One child process."""

    def __init__(self, module: str, framework: str, model_bytes: int) -> None:
        """Start it.

        Args:
            module: What it runs, an import name.
            framework: What messages call it, such as "PyTorch".
            model_bytes: Size of what it is to read, from which follows the memory that it may take.
        """
        memory = BASE_BYTES + STACK_BYTES * (os.cpu_count() or 1) + COPIES * model_bytes
        self.framework = framework
        folder = tempfile.mkdtemp(prefix="edge-convert-")
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by _end
        self._process = subprocess.Popen(
            # -P: a numpy.py that lies where the user stands is not imported
            [sys.executable, "-P", "-m", module, str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            cwd=folder,
            env=os.environ | ENVIRONMENT | {"KERAS_HOME": folder},
        )
        self._end = weakref.finalize(self, _end, self._process, self._words, folder)

    def ask(self, header: Mapping[str, Any], **arrays: Array) -> tuple[dict[str, Any], dict[str, Array]]:
        """Send a request and wait for its answer.

        Raises:
            ConvertError: The child refused, of the child's own class.
            ModuleNotFoundError: The framework is not installed.
            SourceInvalid: The framework failed, died or hung.
        """
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(wire.packed(header, arrays))
            stdin.flush()
            reply, results = wire.read(self._exactly)
        except (EOFError, BrokenPipeError, ValueError):
            raise self._failure() from None
        if "missing" in reply:
            raise ModuleNotFoundError(str(reply["why"]), name=str(reply["missing"]))
        if "refused" in reply:
            kind = getattr(errors, str(reply["refused"]), SourceInvalid)
            assert issubclass(kind, ConvertError)
            raise kind(str(reply["why"]))
        return reply, results

    def close(self) -> None:
        """End the child; a second time does nothing."""
        self._end()

    def _exactly(self, count: int) -> bytes:
        """Read so many bytes of an answer, and give up on a child that says nothing for too long."""
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + ANSWER_S
        parts = bytearray()
        while len(parts) < count:
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._process.kill()
                raise EOFError
            part = os.read(stdout.fileno(), min(count - len(parts), _CHUNK_BYTES))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def _failure(self) -> SourceInvalid:
        """Why the child is gone, in its own last words where it had any."""
        try:
            code = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._words.seek(0)
        said = last_words(self._words.read().decode("utf-8", "replace"))
        self.close()
        if code < 0:
            return SourceInvalid(f"{self.framework} died of signal {-code} while it read the model")
        return SourceInvalid(f"{self.framework} cannot read the model: {said or f'exit code {code}'}")


def last_words(text: str) -> str:
    """The exception that a traceback ends with, on one line."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if re.match(r"[A-Za-z_][\w.]*(Error|Exception)\b", line)]
    if not starts:
        return ""
    said = " ".join(" ".join(lines[starts[-1] :]).split())
    return said if len(said) <= _WORDS else said[: _WORDS - 3] + "..."


def _end(process: subprocess.Popen[bytes], words: IO[bytes], folder: str) -> None:
    """Close the pipes, which is the child's sign to go, and clear its folder away."""
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        try:
            stream.close()
        except BrokenPipeError:
            continue
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    words.close()
    shutil.rmtree(folder, ignore_errors=True)


def content_of(arrays: Mapping[str, Array]) -> bytes:
    """The file that an answer carries."""
    return np.ascontiguousarray(arrays[wire.CONTENT], np.uint8).tobytes()
