"""The pipeline of examples/ci at work: a real model, a real server; and each way in which it is red."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from fleet_device import enrol, eventually
from fleet_server import Running, fleet_server

from edge_contracts.keys import read_public

ROOT = Path(__file__).parents[2]
CI = ROOT / "examples" / "ci"
DIGITS = ROOT / "examples" / "digits"
PROGRAMS = Path(sys.executable).parent
QUICK = "BUILD_OPTIONS=(--recipe wi8_ai8_mse_bc --latency-gate off --robustness off)\n"


@dataclass
class Pipeline:
    """A repository with one model, and where it leads."""

    fleet: Running
    folder: Path
    secrets: Path

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        stated = {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "EDGE_FLEET_SERVER": self.fleet.url,
            "SIGN_KEY_FILE": str(self.secrets / "keys" / "private.pem"),
            "PUBLISHER_TOKEN_FILE": str(self.secrets / "publisher"),
            "OPERATOR_TOKEN_FILE": str(self.secrets / "operator"),
            "OUTPUT": str(self.folder / "out"),
            "CANARY_WAIT": "0",
        }
        return subprocess.run(
            ["bash", str(CI / "release.sh"), *words],
            capture_output=True, text=True, env=stated | environment, cwd=self.folder, timeout=300,
        )  # fmt: skip

    def releases(self) -> list[str]:
        return [f"{r['name']}@{r['version']}" for r in self.fleet.admin.get("/api/v1/releases").json()]

    def conf(self, text: str) -> None:
        (self.folder / "models" / "digits" / "pipeline.conf").write_text(QUICK + text)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("repository")
    model = folder / "models" / "digits"
    model.mkdir(parents=True)
    shutil.copy(DIGITS / "digits-2.onnx", model / "model.onnx")
    for name in ("calibration.npz", "evaluation.npz"):
        shutil.copy(DIGITS / name, model)
    shutil.copy(CI / "canary.yaml", model)
    secrets = folder / "secrets"
    secrets.mkdir()
    subprocess.run([PROGRAMS / "edge-convert", "keygen", "--output", secrets / "keys"], check=True)
    with fleet_server(folder / "home") as fleet:
        key = read_public(secrets / "keys" / "public.pem")
        fleet.admin.post("/api/v1/publishers", json={"public_key": key.base64, "label": "ci"})
        for role, scope in (("publisher", "releases:write"), ("operator", "rollouts:write")):
            (secrets / role).write_text(fleet.token(role, scopes=[scope]))
        enrol(fleet.http, fleet.token(), "d1", ("arm-cpu",))
        found = Pipeline(fleet, folder, secrets)
        found.conf("")
        yield found


def test_a_model_that_fails_a_gate_is_red_and_nothing_is_published(pipeline: Pipeline) -> None:
    # no sample is large enough to prove that nothing at all is lost
    pipeline.conf("BUILD_OPTIONS+=(--judge-by interval --max-drop 0)\n")
    done = pipeline.run("models/digits", "1.0.0")
    pipeline.conf("")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "fails its gates; nothing was published" in done.stderr
    assert (pipeline.folder / "out" / "report.html").is_file()
    assert pipeline.releases() == []


def test_a_file_that_is_no_model_is_not_called_a_failed_gate(pipeline: Pipeline) -> None:
    broken = pipeline.folder / "models" / "broken"
    shutil.copytree(pipeline.folder / "models" / "digits", broken)
    (broken / "model.onnx").write_bytes(b"no model")
    done = pipeline.run("models/broken", "1.0.0")
    assert (done.returncode, pipeline.releases()) == (2, []), done.stderr
    assert "could not be converted; nothing was published" in done.stderr
    (broken / "model.tflite").write_bytes(b"")
    assert "2 files model.*, expected one" in pipeline.run("models/broken", "1.0.0").stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"EDGE_FLEET_SERVER": ""}, "EDGE_FLEET_SERVER is not set"),
        ({"SIGN_KEY_FILE": "/nowhere"}, "/nowhere is missing or empty"),
        ({"OPERATOR_TOKEN_FILE": "/nowhere"}, "/nowhere is missing or empty"),
        ({"CANARY_WAIT": "soon"}, "expected seconds"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_done(
    pipeline: Pipeline, environment: dict[str, str], words: str
) -> None:
    done = pipeline.run("models/digits", "1.0.0", **environment)
    assert (done.returncode, pipeline.releases()) == (2, [])
    assert words in done.stderr
    assert done.stdout == ""


def test_a_plan_with_a_fault_is_told_before_the_model_is_converted(pipeline: Pipeline) -> None:
    plan = pipeline.folder / "models" / "digits" / "canary.yaml"
    good = plan.read_text()
    plan.write_text(good.replace("bake_s: 3600", "bake_s: soon"))
    done = pipeline.run("models/digits", "1.0.0")
    plan.write_text(good)
    assert done.returncode == 2
    assert "bake_s" in done.stderr
    assert "convert" not in done.stdout


def test_a_good_model_is_published_and_its_canary_begins_once(
    pipeline: Pipeline,
) -> None:
    summary = pipeline.folder / "summary.md"
    done = pipeline.run("models/digits", "2.0.0", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert pipeline.releases() == ["digits@2.0.0"]
    rollout = (pipeline.folder / "out" / "rollout").read_text().strip()
    assert f"/console/rollouts/{rollout}" in done.stdout
    assert "digits 2.0.0" in summary.read_text()
    path = f"/api/v1/rollouts/{rollout}"
    begun = eventually(
        lambda: pipeline.fleet.admin.get(path).json()["stages"][0]["devices"], "the first device"
    )
    assert [one["device"] for one in begun] == ["d1"]
    shown = pipeline.fleet.admin.get(path).json()
    assert (shown["release"], shown["phase"], shown["stage"]) == ("digits@2.0.0", "running", 0)
    assert len(shown["stages"]) == 2
    # the same commit again publishes nothing new, and while its canary is at work no second one begins
    again = pipeline.run("models/digits", "2.0.0")
    assert again.returncode == 1, again.stdout + again.stderr
    assert "is at work on d1" in again.stderr
    assert pipeline.releases() == ["digits@2.0.0"]
    pipeline.fleet.admin.post(f"/api/v1/rollouts/{rollout}/abort")


def test_a_canary_that_does_not_pass_is_red(pipeline: Pipeline) -> None:
    done = pipeline.run("models/digits", "3.0.0", CANARY_WAIT="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "after 1 s, and goes on" in done.stderr
    assert "digits@3.0.0" in pipeline.releases()


def test_a_token_that_may_not_publish_is_red(pipeline: Pipeline) -> None:
    operator = str(pipeline.secrets / "operator")
    done = pipeline.run("models/digits", "4.0.0", PUBLISHER_TOKEN_FILE=operator)
    assert done.returncode == 1
    assert "may not do this" in done.stderr
    assert "digits@4.0.0" not in pipeline.releases()


@pytest.mark.parametrize(
    ("name", "schema"),
    [("github-actions.yml", "vendor.github-workflows"), ("gitlab-ci.yml", "vendor.gitlab-ci")],
)
def test_the_files_are_what_the_two_services_read(name: str, schema: str, tmp_path: Path) -> None:
    check = [str(PROGRAMS / "check-jsonschema"), "--builtin-schema", schema]
    options = ["--data-transform", "gitlab-ci"] if "gitlab" in name else []
    good = subprocess.run([*check, *options, str(CI / name)], capture_output=True, text=True)
    assert good.returncode == 0, good.stdout + good.stderr
    broken = tmp_path / name
    broken.write_text((CI / name).read_text().replace("runs-on:", "runs_on:").replace("script:", "skript:"))
    assert subprocess.run([*check, *options, str(broken)], capture_output=True).returncode != 0
    # and they call what there is
    text = (CI / name).read_text()
    for script in ("release.sh", "changed.sh"):
        assert f"examples/ci/{script}" in text
        assert (CI / script).is_file()
    for variable in ("SIGN_KEY_FILE", "PUBLISHER_TOKEN_FILE", "OPERATOR_TOKEN_FILE", "EDGE_FLEET_SERVER"):
        assert variable in text
    assert "latest" not in text


def steps(name: str) -> str:
    """What a service runs in the end, as it stands in its file."""
    read = yaml.safe_load((CI / name).read_text())
    if "gitlab" in name:
        return str(read["models"]["script"][0])
    (found,) = [one["run"] for one in read["jobs"]["release"]["steps"] if "release.sh" in one.get("run", "")]
    return str(found)


def committed(folder: Path, *files: str) -> str:
    """A commit in which these files are other than before."""

    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    if not (folder / ".git").exists():
        git("init", "-q")
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(os.urandom(4).hex())
    git("add", "-A")
    git("commit", "-q", "-m", "x", "--allow-empty")
    return git("rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_a_pipeline_goes_through_every_changed_model_and_is_red_when_it_cannot_tell(
    name: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")

    def run(folder: Path, before: str, after: str) -> subprocess.CompletedProcess[str]:
        (folder / "examples").symlink_to(ROOT / "examples")
        stated = {"BEFORE": before, "CI_COMMIT_BEFORE_SHA": before,
                  "GITHUB_SHA": after, "CI_COMMIT_SHA": after,
                  "GITHUB_RUN_NUMBER": "1", "GITHUB_RUN_ATTEMPT": "1", "CI_PIPELINE_IID": "1",
                  "EDGE_FLEET_SERVER": "http://127.0.0.1:9", "SIGN_KEY_FILE": str(secret),
                  "PUBLISHER_TOKEN_FILE": str(secret), "OPERATOR_TOKEN_FILE": str(secret),
                  "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}  # fmt: skip
        command = ["bash", "-e", "-o", "pipefail", "-c", steps(name)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=stated)

    (tmp_path / "none").mkdir()
    away = run(tmp_path / "none", "1" * 40, "2" * 40)
    assert away.returncode != 0, "git knows nothing, and nothing was released"
    (tmp_path / "some").mkdir()
    before = committed(tmp_path / "some", "README.md")
    after = committed(
        tmp_path / "some", "models/a/model.onnx", "models/b/model.onnx", "models/gr\u00f6\u00dfe/model.onnx"
    )
    red = run(tmp_path / "some", before, after)
    assert red.returncode == 2
    for model in ("a", "b", "gr\u00f6\u00dfe"):  # one that is red holds up no other
        assert f"models/{model}/calibration.npz is missing" in red.stderr


def test_the_folders_of_changed_models_are_found(tmp_path: Path) -> None:
    def commit(*files: str) -> str:
        return committed(tmp_path, *files)

    def changed(before: str, after: str) -> list[str]:
        return subprocess.run(
            ["sh", str(CI / "changed.sh"), before, after], cwd=tmp_path, capture_output=True, text=True,
            check=True,
        ).stdout.split()  # fmt: skip

    first = commit("models/a/model.onnx", "models/b/model.onnx", "models/b/x/y", "README.md")
    second = commit("models/b/x/y", "other/c/model.onnx")
    assert changed(first, second) == ["models/b"]
    assert changed(second, commit("README.md")) == []
    for unknown in ("0" * 40, ""):  # a first push; a run by hand
        assert changed(unknown, second) == ["models/a", "models/b"]
    shutil.rmtree(tmp_path / "models" / "a")
    assert changed(second, commit()) == []
