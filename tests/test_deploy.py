"""What `deploy/` gives to a machine, as far as it can be checked without being that machine's root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
