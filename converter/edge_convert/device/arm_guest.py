"""The half of `arm.py` that runs inside the emulation: a model's answers, and marks for the counter.

Nothing here but LiteRT, numpy and the standard library: it is a script for an aarch64 Python that has
no Edgefleet. `python-arm arm_guest.py FOLDER ...` reads FOLDER/model.tflite, feeds.npz and job.json, and
writes answers.npz and outputs.json, folder after folder; arrays are filed by position in the lists of
tensor names.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

QUESTION = 0x5A5A  # arm_counter.c answers getpgid of this number


def main(folder: Path) -> None:
    """Answer every sample, then run the first some more times with a mark before and after each."""
    job = json.loads((folder / "job.json").read_text())
    interpreter = Interpreter(model_path=str(folder / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    into = {d["name"]: d["index"] for d in interpreter.get_input_details()}
    out = {d["name"]: d["index"] for d in interpreter.get_output_details()}
    with np.load(folder / "feeds.npz") as stored:
        feeds = [(into[name], stored[str(i)]) for i, name in enumerate(job["inputs"])]
    answers: dict[str, list[Any]] = {name: [] for name in out}
    for sample in range(job["samples"]):
        for index, values in feeds:
            interpreter.set_tensor(index, values[sample : sample + 1])
        interpreter.invoke()
        for name, index in out.items():
            answers[name].append(interpreter.get_tensor(index))
    rows: dict[str, Any] = {str(i): np.concatenate(values) for i, values in enumerate(answers.values())}
    np.savez(folder / "answers.npz", **rows)
    (folder / "outputs.json").write_text(json.dumps(list(answers)))
    gc.disable()  # a collection between two marks would be counted as the model's
    # the first is a warm-up, in which qemu and Python settle
    for _ in range(job["counted"] + 1 if job["counted"] else 0):
        mark()
        mark()
        interpreter.invoke()
        mark()


def mark() -> None:
    """Ask the counter; there is no such process group, and that is all that the kernel says."""
    with contextlib.suppress(OSError):
        os.getpgid(QUESTION)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(Path(argument))
