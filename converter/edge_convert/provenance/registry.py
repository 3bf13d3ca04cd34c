"""MLflow: models fetched from a registry or a run, and a build logged back beside them.

`models:/NAME/VERSION`, `models:/NAME@ALIAS` and `runs:/ID/PATH` name a model where a file's path would
stand. What the registry says of it (version, run, commit) becomes the source's origin in the provenance.
The client is mlflow-skinny's; its usage reports are switched off before it is imported. Which file of an
MLflow model can be converted is `flavors.py`'s matter.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_convert.errors import RegistryFailed
from edge_convert.provenance.flavors import model_in
from edge_convert.provenance.materials import NOWHERE, Origin
from edge_convert.results import BuildResult, Outcome, TrialState

_REFERENCE = re.compile(r"(models|runs):/+(.+)")
_MODEL = re.compile(r"(?P<name>[^/@]+)(?:/(?P<version>\d+|latest)|@(?P<alias>[^/@]+))")
_RUN = re.compile(r"(?P<run>[0-9a-f]{32})/(?P<path>.+)")
EXPERIMENT = "edge-convert"
PREFIX = "edgefleet"
# the client's own patience is seven tries with growing pauses, some four minutes
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_WORDS = 300  # of what MLflow says
COMMIT_TAG = "mlflow.source.git.commit"


@dataclass(frozen=True)
class Fetched:
    """A model at hand.

    Args:
        path: Of a file or folder that `read_source` takes.
        name, version: In the registry, or "".
        run: That trained it, or "".
        experiment: Id of that run's, or "".
    """

    path: Path
    origin: Origin = NOWHERE
    name: str = ""
    version: str = ""
    run: str = ""
    experiment: str = ""


@dataclass(frozen=True)
class Logging:
    """Where a build is logged.

    Args:
        experiment: Its name; "" for that of the run that trained the model, else EXPERIMENT.
        register: Name under which the bundles become a version of their own, or "".
    """

    experiment: str = ""
    register: str = ""


@dataclass(frozen=True)
class Logged:
    """What was logged.

    Args:
        version: Of the registered bundles, or "".
    """

    run: str
    version: str = ""


def is_reference(model: Path | str) -> bool:
    """Whether this names a model in MLflow rather than a path."""
    return _REFERENCE.fullmatch(str(model)) is not None


@contextmanager
def at_hand(model: Path, tracking_uri: str = "") -> Iterator[Fetched]:
    """The model as a path for as long as the block lasts: a path is taken as it is, a reference fetched.

    Args:
        tracking_uri: "" leaves it to MLFLOW_TRACKING_URI.

    Raises:
        RegistryFailed: There is no such model, nothing in it can be converted, or MLflow does not answer.
        ModuleNotFoundError: mlflow-skinny is not installed.
    """
    if not is_reference(model):
        yield Fetched(model)
        return
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder, _answering(tracking_uri) as mlflow:
        yield _fetched(mlflow, str(model), Path(folder))


def log(
    result: BuildResult, output: Path, fetched: Fetched, where: Logging, tracking_uri: str = ""
) -> Logged:
    """Log a build to a run of its own: parameters, figures, lineage, bundles and report.

    The version that the model came from, if any, is tagged with the bundles' digests and the run.

    Raises:
        RegistryFailed: MLflow refused; what was written stays, and the run is marked as failed.
    """
    with _answering(tracking_uri) as mlflow:
        client = mlflow.MlflowClient()
        run = client.create_run(
            _experiment(client, where.experiment, fetched),
            run_name=f"{EXPERIMENT} {result.name} {result.version}",
            tags=_lineage(result, fetched),
        )
        identity = str(run.info.run_id)
        finished = False
        try:
            _log_content(client, identity, result, output)
            version = _register(client, where.register, identity, str(run.info.artifact_uri), result)
            finished = True
        finally:
            client.set_terminated(identity, "FINISHED" if finished else "FAILED")
        if fetched.version:
            for key, value in {f"{PREFIX}.run": identity, **_bundles(result)}.items():
                client.set_model_version_tag(fetched.name, fetched.version, key, value)
        return Logged(identity, version)


# --- fetching ------------------------------------------------------------------------------------


def _fetched(mlflow: Any, reference: str, folder: Path) -> Fetched:
    scheme, rest = _REFERENCE.fullmatch(reference).groups()  # type: ignore[union-attr]
    client = mlflow.MlflowClient()
    known = _of_registry(client, rest) if scheme == "models" else _of_run(rest)
    uri, facts = known
    place = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    run, experiment = facts.get("mlflow_run_id", ""), ""
    if run:
        found = client.get_run(run)
        experiment = str(found.info.experiment_id)
        if commit := found.data.tags.get(COMMIT_TAG):
            facts["git_commit"] = str(commit)
    facts["mlflow_tracking_uri"] = without_password(mlflow.get_tracking_uri())
    return Fetched(
        model_in(place, uri),
        Origin(uri, dict(sorted(facts.items()))),
        facts.get("mlflow_model", ""),
        facts.get("mlflow_version", ""),
        run,
        experiment,
    )


def _of_registry(client: Any, rest: str) -> tuple[str, dict[str, str]]:
    """The reference with its version spelt out, and what the registry says."""
    parts = _MODEL.fullmatch(rest)
    if parts is None:
        raise RegistryFailed(
            f"models:/{rest} is not a model; expected models:/NAME/VERSION or models:/NAME@ALIAS"
        )
    name, wanted, alias = parts["name"], parts["version"], parts["alias"]
    if alias:
        found = client.get_model_version_by_alias(name, alias)
    elif wanted == "latest":
        versions = client.search_model_versions(f"name = '{name}'")
        if not versions:
            raise RegistryFailed(f"the registry has no version of {name!r}")
        found = max(versions, key=lambda version: int(version.version))
    else:
        found = client.get_model_version(name, wanted)
    facts = {"mlflow_model": name, "mlflow_version": str(found.version)}
    if found.run_id:
        facts["mlflow_run_id"] = str(found.run_id)
    return f"models:/{name}/{found.version}", facts


def _of_run(rest: str) -> tuple[str, dict[str, str]]:
    parts = _RUN.fullmatch(rest)
    if parts is None:
        raise RegistryFailed(f"runs:/{rest} is not an artifact of a run; expected runs:/RUN_ID/PATH")
    return f"runs:/{rest}", {"mlflow_run_id": parts["run"]}


# --- logging -------------------------------------------------------------------------------------


def _experiment(client: Any, wanted: str, fetched: Fetched) -> str:
    """The id of the experiment; it is made where it is missing."""
    if not wanted and fetched.experiment:
        return fetched.experiment
    name = wanted or EXPERIMENT
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _lineage(result: BuildResult, fetched: Fetched) -> dict[str, str]:
    tags = {
        f"{PREFIX}.source.name": str(result.source.get("name", "")),
        f"{PREFIX}.source.digest": str(result.source.get("digest", "")),
        f"{PREFIX}.source.uri": fetched.origin.uri,
        **{
            f"{PREFIX}.{role}.digest": str(data["digest"])
            for role in ("calibration", "evaluation")
            if isinstance(data := result.data.get(role), Mapping)
        },
        "mlflow.parentRunId": fetched.run,
        **_bundles(result),
    }
    return {key: value for key, value in tags.items() if value}


def _bundles(result: BuildResult) -> dict[str, str]:
    return {f"{PREFIX}.bundle.{o.profile}": o.bundle_digest for o in result.outcomes if o.passed}


def _log_content(client: Any, run: str, result: BuildResult, output: Path) -> None:
    client.log_param(run, "name", result.name)
    client.log_param(run, "version", result.version)
    client.log_param(run, "task", str(result.task))
    for outcome in result.outcomes:
        for key, text in _parameters(outcome).items():
            client.log_param(run, f"{outcome.profile}/{key}", text)
        for key, value in _metrics(outcome).items():
            client.log_metric(run, f"{outcome.profile}/{key}", value)
        if outcome.passed:
            client.log_artifact(run, str(output / outcome.bundle), "bundles")
    for name in ("report.html", "report.json"):
        client.log_artifact(run, str(output / name))


def _parameters(outcome: Outcome) -> dict[str, str]:
    chosen = next((t for t in outcome.trials if t.state is TrialState.CHOSEN), None)
    if chosen is None:
        return {}
    return {"recipe": chosen.recipe, "precision": chosen.precision, "pruning": chosen.pruning}


def _metrics(outcome: Outcome) -> dict[str, float]:
    """Figures of the chosen candidate, by MLflow's rules for names."""
    found: dict[str, float | None] = {"passed": float(outcome.passed)}
    chosen = next((t for t in outcome.trials if t.state is TrialState.CHOSEN), None)
    if chosen is not None:
        found |= {
            "bytes": chosen.bytes,
            "latency_ms": chosen.latency_ms,
            "latency_ratio": chosen.latency_ratio,
        }
        if (score := chosen.score) is not None:
            found |= {"agreement": score.agreement, "sqnr_db": score.sqnr_db, "samples": score.samples}
            if score.metric:
                name = re.sub(r"[^\w./ -]", "_", score.metric)
                found |= {name: score.artifact, f"{name}_of_source": score.source}
    return {key: float(value) for key, value in found.items() if value is not None}


def _register(client: Any, name: str, run: str, artifacts: str, result: BuildResult) -> str:
    """Make the bundles a version of a registered model, unless no profile has one."""
    bundles = _bundles(result)
    if not name or not bundles:
        return ""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    made = client.create_model_version(name, f"{artifacts}/bundles", run, tags=bundles)
    return str(made.version)


# --- the client ----------------------------------------------------------------------------------


@contextmanager
def _answering(tracking_uri: str) -> Iterator[Any]:
    """MLflow's client library, set up; its errors become ours."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    try:
        yield mlflow
    except MlflowException as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = mlflow.get_tracking_uri()
        raise RegistryFailed(without_password(f"MLflow at {where}: {said}")[:_WORDS]) from None


def without_password(text: str) -> str:
    """A text whose addresses have lost the user and password in them."""
    return re.sub(r"//[^/@\s]*@", "//", text)
