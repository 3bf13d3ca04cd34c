"""Commands of `edge-fleet release` about lineage: show, compare, find, explain, recall, stages, needs."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from edge_contracts.digest import short
from edge_fleet.errors import RequestInvalid
from edge_fleet.lineage import withdraw_cli
from edge_fleet.release_cli import release
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import ago, table

LINEAGE = f"{API}/lineage"
AT_ONCE = "1000"  # devices of a recall
_NEED = re.compile(
    r"^(?P<runtime>[^:\s]+):(?P<software>[^<>=\s]+)(?P<bounds>(?:\s*,?\s*(?:>=|<)\s*[^\s,<>=]+)+)$"
)
_BOUND = re.compile(r"(>=|<)\s*([^\s,<>=]+)")


@release.command("show")
@click.argument("wanted", metavar="RELEASE")
@remote
@as_json
def show(wanted: str, home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """Show a release (counter or NAME@VERSION): stage, history, scores, provenance, what devices measured."""
    found = connect(home_path, url, token).get(f"{LINEAGE}/release", release=wanted)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{found['name']} {found['version']} (counter {found['counter']}): {found['stage']}")
    if found["refusal"]:
        click.echo(f"  no rollout: {found['refusal']}")
    if found["withdrawal"]:
        withdraw_cli.say(found["withdrawal"])
    for step in found["history"]:
        click.echo(f"  {step['event']} by {step['actor']}, {ago(step['at_ms'])}" + _after(step["why"]))
    for bundle in found["bundles"]:
        _bundle(bundle)


@release.command("compare")
@click.argument("before", metavar="RELEASE")
@click.argument("after", metavar="RELEASE")
@remote
@as_json
def compare(
    before: str, after: str, home_path: Path | None, url: str | None, token: str | None, as_json: bool
) -> None:
    """Say what changed: scores, size, latency, gates, tensor contract, sources."""
    found = connect(home_path, url, token).get(f"{LINEAGE}/compare", before=before, after=after)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{found['before']} -> {found['after']}")
    for word in ("added", "removed"):
        if profiles := found[f"{word}_profiles"]:
            click.echo(f"{word} profiles: {', '.join(profiles)}")
    for profile, changes in found["profiles"].items():
        click.echo(f"\n{profile}" + ("" if changes else ": nothing changed"))
        if changes:
            rows = [
                (c["section"], c["what"], _cell(c["before"]), _cell(c["after"]), c["verdict"])
                for c in changes
            ]
            table(("section", "what", "before", "after", ""), rows)


@release.command("find")
@click.argument("digest")
@remote
@as_json
def find(digest: str, home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """Search by digest, or its first six or more digits: bundle, archive, artifact, source, data."""
    found = connect(home_path, url, token).get(f"{LINEAGE}/find", digest=digest)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (short(h["digest"]), h["what"], h["release"] or "-", h["profile"] or "-", short(h["bundle"]))
        for h in found
    ]
    table(("digest", "what", "release", "profile", "bundle"), rows)


@release.command("explain")
@click.argument("wanted", metavar="RELEASE")
@click.argument("device", required=False)
@click.option("--permit-downgrade", is_flag=True, help="As a plan with permit_downgrade would.")
@remote
@as_json
def explain(
    wanted: str,
    device: str | None,
    permit_downgrade: bool,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Explain what every device, or one, gets of a release and why; or why it gets nothing."""
    query: dict[str, Any] = {"release": wanted, "permit_downgrade": permit_downgrade}
    if device is not None:
        query["device"] = device
    found = connect(home_path, url, token).get(f"{LINEAGE}/explain", **query)
    if as_json:
        click.echo(json.dumps(found))
        return
    for one in found:
        click.echo(f"{one['device']}: {one['why']}")
        if device is not None:
            for step in one["steps"]:
                click.echo(f"  {step}")


@release.command("recall")
@click.argument("what", metavar="DIGEST|RELEASE")
@click.option("--csv", "as_csv", is_flag=True, help="One line for each device and artifact.")
@click.option(
    "--proof", type=click.Path(path_type=Path), help="Write the signed envelopes there, one a line."
)
@remote
@as_json
def recall(
    what: str,
    as_csv: bool,
    proof: Path | None,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Say which devices ran it, since when, until when, how many predictions: from signed telemetry alone."""
    client = connect(home_path, url, token)
    found = client.get(f"{LINEAGE}/recall", what=what, limit=AT_ONCE)
    while (after := found.pop("next")) is not None:
        further = client.get(f"{LINEAGE}/recall", what=what, limit=AT_ONCE, after=after)
        found["runs"] += further["runs"]
        found["next"] = further["next"]
    if proof is not None:
        try:
            with proof.open("w") as stream:
                stream.writelines(f"{line}\n" for line in client.lines(f"{LINEAGE}/recall/proof", what=what))
        except OSError as error:
            raise RequestInvalid(f"cannot write {proof}: {error.strerror}") from None
    if as_json:
        click.echo(json.dumps(found))
    elif as_csv:
        _csv(found["runs"])
    else:
        click.echo(f"{found['devices']} devices, at least {found['predictions']} predictions")
        rows = [_run(run) for run in found["runs"]]
        head = (
            "device",
            "bundle",
            "artifact",
            "since",
            "until",
            "predictions",
            "errors",
            "now",
            "lost",
            "envelopes",
        )
        table(head, rows)


@release.command("report")
@click.argument("wanted", metavar="RELEASE")
@click.argument("page", type=click.Path(path_type=Path))
@remote
def report(wanted: str, page: Path, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Keep the report.html of a build with its release; the console shows it."""
    client = connect(home_path, url, token)
    found = client.upload(f"{LINEAGE}/report?{urlencode({'release': wanted})}", "report", [page])
    click.echo(f"kept with {found['release']}: {short(found['digest'])}")
    text = page.read_text("utf-8")
    bundles = client.get(f"{LINEAGE}/release", release=wanted)["bundles"]
    if not any(one["digest"] in text for one in bundles):
        click.echo(f"it names no bundle of {found['release']}: is it the report of another build?", err=True)


def _stage_command(word: str, said: str) -> Callable[..., None]:
    @release.command(word, help=said)
    @click.argument("wanted", metavar="RELEASE")
    @click.option("--why", default="", help="Kept with the release.")
    @remote
    def command(wanted: str, why: str, home_path: Path | None, url: str | None, token: str | None) -> None:
        body = {"release": wanted, "why": why}
        found = connect(home_path, url, token).post(f"{LINEAGE}/{word}", body)
        click.echo(f"{found['name']} {found['version']}: {found['stage']}")

    return command


approve = _stage_command("approve", "Approve a candidate.")
retire = _stage_command("retire", "Let no rollout of it begin any more; devices keep what they run.")
reopen = _stage_command("reopen", "Make a retired or withdrawn release a candidate again.")


@release.command("policy")
@click.argument("wanted", type=click.Choice(["none", "approved", "second-person"]), required=False)
@remote
def policy(wanted: str | None, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Show or set what a release needs before a rollout: nothing, an approval, or one by a second person."""
    client = connect(home_path, url, token)
    path = f"{LINEAGE}/policy"
    found = client.get(path) if wanted is None else client.post(path, {"policy": wanted})
    click.echo(found["policy"])


@release.command("needs")
@click.argument("stated", nargs=-1, metavar="[RUNTIME:SOFTWARE>=VERSION,<VERSION]...")
@click.option("--clear", is_flag=True, help="Ask nothing any more.")
@remote
@as_json
def needs(
    stated: Sequence[str],
    clear: bool,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Show or replace which versions of runtimes and drivers artifacts need: openvino:intel_vpu>=1.2,<2.

    SOFTWARE is a name of the windows' `software`: kernel, agent, the runtime's own, a driver's.
    """
    client = connect(home_path, url, token)
    path = f"{LINEAGE}/needs"
    if stated or clear:
        found = client.post(path, {"needs": [parse_need(text) for text in stated]})
    else:
        found = client.get(path)
    if as_json:
        click.echo(json.dumps(found))
        return
    for need in found:
        bounds = [f">={need['at_least']}"] * bool(need["at_least"]) + [f"<{need['below']}"] * bool(
            need["below"]
        )
        click.echo(f"{need['runtime']}:{need['software']}{','.join(bounds)}")


def parse_need(text: str) -> dict[str, str]:
    """RUNTIME:SOFTWARE>=VERSION,<VERSION as the API takes it.

    Raises:
        RequestInvalid: It is not that.
    """
    match = _NEED.match(text.strip())
    if match is None:
        raise RequestInvalid(
            f"{text!r:.100} is not RUNTIME:SOFTWARE>=VERSION,<VERSION, as openvino:intel_vpu>=1.2"
        )
    bounds = dict(_BOUND.findall(match["bounds"]))
    return {
        "runtime": match["runtime"],
        "software": match["software"],
        "at_least": bounds.get(">=", ""),
        "below": bounds.get("<", ""),
    }


def _bundle(bundle: dict[str, Any]) -> None:
    click.echo(f"\n{bundle['profile']}  bundle {short(bundle['digest'])}  signed by {bundle['key_id'][:12]}")
    origin = bundle["provenance"]
    click.echo(f"  from {origin['source_name']} {short(origin['source_digest'])}, recipe {origin['recipe']}")
    for artifact in bundle["artifacts"]:
        score = bundle["evaluation"].get(artifact["id"]) or {}
        words = [
            f"{key} {_cell(score[key])}" for key in ("agreement", "sqnr_db") if score.get(key) is not None
        ]
        if score.get("metric"):
            words.append(f"{score['metric']} {_cell(score['artifact'])} (source {_cell(score['source'])})")
        told = f": {', '.join(words)}" if words else ""
        click.echo(f"  {artifact['id']}  {artifact['format']}  {artifact['bytes']} bytes{told}")
    if found := bundle["measured"]:
        click.echo(
            f"  measured by {found['devices']} devices: {found['inferences']} predictions, "
            f"{found['errors']} errors, p50 {_cell(found['latency_p50_ms'])} ms, "
            f"p95 {_cell(found['latency_p95_ms'])} ms"
        )


def _run(run: dict[str, Any]) -> tuple[Any, ...]:
    return (
        run["device"],
        short(run["bundle"]),
        run["artifact"],
        _time(run["since_ms"]),
        _time(run["until_ms"]),
        run["predictions"],
        run["errors"],
        "runs it" if run["running"] else "",
        run["lost"] or "",
        _proof(run),
    )


def _csv(runs: Sequence[dict[str, Any]]) -> None:
    names = (
        "device",
        "bundle",
        "artifact",
        "since_ms",
        "until_ms",
        "first_received_ms",
        "last_received_ms",
        "windows",
        "predictions",
        "errors",
        "running",
        "lost",
    )
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*names, "envelopes"])
    for run in runs:
        writer.writerow([*(run[name] for name in names), _proof(run)])


def _proof(run: dict[str, Any]) -> str:
    return " ".join(f"{p['epoch']}:{p['first_seq']}-{p['last_seq']}" for p in run["proof"])


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _after(why: str) -> str:
    return f": {why}" if why else ""


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value)[:48]
    text = value if isinstance(value, str) else json.dumps(value)
    return (
        text if len(text) <= 48 else short(text) + "..." if text.startswith("sha256:") else text[:45] + "..."
    )
