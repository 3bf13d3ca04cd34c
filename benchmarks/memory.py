"""Memory of the agent with a model loaded, against Python with the bare runtime.

    python benchmarks/memory.py [MODEL.tflite] [--after MINUTES]

Each line is a process of its own, looked at once it has settled, or so many minutes later; the last ones are
the real daemon (`edge-agent run`) with the bundle installed, started as deploy/edge-agent.service starts it:
with the environment that stands there, told of a service manager, with the byte code that deploy/install.sh
leaves. "From a shell" is without that environment. The bare runtime is Python as it comes, with one thread
for numpy's matrices too. MiB, from the kernel's own account (proc(5)), and RSS in MB (10^6 bytes) as well:

RSS        every page that the process has mapped, also those of libraries that others use too
PSS        the same, a page that n processes share counted as 1/n
USS        what ending the process would give back
anonymous  what no file holds: a device without swap cannot take it back under pressure, and it is the part
           that can run it out of memory; the rest of RSS are pages of libraries, which can be read again
touched    of RSS, what was used within a few seconds of work: the rest was needed only to start
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402
from enrolled_device import device_config  # noqa: E402
from unit_environment import as_the_unit  # noqa: E402

from edge_agent.device.home import Home  # noqa: E402
from edge_contracts.arrays import write_npz  # noqa: E402
from edge_contracts.bundle import open_bundle  # noqa: E402
from edge_contracts.keys import PrivateKey, write_private  # noqa: E402
from edge_contracts.model import canonical_json  # noqa: E402

SHARED = ROOT.parent / "shared" / "data" / "models" / "vww_mobilenetv1_int8_ref.tflite"
SETTLE_S, TOUCH_S, LONGEST_S = 4.0, 3.0, 120.0
STEADY_MIB = 0.1  # within SETTLE_S: then a process has settled
AIM_MB, AIM_ABOVE_MB = 60, 25
COLUMNS = ("RSS MB", "RSS", "PSS", "USS", "anonymous", "touched")
ANSWERS = 500
FLOOR = "Python, LiteRT and the model"
ENTRY = [sys.executable, "-c", "from edge_agent.cli import main; main()"]
BARE = """
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path={model!r}, num_threads=1)
model.allocate_tensors()
x = model.get_input_details()[0]
codes = np.zeros(x["shape"], x["dtype"])
for _ in range(200):
    model.set_tensor(x["index"], codes)
    model.invoke()
    model.get_tensor(model.get_output_details()[0]["index"])
"""
AGENT = """
from pathlib import Path
from edge_agent.device.resources import now
from edge_agent.inference.session import Session
from edge_agent.telemetry.windows import WindowCounter
from edge_contracts.arrays import read_npz
from edge_contracts.bundle import MANIFEST
from edge_contracts.manifest import Manifest
from edge_contracts.model import parse_json
folder = Path({folder!r})
manifest = parse_json(Manifest, (folder / MANIFEST).read_bytes(), MANIFEST)
session = Session.open(folder, manifest)
counter = WindowCounter(manifest, "sha256:" + "0" * 64, "model", session.runtime, now(), 0.0)
inputs = read_npz(Path({inputs!r}))
for _ in range(200):
    counter.answered(session.infer(inputs))
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--after", type=float, default=0.0, metavar="MINUTES", help="look so much later")
    asked = parser.parse_args()
    chosen = asked.model or (SHARED if SHARED.is_file() else None)
    content = chosen.read_bytes() if chosen else agent_bundles.tflite_int8()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        archive = agent_bundles.around(content)
        bundle = open_bundle(archive)
        bundle.extract(place / "bundle")
        (place / "model.bundle").write_bytes(archive)
        (place / "public.pem").write_bytes(agent_bundles.KEY.public.pem)
        (place / "in").mkdir()
        spec = bundle.manifest.inputs[0]
        (place / "in" / "x.npz").write_bytes(write_npz({"x": np.zeros(spec.shape, np.float32)}))
        paths = {
            "model": str(place / "bundle" / bundle.manifest.artifacts[0].files[0].path),
            "folder": str(place / "bundle"),
            "inputs": str(place / "in" / "x.npz"),
        }
        (place / "many").mkdir()
        for number in range(ANSWERS):
            (place / "many" / f"{number}.npz").hardlink_to(place / "in" / "x.npz")
        # modules come compiled, as an installer leaves them: a process that compiles them keeps a part of it
        os.environ["PYTHONPYCACHEPREFIX"] = str(place / "compiled")
        for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONOPTIMIZE"):
            os.environ.pop(name, None)
        plain = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        service = as_the_unit(os.environ, place)
        run = installed(place, "alone")
        enrolled = installed(place, "fleet")
        enrol(place / "fleet")
        work = ["--input", str(place / "in"), "--loop", "--rate", "50"]
        print(f"{chosen.name if chosen else 'tiny int8'}, {len(content)} bytes")
        print(f"{'process':44}" + "".join(f" {name:>9}" for name in COLUMNS))
        floor: dict[str, float] = {}
        for environment in (plain, service):  # compiles what is not compiled yet
            for command in (python(AGENT.format(**paths)), [*enrolled, "--socket", str(place / "s")]):
                measure(command, environment, 0.0)
        many = ["--input", str(place / "many"), "--rate", "200"]
        for name, command, environment in (
            ("Python", python(""), plain),
            ("Python, numpy", python("import numpy"), plain),
            (FLOOR, python(BARE.format(**paths)), plain),
            ("the agent's session and windows", python(AGENT.format(**paths)), plain),
            ("edge-agent run, idle", run, service),
            (f"edge-agent run, idle after {ANSWERS} answers", [*run, *many], service),
            ("edge-agent run, a folder, 50 a second", [*run, *work], service),
            ("edge-agent run, Unix socket", [*run, "--socket", str(place / "s")], service),
            ("edge-agent run, in a fleet (TLS, broker away)", enrolled, service),
            ("edge-agent run, idle, from a shell", run, plain),
            ("edge-agent run, in a fleet, from a shell", enrolled, plain),
        ):
            found = measure(command, environment, asked.after * 60)
            print(f"{name:44}" + "".join(f" {found[column]:9.1f}" for column in COLUMNS))
            if name == FLOOR:
                floor = found
            elif floor and command[: len(run)] in (run, enrolled):
                print(
                    f"{'  above the runtime alone':44}"
                    + "".join(f" {found[c] - floor[c]:+9.1f}" for c in COLUMNS)
                )
        print(f"aims: RSS {AIM_MB} MB, {AIM_ABOVE_MB} MB above the runtime alone, idle")


def installed(place: Path, name: str) -> list[str]:
    """The command of a daemon in a home of its own, with the bundle installed."""
    home = ["--home", str(place / name)]
    install = ["install", str(place / "model.bundle"), "--trust", str(place / "public.pem"), *home]
    subprocess.run([*ENTRY, *install], check=True, stdout=subprocess.DEVNULL)
    return [*ENTRY, "run", *home]


def enrol(folder: Path) -> None:
    """Make a home one of a device in a fleet, whose server and broker are not there."""
    key, home = PrivateKey.generate(), Home(folder)
    write_private(key, home.key)
    config = device_config(
        server="https://127.0.0.1:9",
        mqtt_port=9,
        mqtt_tls=True,
        public_key=key.public.base64,
        director_key=PrivateKey.generate().public.base64,
        publisher_keys=(agent_bundles.KEY.public.base64,),
    )
    home.config.write_bytes(canonical_json(config))


def python(code: str) -> list[str]:
    """A process that does something, then waits."""
    return [sys.executable, "-c", f"{code}\nimport time\ntime.sleep(600)"]


def measure(command: list[str], environment: Mapping[str, str], after_s: float) -> dict[str, float]:
    """The memory of a process that has settled, by column.

    Args:
        after_s: How much later to look.
    """
    with (
        tempfile.TemporaryDirectory() as scratch,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(f"{scratch}/notify")
        manager.settimeout(LONGEST_S)
        child = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**environment, "NOTIFY_SOCKET": f"{scratch}/notify"},
        )
        try:
            while "run" in command and manager.recv(4096) != b"READY=1":
                pass
            settle(child.pid)
            time.sleep(after_s)
            found = account(child.pid)
            Path(f"/proc/{child.pid}/clear_refs").write_text("1")
            time.sleep(TOUCH_S)
            if child.poll() is not None:
                raise SystemExit(f"{command[-1]!r:.80} ended with {child.returncode}")
            return {**found, "touched": account(child.pid)["touched"]}
        finally:
            child.kill()
            child.wait()


def settle(pid: int) -> None:
    """Wait until a process's memory stays the same for a while."""
    deadline_s = time.monotonic() + LONGEST_S
    before = -1.0
    while time.monotonic() < deadline_s:
        time.sleep(SETTLE_S)
        now = account(pid)["RSS"]
        if abs(now - before) < STEADY_MIB:
            return
        before = now
    raise SystemExit(f"process {pid} does not settle within {LONGEST_S:g} s")


def account(pid: int) -> dict[str, float]:
    """What the kernel counts for a process, by column."""
    lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    mib = {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines}
    return {
        "RSS MB": mib["Rss"] * 1.048576,
        "RSS": mib["Rss"],
        "PSS": mib["Pss"],
        "USS": mib["Private_Clean"] + mib["Private_Dirty"],
        "anonymous": mib["Anonymous"],
        "touched": mib["Referenced"],
    }


if __name__ == "__main__":
    main()
