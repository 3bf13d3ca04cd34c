"""What `edge-agent run` without options keeps out of memory."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from agent_bundles import KEY, build

HEAVY = (
    "PIL", "pyarrow", "cv2", "openvino", "opendp", "soundfile", "scipy", "http.server", "httptools",
    "edge_agent.serving", "edge_agent.batch", "edge_agent.telemetry.metrics_server",
    "edge_agent.telemetry.home_assistant_link",
    # 11 MB, 8 MB, 1 MB and some tenths of one: benchmarks/memory.py
    "pydantic", "pydantic_core", "edge_contracts.for_pydantic", "edge_contracts.fields",
    "email", "importlib.metadata", "statistics",
    "cryptography", "psutil", "difflib", "tomllib", "edge_agent.doubt.shadow", "edge_agent.doubt.cli",
    "edge_agent.explain", "edge_agent.inference.infer", "edge_agent.trust_cli", "edge_agent.guard.command",
)  # fmt: skip
PYDANTIC = {"pydantic", "pydantic_core"}
ONLY_FOR_A_FLEET = (
    "paho.mqtt.client", "urllib.request", "http.client", "ssl", "sqlite3", "edge_agent.telemetry.reporter",
)  # fmt: skip
RUN = """
import atexit, json, sys
from pathlib import Path
atexit.register(lambda: Path(sys.argv.pop()).write_text(json.dumps(sorted(sys.modules))))
told = sys.argv[-1]
sys.argv.pop()
from edge_agent.cli import main
try:
    main(standalone_mode=False)
finally:
    sys.argv.append(told)
"""


def loaded(folder: Path, *more: str) -> set[str]:
    """The modules of a daemon that has answered a folder, once."""
    (folder / "tiny.bundle").write_bytes(build("float32"))
    (folder / "key.pem").write_bytes(KEY.public.pem)
    (folder / "in").mkdir()
    np.save(folder / "in" / "x.npy", np.ones((1, 4), np.float32))
    home = ["--home", str(folder / "home")]
    entry = [sys.executable, "-c", "from edge_agent.cli import main; main()"]
    install = ["install", str(folder / "tiny.bundle"), "--trust", str(folder / "key.pem"), *home]
    subprocess.run([*entry, *install], check=True, capture_output=True, timeout=60)
    run = ["run", "--input", str(folder / "in"), "--once", *more, *home]
    whole = [sys.executable, "-c", RUN, *run, str(folder / "told")]
    subprocess.run(whole, check=True, capture_output=True, timeout=60)
    return set(json.loads((folder / "told").read_text()))


def test_the_daemon_loads_nothing_heavy_that_it_was_not_asked_for(tmp_path: Path) -> None:
    modules = loaded(tmp_path)
    assert "edge_agent.agent" in modules
    assert modules.isdisjoint(HEAVY + ONLY_FOR_A_FLEET)


def test_what_it_is_asked_for_is_seen(tmp_path: Path) -> None:
    modules = loaded(tmp_path, "--socket", str(tmp_path / "s"))
    assert "edge_agent.serving" in modules
    assert modules.isdisjoint(PYDANTIC)


def test_nothing_that_a_device_runs_imports_pydantic() -> None:
    root = Path(__file__).parents[2]
    ours = [*(root / "agent").rglob("*.py"), *(root / "contracts").rglob("*.py")]
    bridge = root / "contracts" / "edge_contracts" / "for_pydantic.py"
    found = [path for path in ours if PYDANTIC & _imported(path)]
    assert found == [bridge]  # what only the server has a use for, and imports when it has


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {one.name.split(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    return names
