"""The distribution and its arrows: what is listed, what may import what, what an extra brings."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_contracts import describe

ROOT = Path(__file__).parents[1]
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg")

COMPONENTS = ("edge_agent", "edge_convert", "edge_fleet")
ALLOWED = {
    "edge_contracts": {"edge_profiles"},
    "edge_agent": {"edge_contracts"},
    "edge_convert": {"edge_contracts"},
    "edge_fleet": {"edge_contracts"},
    "edge_profiles": set[str](),
}
# Modules whose functions decide: values in, values out. Files, sockets, clocks and threads live elsewhere.
PURE = {
    "edge_contracts": ("cose", "digest", "lineup", "manifest", "messages", "model", "sketch", "topics"),
    "edge_agent": (
        "guard/ladder",
        "guard/restarts",
        "updates/slots",
        "updates/assignment",
        "device/page",
        "device/refused",
        "device/troubles",
        "device/words",
        "telemetry/downsample",
        "telemetry/exposition",
        "telemetry/home_assistant",
        "telemetry/tally",
        "telemetry/losses",
        "telemetry/privacy",
        "telemetry/windows",
        "inference/binding",
        "doubt/confidence",
        "doubt/honesty",
        "doubt/ladder",
        "doubt/part",
        "doubt/routing",
        "doubt/shadow_budget",
    ),
    "edge_convert": ("graph", "quantizing/quantization", "gates", "preference", "measures/intervals"),
    "edge_fleet": (
        "assignment",
        "evidence",
        "gates/betting",
        "gates/doubt",
        "gates/drift",
        "gates/install",
        "gates/latency",
        "gates/quantiles",
        "gates/rates",
        "gates/resources",
        "gates/shares",
        "panel",
        "rollouts/arms",
        "rollouts/decision",
        "rollouts/engine",
        "rollouts/faults",
        "rollouts/pace",
        "rollouts/phases",
        "rollouts/plan",
        "rollouts/plan_schema",
        "rollouts/plan_text",
        "rollouts/reached",
        "rollouts/retries",
        "rollouts/selector",
        "rollouts/stages",
        "rollouts/targets",
        "rollouts/template",
        "rollouts/windows",
        "simulation/description",
        "simulation/draw",
        "simulation/replay",
    ),
}
IMPURE = {
    "os",
    "socket",
    "threading",
    "subprocess",
    "random",
    "time",
    "asyncio",
    "sqlite3",
    "sqlalchemy",
    "urllib",
    "httpx",
    "paho",
    "secrets",
    "shutil",
    "tempfile",
    "signal",
    "select",
    "multiprocessing",
}


def folders() -> dict[str, Path]:
    """Import package by name, with the folder that setup.cfg maps it to."""
    lines = CONFIG["options"]["package_dir"].strip().splitlines()
    pairs = (line.split("=") for line in lines)
    return {name.strip(): ROOT / folder.strip() for name, folder in pairs}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def test_every_package_on_disk_is_listed() -> None:
    listed = set(CONFIG["options"]["packages"].split())
    found = set()
    for name, folder in folders().items():
        for init in folder.rglob("__init__.py"):
            inside = init.parent.relative_to(folder).parts
            found.add(".".join((name, *inside)))
    assert found == listed


@pytest.mark.parametrize("package", ALLOWED)
def test_a_component_imports_only_what_the_arrows_allow(package: str) -> None:
    ours = {*COMPONENTS, "edge_contracts", "edge_profiles"}
    for path in sorted(folders()[package].rglob("*.py")):
        used = {name.split(".")[0] for name in imports(path)} & ours
        wrong = used - ALLOWED[package] - {package}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize(("package", "module"), [(p, m) for p, ms in PURE.items() for m in ms])
def test_a_pure_module_touches_no_file_clock_or_socket(package: str, module: str) -> None:
    path = folders()[package] / f"{module}.py"
    wrong = {name.split(".")[0] for name in imports(path)} & IMPURE
    assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def requirements(extra: str) -> set[str]:
    """Names of the distributions that an extra asks for directly."""
    lines = CONFIG["options.extras_require"][extra].strip().splitlines()
    return {re.split(r"[<>=;\[ ]", line.strip())[0] for line in lines if line.strip()}


def test_the_agent_asks_for_nothing_of_the_converter_or_the_server() -> None:
    base = {re.split(r"[<>=]", line)[0] for line in CONFIG["options"]["install_requires"].split()}
    for extra in ("agent", "agent-tflite"):
        asked = requirements(extra) | base
        assert not asked & {"onnx", "flatbuffers", "rich", "fastapi", "sqlalchemy", "uvicorn", "jinja2"}


@pytest.mark.parametrize("command", ["edge-agent", "edge-convert", "edge-fleet"])
def test_a_missing_extra_is_one_clear_line(command: str, tmp_path: Path) -> None:
    # Hide the extras' modules as if they had never been installed, and ask for something that needs them.
    package = command.replace("-", "_")
    hidden = ["numpy", "onnx", "openvino", "ai_edge_litert", "tflite_runtime", "paho", "fastapi", "uvicorn",
              "sqlalchemy", "httpx", "rich", "flatbuffers", "psutil", "jinja2"]  # fmt: skip
    needy = {
        "edge-agent": ["run", "--home", str(tmp_path)],
        "edge-convert": ["inspect", str(ROOT / "examples" / "digits" / "digits-1.onnx")],
        "edge-fleet": ["serve", "--home", str(tmp_path)],
    }[command]
    script = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {hidden!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        f"sys.argv = [{command!r}, *{needy!r}]\n"
        f"from {package}.cli import main\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    extra = {"edge-agent": "agent", "edge-convert": "converter", "edge-fleet": "server"}[command]
    assert result.returncode == 2
    assert f"pip install 'edgefleet[{extra}]'" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


def test_the_written_descriptions_of_the_messages_are_what_the_types_say() -> None:
    assert describe.outdated() == [], "run python -m edge_contracts.describe"


@pytest.mark.parametrize("command", ["edge-agent", "edge-convert", "edge-fleet"])
def test_help_comes_up_without_the_heavy_modules(command: str) -> None:
    package = command.replace("-", "_")
    script = (
        "import sys\n"
        f"sys.argv = [{command!r}, '--help']\n"
        f"from {package}.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        "heavy = {'openvino', 'onnx', 'ai_edge_litert', 'sqlalchemy', 'fastapi', 'numpy'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "Usage:" in result.stdout


def test_every_benchmark_is_in_make_benchmarks_or_named_as_apart() -> None:
    made = (ROOT / "Makefile").read_text().partition("\nbenchmarks:")[2].partition("\n\n")[0]
    apart = (ROOT / "docs" / "benchmarks.md").read_text().partition("\nApart, ")[2].partition("\n\n")[0]
    commands = [path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text()]
    assert len(commands) > 30
    named = set(re.findall(r"\w+", made)) | set(re.findall(r"`(\w+)\.py`", apart))
    assert [one for one in sorted(commands) if one not in named] == []
