"""What a runtime in a supervised child process costs, and how soon it is back after a crash.

    python benchmarks/isolation.py [--rounds N] [MODEL.tflite ...]

Four tables. Latency: one inference through `Session`, in process and in a child, in rounds that take
turns; medians, "added" and "ratio" of the pairs of rounds. Transport: the inputs there and the outputs
back through the shared memory, and, beside it, the same bytes through the socket (what a pipe or a
plain `multiprocessing` connection does at best); no model runs. Crash: from SIGKILL of the child to the
next right answer, and the start of a child within it. Memory: a process with the model in it; the
process without it and the child beside it. Without models on the command line: an autoencoder, keywords
and a picture of MLPerf Tiny where ../shared/data is, else the tests' tiny one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from edge_agent.errors import RuntimeLost  # noqa: E402
from edge_agent.guard import channel  # noqa: E402
from edge_agent.guard.isolated import IsolatedModel  # noqa: E402
from edge_agent.guard.restarts import Restarts  # noqa: E402
from edge_agent.inference.session import Session  # noqa: E402
from edge_agent.runtimes.base import TensorShape  # noqa: E402
from edge_contracts.bundle import open_bundle, open_folder  # noqa: E402

MODELS = ("ad_autoencoder_int8_ref", "kws_dscnn_int8_ref", "vww_mobilenetv1_int8_ref")
COUNT = 50  # inferences of a round
CRASHES = 9
ECHO = """
import socket, sys
link, size_in, size_out = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
answer = bytes(size_out)
if size_in:
    data = bytearray(size_in)
    view = memoryview(data)
    while True:
        got = 0
        while got < size_in:
            n = link.recv_into(view[got:])
            if not n:
                sys.exit()
            got += n
        link.sendall(answer)
while link.recv(1):
    link.send(b"\\0")
"""


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--memory-of", nargs=2, metavar=("FOLDER", "WHERE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print_memory(Path(arguments.memory_of[0]), arguments.memory_of[1] == "child")
        return
    import agent_bundles  # not before: it would weigh in the memory table

    data = ROOT.parent / "shared" / "data" / "models"
    found = [data / f"{name}.tflite" for name in MODELS if (data / f"{name}.tflite").exists()]
    bundles = {path.stem: agent_bundles.around(path.read_bytes()) for path in arguments.models or found}
    bundles = bundles or {"tiny float32": agent_bundles.build()}
    rows: list[tuple[str, list[str]]] = [
        ("latency of one inference, us", []),
        ("transport of its tensors alone, us", []),
        (f"after SIGKILL of the child, ms, median and largest of {CRASHES}", []),
        ("resident memory, MB (child's in brackets: its share of shared pages counted once)", []),
    ]
    for name, content in bundles.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "bundle"
            open_bundle(content).extract(folder)
            for (_, lines), line in zip(rows, measure(name, folder, arguments.rounds), strict=True):
                lines.append(line)
    heads = (
        f"{'in process':>11} {'in a child':>11} {'added':>8} {'ratio':>6}",
        f"{'bytes in':>11} {'bytes out':>11} {'shared':>8} {'socket':>8}",
        f"{'to answer':>11} {'largest':>11} {'of it: start':>13}",
        f"{'in process':>11} {'agent':>8} {'+ child':>8}",
    )
    for (title, lines), head in zip(rows, heads, strict=True):
        print(f"{title}\n{'model':30} {head}", *lines, "", sep="\n")


def measure(name: str, folder: Path, rounds: int) -> Iterator[str]:
    """A line for each table."""
    manifest = open_folder(folder).manifest
    rng = np.random.default_rng(0)
    x = {}
    for spec in manifest.inputs:
        low, high = spec.value_range or (0.0, 1.0)
        x[spec.name] = rng.uniform(low, high, spec.shape).astype(spec.dtype)
    here = Session.open(folder, manifest, isolate=False)
    there = Session.open(folder, manifest, isolate=True)
    pairs = [(timed(lambda: here.infer(x)), timed(lambda: there.infer(x))) for _ in range(rounds)]
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    added = statistics.median(q - p for p, q in pairs)
    ratio = statistics.median(q / p for p, q in pairs)
    yield f"{name:30} {a:11.1f} {b:11.1f} {added:8.1f} {ratio:6.2f}"
    child = there.child
    if child is None:
        raise AssertionError("an isolated session has a child")
    yield f"{name:30} {transports(dict(child.inputs), dict(child.outputs), rounds)}"
    there.close()
    yield f"{name:30} {crashes(folder, here, x)}"
    here.close()
    told = {
        where: subprocess.run(
            [sys.executable, __file__, "--memory-of", str(folder), where],
            capture_output=True,
            check=True,
        )
        for where in ("here", "child")
    }
    one, two = (json.loads(told[where].stdout) for where in ("here", "child"))
    yield (
        f"{name:30} {one['rss'] / 1e6:11.1f} {two['rss'] / 1e6:8.1f} "
        f"{two['child'] / 1e6:8.1f} ({two['child_pss'] / 1e6:.1f})"
    )


def timed(call: Callable[[], Any]) -> float:
    """Microseconds of one call."""
    start = perf_counter()
    for _ in range(COUNT):
        call()
    return (perf_counter() - start) / COUNT * 1e6


def transports(inputs: dict[str, TensorShape], outputs: dict[str, TensorShape], rounds: int) -> str:
    """The bytes and the two ways to carry them, by turns, to a process that only answers."""
    arrays = [np.zeros((2, *s.shape), s.dtype) for s in (*inputs.values(), *outputs.values())]
    size_in = sum(a[0].nbytes for a in arrays[: len(inputs)])
    size_out = sum(a[0].nbytes for a in arrays[len(inputs) :])
    payload, back = bytes(size_in), bytearray(size_out)
    with echo(0, 0) as packets, echo(size_in, size_out, stream=True) as stream:
        views = [np.zeros(s.shape, s.dtype) for s in inputs.values()]
        results = [np.zeros(s.shape, s.dtype) for s in outputs.values()]

        def shared() -> None:
            for view, array in zip(views, arrays, strict=False):
                np.copyto(view, array[0], casting="no")
            packets.send(channel.RUN)
            packets.recv(channel.MAX_TEXT)
            for view in results:
                view.copy()

        def socketed() -> None:
            stream.sendall(payload)
            got, view = 0, memoryview(back)
            while got < size_out:
                got += stream.recv_into(view[got:])

        pairs = [(timed(shared), timed(socketed)) for _ in range(rounds)]
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    return f"{size_in:11d} {size_out:11d} {a:8.1f} {b:8.1f}"


@contextmanager
def echo(size_in: int, size_out: int, stream: bool = False) -> Iterator[Any]:
    """A process that answers packets, or so many bytes with so many."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM if stream else socket.SOCK_SEQPACKET)
    command = [sys.executable, "-c", ECHO, str(theirs.fileno()), str(size_in), str(size_out)]
    process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.wait()


def crashes(folder: Path, here: Session, x: dict[str, Any]) -> str:
    """How long until the next right answer."""
    choice, manifest = here.choice, here.manifest
    model = IsolatedModel(
        folder, here.artifact, choice.option, restarts=Restarts(limit=1000, first_pause_s=0.0)
    )
    session = Session(manifest, choice, here.runtime, model)
    expected = here.infer(x).outputs
    totals, starts = [], []
    for _ in range(CRASHES):
        session.infer(x)
        began = perf_counter()
        os.kill(model.pid or 0, signal.SIGKILL)
        while True:
            try:
                found = session.infer(x).outputs
                break
            except RuntimeLost:
                continue
        totals.append((perf_counter() - began) * 1e3)
        starts.append(model.start_s * 1e3)
        if not all(np.array_equal(found[name], expected[name]) for name in expected):
            raise AssertionError("the answer after a crash is another one")
    session.close()
    return f"{statistics.median(totals):11.0f} {max(totals):11.0f} {statistics.median(starts):13.0f}"


def print_memory(folder: Path, isolated: bool) -> None:
    """Resident memory of this process with a model, and of its child."""
    manifest = open_folder(folder).manifest
    session = Session.open(folder, manifest, isolate=isolated)
    x = {s.name: np.zeros(s.shape, s.dtype) for s in manifest.inputs}
    for _ in range(10):
        session.infer(x)
    child = session.child
    told = {"rss": field("self/status", "VmRSS"), "child": 0, "child_pss": 0}
    if child is not None:
        told |= {
            "child": field(f"{child.pid}/status", "VmRSS"),
            "child_pss": field(f"{child.pid}/smaps_rollup", "Pss"),
        }
    print(json.dumps(told))
    session.close()


def field(path: str, name: str) -> int:
    """A figure of /proc, bytes."""
    for line in Path("/proc", path).read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
