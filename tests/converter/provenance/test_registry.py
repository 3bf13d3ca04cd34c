"""MLflow, the real one: a server on SQLite, a model registered by a training run, a build there and back."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import samples
from digit_models import classifier, write_data

from edge_contracts.bundle import open_bundle
from edge_contracts.digest import digest_of_file
from edge_contracts.keys import write_private
from edge_convert import cli
from edge_convert.provenance.registry import is_reference, without_password

SUPPORT = Path(__file__).parents[2] / "support"
START_S = 180
HOOK = """
import os, sys
def note(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        with open(os.environ["EDGEFLEET_CONNECTIONS"], "a") as log:
            log.write(f"{arguments[1][0]}\\n")
sys.addaudithook(note)
"""


@dataclass(frozen=True)
class Registry:
    """A running server with a registered model.

    Args:
        folder: Model, data and key.
        run: That trained the model.
    """

    uri: str
    folder: Path
    run: str
    environment: dict[str, str]

    def get(self, what: str, **query: str) -> Any:
        """One answer of the server's own interface, without MLflow's client."""
        words = "&".join(f"{key}={value}" for key, value in query.items())
        with urllib.request.urlopen(f"{self.uri}/api/2.0/mlflow/{what}?{words}", timeout=30) as answer:
            return json.load(answer)

    def convert(self, *words: str | Path, uri: str = "") -> subprocess.CompletedProcess[str]:
        script = Path(sys.executable).with_name("edge-convert")
        told = self.environment | {"MLFLOW_TRACKING_URI": uri or self.uri}
        return subprocess.run(
            [str(script), *map(str, words)], env=told, capture_output=True, text=True, timeout=300
        )

    def build(self, model: str, output: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return self.convert(
            "build", model, "--profile", "arm-cpu", "--name", "digits", "--version", "7",
            "--calibration", self.folder / "calibration.npz", "--evaluation", self.folder / "evaluation.npz",
            "--recipe", "wf32", "--latency-gate", "off", "--sign-key", self.folder / "private.pem",
            "--output", output, *words,
        )  # fmt: skip


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("alembic") is None:
        pytest.skip("mlflow with its server is not installed; make frameworks installs it")
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(HOOK)
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONPATH": str(folder / "hook"),
        "EDGEFLEET_CONNECTIONS": str(folder / "connections"),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/kept",
    ]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words], cwd=folder, env=environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(uri, server, folder / "server.log")
        model = classifier(folder / "digits.onnx")
        write_data(folder / "calibration.npz", "calibration", labels=False)
        write_data(folder / "evaluation.npz", "evaluation")
        write_private(samples.KEY, folder / "private.pem")
        trained = subprocess.run(
            [sys.executable, str(SUPPORT / "log_models.py"), uri, str(model)],
            env=environment, check=True, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        run = next(line for line in trained.stdout.splitlines() if len(line) == 32 and line.isalnum())
        yield Registry(uri, folder, run, environment)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(60)


def wait_for(uri: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)  # a process starts: there is nothing to wait on but its port
    pytest.fail(f"MLflow's server did not come up: {log.read_text()[-2000:]}")


@pytest.mark.frameworks
def test_a_registered_model_is_built_and_the_build_logged_back(registry: Registry, tmp_path: Path) -> None:
    done = registry.build(
        "models:/digits@champion", tmp_path / "out", "--mlflow-log", "--mlflow-register", "digits-edge"
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / "out" / "digits-7-arm-cpu.bundle"
    bundle = open_bundle(path)

    # there: the alias is pinned to its version, and the registry's word is in the provenance
    source = next(m for m in bundle.manifest.provenance.materials if m.role == "source")
    assert source.uri == "models:/digits/1"
    assert source.annotations == {
        "mlflow_model": "digits",
        "mlflow_version": "1",
        "mlflow_run_id": registry.run,
        "mlflow_tracking_uri": registry.uri,
        "git_commit": "c0ffee",
    }

    # back: a run in the same experiment with files, figures and lineage
    word = next(line for line in done.stderr.splitlines() if line.startswith("MLflow run "))
    logged = registry.get("runs/get", run_id=word.removeprefix("MLflow run "))["run"]
    trained = registry.get("runs/get", run_id=registry.run)["run"]
    assert logged["info"]["experiment_id"] == trained["info"]["experiment_id"]
    assert logged["info"]["status"] == "FINISHED"
    tags = {t["key"]: t["value"] for t in logged["data"]["tags"]}
    assert tags["mlflow.parentRunId"] == registry.run
    assert tags["edgefleet.bundle.arm-cpu"] == bundle.digest
    assert tags["edgefleet.source.digest"] == source.digest
    assert tags["edgefleet.calibration.digest"] == digest_of_file(registry.folder / "calibration.npz")
    assert {p["key"]: p["value"] for p in logged["data"]["params"]}["arm-cpu/recipe"] == "wf32"
    metrics = {m["key"]: m["value"] for m in logged["data"]["metrics"]}
    score = bundle.manifest.evaluation[bundle.manifest.artifacts[0].id]
    assert metrics["arm-cpu/passed"] == 1.0
    assert metrics["arm-cpu/accuracy"] == pytest.approx(score.artifact)
    files = registry.get("artifacts/list", run_id=logged["info"]["run_id"], path="bundles")["files"]
    assert [(f["path"], int(f["file_size"])) for f in files] == [
        (f"bundles/{path.name}", path.stat().st_size)
    ]
    kept = list((registry.folder / "kept").rglob(path.name))
    assert [k.read_bytes() for k in kept] == [path.read_bytes()]

    # both versions know: the one that it came from, and the one that the bundles are
    version = registry.get("model-versions/get", name="digits", version="1")["model_version"]
    assert {t["key"]: t["value"] for t in version["tags"]}["edgefleet.bundle.arm-cpu"] == bundle.digest
    made = registry.get("model-versions/get", name="digits-edge", version="1")["model_version"]
    assert made["run_id"] == logged["info"]["run_id"]


@pytest.mark.frameworks
def test_a_file_of_a_run_is_inspected(registry: Registry) -> None:
    done = registry.convert("inspect", f"runs:/{registry.run}/files/digits.onnx", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == digest_of_file(registry.folder / "digits.onnx")


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("models:/absent/1", "not found"),
        ("models:/digits/9", "not found"),
        ("models:/digits", "expected models:/NAME/VERSION"),
        ("runs:/123/x", "expected runs:/RUN_ID/PATH"),
        ("runs:/{run}/odd", "several model files or none"),
    ],
)
def test_what_the_registry_does_not_have_is_refused_on_one_line(
    model: str, why: str, registry: Registry
) -> None:
    done = registry.convert("inspect", model.format(run=registry.run))
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("edge-convert:")]
    assert len(lines) == 1 and why in lines[0], done.stderr


@pytest.mark.frameworks
def test_a_registry_that_does_not_answer_is_refused_without_the_password(registry: Registry) -> None:
    done = registry.convert("inspect", "models:/digits/1", uri="http://me:secret@127.0.0.1:9")
    assert done.returncode == 1
    assert "MLflow at http://127.0.0.1:9" in done.stderr and "secret" not in done.stderr


@pytest.mark.frameworks
def test_nothing_but_the_registry_was_connected_to(registry: Registry) -> None:
    # of all that ran before: the server, the training run, the conversions
    connected = set((registry.folder / "connections").read_text().split())
    assert connected and connected <= {"127.0.0.1", "localhost", "::1"}


def test_a_missing_client_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert cli.run(["inspect", "models:/digits/1"]) == 2
    assert "pip install 'edgefleet[mlflow]'" in capsys.readouterr().err


def test_a_path_is_not_taken_for_a_reference() -> None:
    assert is_reference("models:/digits/1") and is_reference(Path("models:/digits/1"))
    assert not is_reference("models/digits.onnx") and not is_reference(Path("/tmp/runs:/x"))


def test_options_of_logging_without_logging_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", "m.onnx", "--profile", "arm-cpu", "--name", "m", "--version", "1"]
    words += ["--calibration", "c.npz", "--sign-key", "k", "--output", str(tmp_path)]
    assert cli.run([*words, "--mlflow-register", "m"]) == 2
    assert "go with --mlflow-log" in capsys.readouterr().err


def test_passwords_leave_an_address() -> None:
    assert without_password("https://me:secret@host:1/x") == "https://host:1/x"
    assert without_password("sqlite:///mlflow.db") == "sqlite:///mlflow.db"
