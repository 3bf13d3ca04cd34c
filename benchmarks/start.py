"""From start to first answer: `edge-agent run` against Python with the bare runtime opening the same file.

    python benchmarks/start.py [MODEL.tflite] [--rounds 7]

Each round starts every line's process anew, one after another, and waits for its first answer: the bare
runtime's first `invoke`, the first answer that the daemon writes for a folder (`--answers`), and the first
reply over its Unix socket. The daemon has by then verified the bundle and asked the golden inputs. It is
started as deploy/edge-agent.service starts it, with byte code without docstrings that is there beforehand;
"from a shell" is without that environment, "no byte code" with it and nothing compiled: the worst that an
upgrade of the system's Python can leave. Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402
from unit_environment import as_the_unit  # noqa: E402

from edge_contracts.arrays import write_npz  # noqa: E402
from edge_contracts.bundle import open_bundle  # noqa: E402

SHARED = ROOT.parent / "shared" / "data" / "models" / "vww_mobilenetv1_int8_ref.tflite"
AIM_S, LONGEST_S, PAUSE_S = 1.0, 60.0, 0.005
ENTRY = [sys.executable, "-c", "from edge_agent.cli import main; main()"]
BARE = """
import numpy as np
from pathlib import Path
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path={model!r}, num_threads=1)
model.allocate_tensors()
x = model.get_input_details()[0]
model.set_tensor(x["index"], np.zeros(x["shape"], x["dtype"]))
model.invoke()
Path({answer!r}).write_text(str(model.get_tensor(model.get_output_details()[0]["index"])))
import time
time.sleep(600)
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    chosen = asked.model or (SHARED if SHARED.is_file() else None)
    content = chosen.read_bytes() if chosen else agent_bundles.tflite_int8()
    archive = agent_bundles.around(content)
    spec = open_bundle(archive).manifest.inputs[0]
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        files = {"model.tflite": content, "a.bundle": archive, "key.pem": agent_bundles.KEY.public.pem}
        for name, written in files.items():
            (place / name).write_bytes(written)
        (place / "in").mkdir()
        (place / "in" / "x.npz").write_bytes(write_npz({"x": np.zeros(spec.shape, np.float32)}))
        home, answer, door = ["--home", str(place / "home")], place / "answer", place / "s"
        # modules come compiled, as an installer leaves them; the first round, which compiles, is not counted
        os.environ["PYTHONPYCACHEPREFIX"] = str(place / "compiled")
        for one in ("PYTHONDONTWRITEBYTECODE", "PYTHONOPTIMIZE"):
            os.environ.pop(one, None)
        plain = dict(os.environ)
        service = as_the_unit(plain, place)
        nothing = {
            **service,
            "PYTHONPYCACHEPREFIX": str(place / "key.pem"),
        }  # a file: nothing can be below it
        install = ["install", str(place / "a.bundle"), "--trust", str(place / "key.pem"), *home]
        subprocess.run([*ENTRY, *install], check=True, stdout=subprocess.DEVNULL)
        flat = [0.0] * int(np.prod(spec.shape))
        tensor = {"name": spec.name, "shape": list(spec.shape), "datatype": "FP32", "data": flat}
        request = json.dumps({"inputs": [tensor]})
        bare = BARE.format(model=str(place / "model.tflite"), answer=str(answer))
        run = [*ENTRY, "run", *home]
        folder = [*run, "--input", str(place / "in"), "--answers", str(answer)]
        served = [*run, "--socket", str(door)]
        lines: dict[str, tuple[list[str], Callable[[], bool], dict[str, str]]] = {
            "Python, LiteRT and the model": (
                [sys.executable, "-c", bare],
                lambda: is_written(answer),
                plain,
            ),
            "edge-agent run, a folder": (folder, lambda: is_written(answer), service),
            "edge-agent run, Unix socket": (served, lambda: is_answered(door, request), service),
            "  from a shell": (served, lambda: is_answered(door, request), plain),
            "  no byte code": (served, lambda: is_answered(door, request), nothing),
        }
        for number in range(1 + asked.rounds):
            for name, (command, is_there, environment) in lines.items():
                answer.unlink(missing_ok=True)
                took_s = until_answer(command, is_there, environment)
                if number > 0:
                    times.setdefault(name, []).append(took_s)
    floor = median(next(iter(times.values())))
    print(f"{chosen.name if chosen else 'tiny int8'}, {len(content)} bytes, medians of {asked.rounds} rounds")
    print(f"{'start to first answer':32} {'s':>6} {'more':>6} {'aim':>6} {'lowest':>7} {'highest':>8}")
    for name, found in times.items():
        more = (
            f"{median(found) - floor:6.2f} {AIM_S:6.2f}"
            if found is not times[next(iter(times))]
            else " " * 13
        )
        print(f"{name:32} {median(found):6.2f} {more} {min(found):7.2f} {max(found):8.2f}")


def until_answer(command: list[str], is_there: Callable[[], bool], environment: dict[str, str]) -> float:
    """Start a process and end it after its first answer; the seconds between."""
    begun_s = time.perf_counter()
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    try:
        while not is_there():
            if child.poll() is not None or time.perf_counter() - begun_s > LONGEST_S:
                raise SystemExit(f"no answer of {command[:4]}: it ended with {child.poll()}")
            time.sleep(PAUSE_S)
        return time.perf_counter() - begun_s
    finally:
        child.kill()
        child.wait()


def is_written(path: Path) -> bool:
    """Whether there is something in a file."""
    return path.exists() and path.stat().st_size > 0


def is_answered(door: Path, request: str) -> bool:
    """Whether a request over a Unix socket is answered."""
    connection = HTTPConnection("edge", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(door))
        connection.request("POST", "/v2/models/around/infer", request)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main()
