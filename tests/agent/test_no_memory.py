"""With too little memory: one line that says so, or a refused request; never a device that is worse off.

Real processes under a limit of their address space (RLIMIT_AS), which also refuses what the kernel would
otherwise promise and not keep.
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_bundles import KEY, build
from agent_fleet import until

from edge_contracts.arrays import write_npz
from edge_contracts.bundle import open_bundle

ENTRY = (sys.executable, "-c", "from edge_agent.cli import main; main()")
MIB = 1 << 20
LIMITS_MIB = (100, 255)


def limited(mib: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of edge-agent that may take so much address space."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mib * MIB, mib * MIB))

    return subprocess.run(
        [*ENTRY, *arguments], preexec_fn=limit, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A folder with a bundle, its key, an input, and a home in which another bundle is installed."""
    (tmp_path / "old.bundle").write_bytes(build("float32"))
    (tmp_path / "new.bundle").write_bytes(build("float32", version="2"))
    (tmp_path / "key.pem").write_bytes(KEY.public.pem)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.npz").write_bytes(write_npz({"x": np.zeros((1, 4), np.float32)}))
    install = ["install", str(tmp_path / "old.bundle"), "--trust", str(tmp_path / "key.pem")]
    subprocess.run([*ENTRY, *install, "--home", str(tmp_path / "home")], check=True, capture_output=True)
    return tmp_path


def answers_with(device: Path) -> str:
    """The digest of the bundle that a daemon with memory answers with."""
    answers = device / "answers"
    answers.unlink(missing_ok=True)
    run = ["run", "--input", str(device / "in"), "--once", "--answers", str(answers)]
    subprocess.run(
        [*ENTRY, *run, "--home", str(device / "home")], check=True, capture_output=True, timeout=60
    )
    return str(json.loads(answers.read_text().splitlines()[0])["bundle"])


def require_refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    """See that a command said in one line of ours why it did not go on."""
    ours = [line for line in done.stderr.splitlines() if line.startswith("edge-agent: ")]
    assert (done.returncode, len(ours)) == (1, 1), done.stderr
    assert reason in ours[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mib", LIMITS_MIB)
def test_a_limit_that_leaves_no_room_is_told_before_anything_is_begun(mib: int, device: Path) -> None:
    home = ("--home", str(device / "home"))
    before = {path: path.read_bytes() for path in (device / "home").rglob("*") if path.is_file()}
    for command in (
        ("infer", str(device / "old.bundle"), "--input", str(device / "in" / "x.npz")),
        ("run", "--input", str(device / "in"), "--once", *home),
        ("install", str(device / "new.bundle"), *home),
    ):
        require_refused(limited(mib, *command), f"{mib} MiB of address space are allowed here, at least 256")
    assert before == {path: path.read_bytes() for path in (device / "home").rglob("*") if path.is_file()}


def test_with_just_enough_it_works(device: Path) -> None:
    done = limited(320, "install", str(device / "new.bundle"), "--home", str(device / "home"))
    assert done.returncode == 0, done.stderr
    run = ("run", "--input", str(device / "in"), "--once", "--answers", str(device / "answers"))
    done = limited(320, *run, "--home", str(device / "home"))
    assert done.returncode == 0, done.stderr
    told = json.loads((device / "answers").read_text().splitlines()[0])
    assert told["bundle"] == open_bundle(device / "new.bundle").digest


# The kernel refuses memory from the moment on that a function is called; what is called is the real thing.
FROM = """
import importlib, resource, sys
from pathlib import Path
module, name, room = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
owner = importlib.import_module(module)
real = getattr(owner, name)
def squeezed(*arguments, **more):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        return real(*arguments, **more)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
setattr(owner, name, squeezed)
from edge_agent.cli import main
main()
"""


def squeezed(at: str, room: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of edge-agent for which there is no more than so much memory in one function."""
    module, name = at.rsplit(".", 1)
    whole = [sys.executable, "-c", FROM, module, name, str(room), *arguments]
    return subprocess.run(whole, capture_output=True, text=True, timeout=120, check=False)


def test_a_runtime_that_finds_no_memory_is_not_put_into_quarantine(device: Path) -> None:
    run = ("run", "--input", str(device / "in"), "--once", "--home", str(device / "home"))
    done = squeezed("edge_agent.runtimes.litert._import", 4 * MIB, *run)
    require_refused(done, "no memory to load ai_edge_litert")
    assert answers_with(device) == open_bundle(device / "old.bundle").digest  # at the next start, at once


READ = """
import resource, sys
from pathlib import Path
from edge_contracts.arrays import read_npz
from edge_contracts.bundle import open_bundle, open_folder
from edge_contracts.errors import NoMemory
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (16 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for read, path in zip((read_npz, open_bundle, open_folder), map(Path, sys.argv[1:])):
    try:
        read(path)
        print("read")
    except NoMemory as error:
        print(error.code)
"""


def test_no_memory_is_not_taken_for_damage(tmp_path: Path) -> None:
    archive = build("float32", files={"artifacts/float32.tflite": bytes(64 * MIB)})
    bundle = open_bundle(archive)
    assert max(len(content) for content in bundle.contents.values()) == 64 * MIB
    (tmp_path / "large.bundle").write_bytes(archive)
    bundle.extract(tmp_path / "folder")
    (tmp_path / "x.npz").write_bytes(write_npz({"x": np.zeros((16, MIB), np.float32)}))
    paths = [str(tmp_path / name) for name in ("x.npz", "large.bundle", "folder")]
    done = subprocess.run(
        [sys.executable, "-c", READ, *paths], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["no-memory"] * 3


INFER = """
import resource, sys
from pathlib import Path
import numpy as np
from edge_agent.errors import InputRefused
from edge_agent.guard.watch import Watch
from edge_agent.inference.session import Session
from edge_contracts.bundle import open_bundle
archive, folder = map(Path, sys.argv[1:])
bundle = open_bundle(archive)
bundle.extract(folder)
watch = Watch(Session.open(folder, bundle.manifest))
many, one = np.zeros((4_000_000, 4), np.float32), np.zeros((1, 4), np.float32)
status = Path("/proc/self/status").read_text().splitlines()
written = next(int(line.split()[1]) for line in status if line.startswith("VmData:")) << 10
resource.setrlimit(resource.RLIMIT_DATA, (written + (4 << 20), resource.RLIM_INFINITY))
try:
    watch.infer({"x": many})
except InputRefused as error:
    print(error.code)
print(watch.infer({"x": one}).samples)
"""


def test_an_inference_that_finds_no_memory_is_refused_and_the_next_is_answered(device: Path) -> None:
    whole = [sys.executable, "-c", INFER, str(device / "old.bundle"), str(device / "folder")]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["no-memory", "1"]


def test_a_request_that_finds_no_memory_is_refused_and_the_next_is_answered(device: Path) -> None:
    door = device / "door"
    run = [*ENTRY, "run", "--socket", str(door), "--home", str(device / "home")]
    daemon = subprocess.Popen(run, stderr=subprocess.DEVNULL)
    try:
        until(lambda: ask(door, SMALL)[0] == 200, "the first answer")
        # writable memory, not address space: the allocator has reserved some of that for every thread
        limit = (written_kib(daemon.pid) << 10) + 20 * MIB  # room for a thread, not for the body
        resource.prlimit(daemon.pid, resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
        status, told = ask(door, b"", length=31 * MIB)
        assert status == 503
        assert "no memory" in told["error"]
        assert ask(door, SMALL)[0] == 200
        # so many connections at once that there is no memory for their threads: some are turned away
        held: list[HTTPConnection] = []
        statuses = {ask(door, SMALL, held=held)[0] for _ in range(20)}
        assert statuses == {0, 200}
        for connection in held:
            connection.close()
        forever = resource.RLIM_INFINITY
        resource.prlimit(daemon.pid, resource.RLIMIT_DATA, (forever, forever))
        assert {ask(door, SMALL)[0] for _ in range(8)} == {200}
        assert daemon.poll() is None
    finally:
        daemon.kill()
        daemon.wait()


SMALL = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]}
).encode()


def written_kib(pid: int) -> int:
    """What RLIMIT_DATA counts of a process (proc(5), VmData)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData:"))


def ask(
    door: Path, body: bytes, length: int | None = None, held: list[HTTPConnection] | None = None
) -> tuple[int, dict[str, Any]]:
    """What a request over the socket is told, 0 where the connection is closed on it.

    Args:
        length: As stated; more than the body has is a body that does not come.
        held: Where the connection is kept open.
    """
    connection = HTTPConnection("edge", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    try:
        connection.sock.connect(str(door))
        connection.putrequest("POST", "/v2/models/tiny/infer")
        connection.putheader("Content-Length", str(len(body) if length is None else length))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except OSError:
        return 0, {}
    finally:
        if held is None:
            connection.close()
        else:
            held.append(connection)
