"""What `deploy/` gives to a machine, as far as it can be checked without being that machine's root."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from agent_bundles import KEY, build

DEPLOY = Path(__file__).parents[1] / "deploy"
UNITS = ("edge-agent", "edge-fleet")
EXPOSURE = 25  # tenths, of 100; systemd calls up to 3.9 "OK"


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze: the units cannot be checked")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def unit(name: str, folder: Path, change: tuple[str, str] = ("", "")) -> str:
    """A unit whose program is there and whose user is known here."""
    text = (DEPLOY / f"{name}.service").read_text().replace(*change)
    text = text.replace(f"/opt/edgefleet/bin/{name}", "/bin/true").replace(f"User={name}", "User=daemon")
    path = folder / f"{name}.service"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_say_against_a_unit(name: str, tmp_path: Path) -> None:
    found = analyze("verify", "--man=no", unit(name, tmp_path))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_systemd_speaks_up_against_a_misspelt_directive(tmp_path: Path) -> None:
    broken = unit("edge-agent", tmp_path, ("ProtectClock=", "ProtectClocks="))
    assert "ProtectClocks" in analyze("verify", "--man=no", broken).stderr


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_exposes_little(name: str, tmp_path: Path) -> None:
    path = unit(name, tmp_path)
    found = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", path)
    assert found.returncode == 0, found.stdout
    loose = unit(name, tmp_path, ("CapabilityBoundingSet=\n", ""))
    assert analyze("security", "--offline=true", f"--threshold={EXPOSURE}", loose).returncode != 0


def test_the_agents_unit_runs_a_command_that_there_is(tmp_path: Path) -> None:
    (command,) = re.findall(
        r"^ExecStart=/opt/edgefleet/bin/(.+)$", (DEPLOY / "edge-agent.service").read_text(), re.MULTILINE
    )
    program, *arguments = command.replace("/var/lib/edge-agent", str(tmp_path / "home")).split()
    (tmp_path / "home" / "input").mkdir(parents=True)
    environment = os.environ | {"EDGE_AGENT_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    # it parses, and goes as far as a device without anything can go
    assert done.returncode == 1
    assert "no device is enrolled" in done.stderr


def stated(prefix: Path) -> dict[str, str]:
    """The environment that the agent's unit states, as the installer writes it for a prefix."""
    text = (DEPLOY / "edge-agent.service").read_text().replace("/opt/edgefleet", str(prefix))
    words = [
        word for found in re.findall(r"^Environment=(.+)$", text, re.MULTILINE) for word in found.split()
    ]
    return dict(word.split("=", 1) for word in words)


def plain() -> dict[str, str]:
    """The environment without what changes Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def test_the_service_looks_for_byte_code_where_the_installer_puts_it(tmp_path: Path) -> None:
    bytecode = tmp_path / "releases" / "1" / "bytecode"
    bytecode.mkdir(parents=True)
    (tmp_path / "releases" / "1" / "bin").mkdir()
    (tmp_path / "bin").symlink_to("releases/1/bin")
    unit = stated(tmp_path)
    assert Path(unit["PYTHONPYCACHEPREFIX"]).resolve() == bytecode.resolve()
    assert unit["PYTHONOPTIMIZE"] == "2"
    installer = (DEPLOY / "install.sh").read_text()
    assert "PYTHONPYCACHEPREFIX=$release/bytecode" in installer
    assert "-o 2" in installer


def test_byte_code_is_never_why_a_start_fails(tmp_path: Path) -> None:
    prefix, library = tmp_path / "bytecode", tmp_path / "library"
    library.mkdir()
    source = library / "teller.py"
    source.write_text('"""Said."""\nprint("one", __doc__)\n')
    environment = plain() | {"PYTHONPATH": str(library), "PYTHONOPTIMIZE": "2"}

    def told(where: Path) -> str:
        command = [sys.executable, "-c", "import teller"]
        there = environment | {"PYTHONPYCACHEPREFIX": str(where), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=there, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    subprocess.run(
        [sys.executable, "-m", "compileall", "-qq", "-o", "2", str(library)],
        check=True,
        env=environment | {"PYTHONPYCACHEPREFIX": str(prefix)},
    )
    (compiled,) = prefix.rglob("teller.*.opt-2.pyc")
    good = compiled.read_bytes()
    altered = good.replace(b"one", b"two")
    assert altered != good
    compiled.write_bytes(altered)
    assert told(prefix) == "two None\n"  # it is what runs
    for wrong in (b"", b"\0" * len(good), b"\0\0\0\0" + good[4:]):  # cut off, never written, another Python's
        compiled.write_bytes(wrong)
        assert told(prefix) == "one None\n"
    compiled.write_bytes(good)
    source.write_text('print("three", __doc__)\n')  # Python, or a part, was upgraded below it
    assert told(prefix) == "three None\n"
    assert told(source) == "three None\n"  # a prefix below which nothing can be


def test_the_daemon_answers_the_same_as_the_service_starts_it(tmp_path: Path) -> None:
    (tmp_path / "tiny.bundle").write_bytes(build("float32"))
    (tmp_path / "key.pem").write_bytes(KEY.public.pem)
    (tmp_path / "in").mkdir()
    for number in range(3):
        np.save(tmp_path / "in" / f"{number}.npy", np.full((1, 4), 0.25 + number, np.float32))
    program = str(Path(sys.executable).with_name("edge-agent"))

    def answers(name: str, environment: dict[str, str]) -> list[object]:
        home = ["--home", str(tmp_path / name)]
        install = ["install", str(tmp_path / "tiny.bundle"), "--trust", str(tmp_path / "key.pem"), *home]
        written = tmp_path / f"{name}.jsonl"
        run = ["run", "--input", str(tmp_path / "in"), "--once", "--answers", str(written), *home]
        for words in (install, run):
            subprocess.run([program, *words], check=True, capture_output=True, env=environment, timeout=120)
        return [json.loads(line)["outputs"] for line in written.read_text().splitlines()]

    unit = stated(tmp_path / "nowhere")
    assert answers("service", plain() | unit) == answers("shell", plain())


def test_the_installer_refuses_on_one_line(tmp_path: Path) -> None:
    def install(*arguments: str, **environment: str) -> str:
        done = subprocess.run(
            ["sh", str(DEPLOY / "install.sh"), *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {"ACCOUNT": "", "PREFIX": str(tmp_path / "prefix")} | environment,
        )
        assert done.returncode == 1
        assert not (tmp_path / "prefix").exists()
        return done.stderr

    assert install("--quick") == "install: unknown option --quick; --help tells what there is\n"
    assert install("edgefleet-9.whl") == "install: edgefleet-9.whl is not a file\n"
    empty = tmp_path / "programs"
    empty.mkdir()
    for name in ("sh", "dirname", "id"):
        (empty / name).symlink_to(str(shutil.which(name)))
    assert "no Python 3.11 or newer" in install(PATH=str(empty))


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="asks as root whether others may run a program"
)
def test_the_installer_takes_no_python_that_the_services_user_cannot_run(tmp_path: Path) -> None:
    (closed := tmp_path / "roots").mkdir(mode=0o700)
    (closed / "python3").symlink_to(sys.executable)
    index = {"PIP_ARGS": "--no-index", "ACCOUNT": "edge-nobody", "PREFIX": str(tmp_path / "prefix")}
    done = subprocess.run(
        ["sh", str(DEPLOY / "install.sh")],
        capture_output=True,
        text=True,
        env=os.environ | index | {"PYTHON": str(closed / "python3")},
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"install: the user edge-nobody could not run {closed}/python3, as others")
    assert not (tmp_path / "prefix").exists()
