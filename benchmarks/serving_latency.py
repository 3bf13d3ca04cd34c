"""How long one inference takes an application: in process, by Unix socket, by HTTP, beside other servers.

    python benchmarks/serving_latency.py [--rounds N] [--peers FOLDER] [MODEL.tflite ...]

One client on one connection asks one sample at a time and waits for the answer. The rounds of all ways in
take turns, so that a busy neighbour slows all; "added" is the median over the rounds of the difference to
the bare interpreter in the client's own process, fed with codes that are quantized already. All others
get float32 and quantize it. The daemon is `edge-agent run` as installed, with telemetry counted.

FOLDER holds environments named mlserver, kserve and litserve, each made by

    python3.11 -m venv FOLDER/NAME && FOLDER/NAME/bin/pip install NAME ai-edge-litert

"memory" is the resident memory of a server and its children, after the measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter, sleep

import numpy as np
import psutil
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402
from inference_overhead import bare_litert  # noqa: E402

from edge_agent import Model  # noqa: E402
from edge_contracts.bundle import open_bundle  # noqa: E402

MODELS = ("kws_dscnn_int8_ref.tflite", "vww_mobilenetv1_int8_ref.tflite")
PEERS = ("kserve", "mlserver", "litserve")
START_S = 60.0
CALLS = 40  # of each way in, in one round


@dataclass
class Way:
    """One way in.

    Args:
        ask: One inference.
        process: Of the server, None for none.
    """

    name: str
    ask: Callable[[], object]
    process: subprocess.Popen[bytes] | None = None

    @property
    def memory_mb(self) -> float | None:
        """Of the server with its children."""
        if self.process is None:
            return None
        found = psutil.Process(self.process.pid)
        every = (found, *found.children(recursive=True))
        return float(sum(process.memory_info().rss for process in every)) / 1e6


class Asker:
    """A client of the plainest kind: it sends the same bytes and reads the answer."""

    def __init__(
        self, address: tuple[str, int] | str, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        """Connect."""
        self._address = address
        lines = [f"POST {path} HTTP/1.1", "Host: edge", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        self._sock = self._connect()

    def _connect(self) -> socket.socket:
        if isinstance(self._address, tuple):
            sock = socket.create_connection(self._address, 20)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(self._address)
        return sock

    def __call__(self) -> bytes:
        """Ask once."""
        try:
            self._sock.sendall(self._request)
            answer = self._sock.recv(1 << 16)
        except ConnectionError:
            answer = b""
        if not answer:  # uvicorn ends connections that were idle for 5 s, while others were starting
            self._sock.close()
            self._sock = self._connect()
            self._sock.sendall(self._request)
            answer = self._more()
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._more()
        head = answer[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(answer[:300].decode("latin-1"))
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(answer) < end + 4 + length:
            answer += self._more()
        return answer[end + 4 :]

    def _more(self) -> bytes:
        part = self._sock.recv(1 << 16)
        if not part:
            raise RuntimeError("the server has ended the connection")
        return part


def main() -> None:
    """Measure and print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--peers", type=Path, help="Folder with an environment for each peer.")
    arguments = parser.parse_args()
    shared = Path(os.environ.get("EDGEFLEET_DATA", ROOT.parent / "shared" / "data")) / "models"
    models = arguments.models or [path for name in MODELS if (path := shared / name).exists()]
    if not models:
        print(f"skipped: no {' or '.join(MODELS)} at {shared}; set EDGEFLEET_DATA")
    for path in models:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            show(path, measure(list(ways(path, Path(folder), arguments.peers, stack)), arguments.rounds))


def ways(path: Path, folder: Path, peers: Path | None, stack: ExitStack) -> Iterator[Way]:
    """Every way in, the bare interpreter first."""
    content = agent_bundles.around(path.read_bytes())
    bundle, key = folder / "a.bundle", folder / "public.pem"
    bundle.write_bytes(content)
    key.write_bytes(agent_bundles.KEY.public.pem)
    manifest = open_bundle(content).manifest
    (spec,) = manifest.inputs
    low, high = spec.value_range or (0, 1)
    x = np.random.default_rng(0).uniform(low, high, spec.shape).astype(np.float32)
    yield Way("bare interpreter (LiteRT)", bare_litert(path))
    model = stack.enter_context(Model(bundle, trust=key, home=folder / "none"))
    yield Way("in process: edge_agent.Model", lambda: model(x))

    binary, plain = bodies(spec.name, x)
    process, port, sock, token = stack.enter_context(daemon(folder, bundle, key))
    url = f"/v2/models/{manifest.name}/infer"
    shown = {"Authorization": f"Bearer {token}"}
    yield Way("edge-agent, Unix socket, binary", Asker(str(sock), url, binary[0], binary[1]), process)
    yield Way(
        "edge-agent, HTTP, binary", Asker(("127.0.0.1", port), url, binary[0] | shown, binary[1]), process
    )
    yield Way("edge-agent, HTTP, JSON", Asker(("127.0.0.1", port), url, shown, plain), process)
    for peer in PEERS:
        python = peers / peer / "bin" / "python" if peers is not None else None
        if python is None or not python.exists():
            print(f"{peer}: not measured, no environment for it (--peers)")
            continue
        own = json.dumps({"data": x.reshape(-1).tolist()}).encode()
        typed = {"Content-Type": "application/json"}
        process, port = stack.enter_context(peer_server(python, peer, path, folder))
        if peer == "litserve":
            yield Way("litserve, HTTP, its own JSON", started(port, "/predict", typed, own), process)
            continue
        if peer == "kserve":
            sized = {"Content-Type": "application/octet-stream", **binary[0]}
            asker = started(port, "/v2/models/m/infer", sized, binary[1])
            yield Way("kserve, HTTP, binary", asker, process)
        yield Way(f"{peer}, HTTP, JSON", started(port, "/v2/models/m/infer", typed, plain), process)


def bodies(name: str, x: NDArray[np.float32]) -> tuple[tuple[dict[str, str], bytes], bytes]:
    """A request with binary data and its header, and one in JSON."""
    tensor = {"name": name, "shape": list(x.shape), "datatype": "FP32"}
    sized = {**tensor, "parameters": {"binary_data_size": x.nbytes}}
    asked = {"id": "1", "inputs": [sized], "parameters": {"binary_data_output": True}}
    head = json.dumps(asked).encode()
    plain = json.dumps({"id": "1", "inputs": [{**tensor, "data": x.reshape(-1).tolist()}]}).encode()
    return ({"Inference-Header-Content-Length": str(len(head))}, head + x.tobytes()), plain


@contextmanager
def daemon(folder: Path, bundle: Path, key: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path, str]]:
    """`edge-agent run` on a home of its own."""
    home, sock, port = folder / "home", folder / "sock", free_port()
    agent = [sys.executable, "-c", "from edge_agent.cli import main; main()"]
    where = ["--home", str(home)]
    subprocess.run(
        [*agent, "install", str(bundle), "--trust", str(key), *where], check=True, capture_output=True
    )
    serve = ["--serve", f"127.0.0.1:{port}", "--socket", str(sock)]
    process = subprocess.Popen([*agent, "run", *where, *serve], stderr=subprocess.DEVNULL)
    try:
        ready = b"GET /v2/health/ready HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n"
        wait(lambda: _asks(port, ready).startswith(b"HTTP/1.1 200"), process)
        yield process, port, sock, (home / "serve.token").read_text().strip()
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def peer_server(
    python: Path, peer: str, model: Path, folder: Path
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """One of the others."""
    port = free_port()
    script = str(Path(__file__).with_name("serving_peers.py"))
    with (folder / f"{peer}.log").open("wb") as log:
        command = [str(python), script, peer, str(model.resolve()), str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        yield process, port
    finally:
        for child in (*psutil.Process(process.pid).children(recursive=True), process):
            child.terminate()
        process.wait(30)


def started(port: int, path: str, headers: dict[str, str], body: bytes) -> Asker:
    """A client of a server that is still starting."""
    ends_s = monotonic() + START_S
    while True:
        try:
            asker = Asker(("127.0.0.1", port), path, headers, body)
            asker()
            return asker
        except (OSError, RuntimeError, IndexError):
            if monotonic() > ends_s:
                raise
            sleep(0.2)


def measure(all_ways: list[Way], rounds: int) -> list[tuple[Way, list[list[float]]]]:
    """Seconds of every call, by way and round."""
    for way in all_ways:
        for _ in range(CALLS):
            way.ask()
    times: list[list[list[float]]] = [[] for _ in all_ways]
    for _ in range(rounds):
        for way, found in zip(all_ways, times, strict=True):
            way.ask()  # wakes both processes up
            found.append([_timed(way.ask) for _ in range(CALLS)])
    return list(zip(all_ways, times, strict=True))


def show(path: Path, measured: list[tuple[Way, list[list[float]]]]) -> None:
    """Print a table."""
    bare = [statistics.median(calls) for calls in measured[0][1]]
    print(f"\n{path.name}: one sample, milliseconds")
    print(f"{'way in':34} {'p50':>8} {'added p50':>10} {'p99':>8} {'memory MB':>10}")
    for way, rounds in measured:
        medians = [statistics.median(calls) for calls in rounds]
        added = statistics.median(m - b for m, b in zip(medians, bare, strict=True))
        p99 = float(np.quantile([call for calls in rounds for call in calls], 0.99))
        memory = way.memory_mb
        shown = "" if memory is None else f"{memory:10.0f}"
        p50 = statistics.median(medians) * 1e3
        print(f"{way.name:34} {p50:8.3f} {added * 1e3:10.3f} {p99 * 1e3:8.3f} {shown}")


def free_port() -> int:
    """A port that nobody uses now, with free neighbours as a rule."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(question: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    ends_s = monotonic() + START_S
    while not question():
        if process.poll() is not None or monotonic() > ends_s:
            sys.exit("a server does not come up")
        sleep(0.1)


def _asks(port: int, request: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(request)
            return sock.recv(1000)
    except OSError:
        return b""


def _timed(ask: Callable[[], object]) -> float:
    start = perf_counter()
    ask()
    return perf_counter() - start


if __name__ == "__main__":
    main()
