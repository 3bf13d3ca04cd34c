"""`edge-fleet demo`: the whole main job on this machine, with real parts, judged at the end.

Converter, server, broker and six agents are the real commands in processes of their own
(`demo_parts.py`). Nothing is told to the fleet about version 3: it has to find out. What is done is
checked, and one thing that did not happen as it should makes the exit code 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edge_fleet.demo_parts import Device, Parts, StepFailed

PROFILES = ("arm-cpu", "intel-npu", "coral-tpu")
NAME = "digits"
OUTAGE_S = 10.0
# Small devices' patience, shortened to a demonstration's: seconds
BAKE_S, ROLLOUT_S = 5.0, 120.0
# Latency against a limit and not against the release before: these models take microseconds and six agents
# share the cores, so that a ratio would judge the scheduler.
GATES = ("install_success=0.9", "error_rate=0.02", "latency_p95_ms=50", "golden_agreement=0.9", "drift=0.15")


@dataclass(frozen=True)
class Check:
    """One line of the last table."""

    what: str
    expected: str
    found: str
    ok: bool


class Story:
    """The steps of the demonstration, and what was found at each."""

    def __init__(self, parts: Parts, say: Callable[[str], None]) -> None:
        """Begin with nothing running."""
        self.parts, self.say = parts, say
        self.checks: list[Check] = []
        self.devices: list[Device] = []
        self.bundles: dict[str, dict[str, str]] = {}  # version -> profile -> digest
        self._begin = time.monotonic()

    def check(self, what: str, expected: str, found: str, ok: bool) -> None:
        """Note what a step came to."""
        self.checks.append(Check(what, expected, found, ok))
        self.say(f"{'ok    ' if ok else 'WRONG '} {what}: {found}")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step with the time since the beginning."""
        self.say(f"\n[{time.monotonic() - self._begin:4.0f} s] {title}")
        yield

    def convert(self) -> None:
        """Three versions for three kinds of device; version 3 with its author's own files."""
        with self.step("edge-convert: three versions for three kinds of device, each measured and signed"):
            self.parts.keygen()
            for version in ("1", "2", "3"):
                made = self.parts.build(version, PROFILES, "-dark-ink" if version == "3" else "")
                self.bundles[version] = {found["profile"]: found["digest"] for found in made}
                told = ", ".join(f"{found['profile']} {found['precision']}" for found in made)
                self.check(f"version {version} converted and signed", "3 bundles", told, len(made) == 3)

    def start(self) -> None:
        """A server with its broker, and six enrolled devices that answer live pictures."""
        with self.step("edge-fleet and six edge-agents: enrolled with one-time tokens, live pictures"):
            self.parts.serve()
            for version in ("1", "2", "3"):
                self.parts.publish(version)
            for profile in PROFILES:
                for number in ("1", "2"):
                    self.devices.append(self.parts.enrol(f"{profile}-{number}", profile))
            for device in self.devices:
                self.parts.run(device)
            online = self.parts.until(lambda: len(self._seen()) == len(self.devices), 120)
            self.check("devices say hello", "6", str(len(self._seen())), online)

    def release_first(self) -> None:
        """Version 1 to everyone."""
        with self.step("version 1 to everyone"):
            shown = self._rollout("1", "100%", gates=False)
            self._everyone_runs("1", shown)

    def release_second(self) -> None:
        """Version 2 in stages, while the broker dies and an agent is killed."""
        with self.step("version 2 in stages of 1 device, 50 %, 100 %; the broker and an agent are killed"):
            rollout = self.parts.create_rollout(f"{NAME}@2.0.0", "1,50%,100%", BAKE_S, GATES)
            self.parts.until(lambda: self.parts.rollout(rollout)["stage"] >= 1, ROLLOUT_S)
            self.say(f"       stage 2 begins: the broker is killed for {OUTAGE_S:.0f} s")
            self.parts.kill_broker(OUTAGE_S)
            # one that has confirmed: killed on trial it would be right to take the release back
            confirmed = {d["device"] for d in self.parts.rollout(rollout)["stages"][0]["devices"]}
            victim = next(device for device in self.devices if device.id in confirmed)
            self.say(f"       agent {victim.id} is killed with SIGKILL and started again")
            self.parts.kill(victim)
            self.parts.run(victim)
            shown = self._ended(rollout, 2 * ROLLOUT_S)
            found = f"{shown['phase']}: {shown['why']}"
            self.check("version 2 ends", "completed", found, shown["phase"] == "completed")
            self._everyone_runs("2", shown)

    def release_third(self) -> None:
        """Version 3: caught on the first device, taken back, never seen by the others."""
        with self.step("version 3: right on its author's files, wrong on live pictures; nobody is told"):
            shown = self._rollout("3", "1,50%,100%", gates=True)
            tried = [d["device"] for stage in shown["stages"] for d in stage["devices"]]
            self.check("version 3 is caught", "rolled-back", shown["phase"], shown["phase"] == "rolled-back")
            self.say(f"       because {shown['why']}")
            self.check("devices that were given version 3", "1", ", ".join(tried) or "none", len(tried) == 1)
            self._everyone_runs("2", shown, "every device is on version 2 again")

    def account(self) -> None:
        """Stop the devices in good order, and count every envelope that they ever numbered."""
        with self.step("the devices stop; every envelope is counted"):
            for device in self.devices:
                self.parts.stop(device)
            stored = self.parts.telemetry()
            numbered = waiting = missing = forged = 0
            for device in self.devices:
                outbox = self.parts.outbox(device)
                mine = [e for e in stored if e["device"] == device.id]
                numbers = {e["seq"] for e in mine if e["epoch"] == outbox["epoch"]}
                forged += len({e["epoch"] for e in mine} - {outbox["epoch"]})
                numbered += outbox["next_seq"]
                waiting += outbox["waiting"]
                missing += len(set(range(outbox["next_seq"] - outbox["waiting"])) - numbers)
            found = f"{len(stored)} stored of {numbered} numbered, {missing} missing, {waiting} still queued"
            whole = missing == 0 and waiting == 0 and forged == 0 and len(stored) == numbered
            self.check("telemetry by sequence numbers", "none lost", found, whole)
            self._witnesses(stored)

    def _witnesses(self, stored: list[dict[str, Any]]) -> None:
        """From signed telemetry alone: who ran version 3, and how much was answered."""
        third = set(self.bundles["3"].values())
        windows = [(e["device"], r) for e in stored for r in e["records"] if r["kind"] == "window"]
        ran = sorted({device for device, window in windows if window["bundle"] in third})
        self.check("devices whose telemetry names version 3", "1", ", ".join(ran) or "none", len(ran) == 1)
        answered = sum(window["inferences"] for _, window in windows)
        failed = sum(sum(window["errors"].values()) for _, window in windows)
        self.check("inferences reported", "0 failed", f"{answered} answered, {failed} failed", not failed)

    def _rollout(self, version: str, stages: str, gates: bool) -> dict[str, Any]:
        chosen = GATES if gates else GATES[:1]
        rollout = self.parts.create_rollout(f"{NAME}@{version}.0.0", stages, BAKE_S if gates else 1.0, chosen)
        return self._ended(rollout, ROLLOUT_S)

    def _ended(self, rollout: str, timeout_s: float) -> dict[str, Any]:
        """A rollout once it has ended, or as it stands when the time is up."""
        over = ("completed", "rolled-back", "aborted")
        self.parts.until(lambda: self.parts.rollout(rollout)["phase"] in over, timeout_s)
        return self.parts.rollout(rollout)

    def _everyone_runs(self, version: str, shown: dict[str, Any], what: str = "") -> None:
        wanted = set(self.bundles[version].values())

        def on_it() -> int:
            return sum(active in wanted for active in self._active().values())

        done = self.parts.until(lambda: on_it() == len(self.devices), 60)
        told = f"{on_it()} of {len(self.devices)} ({shown['phase']})"
        self.check(what or f"devices on version {version}", "6", told, done)

    def _seen(self) -> list[str]:
        return [device["id"] for device in self.parts.devices() if device["last_seen_ms"]]

    def _active(self) -> dict[str, str | None]:
        return {device["id"]: (device["active"] or {}).get("bundle") for device in self.parts.devices()}


def tell(story: Story) -> bool:
    """Run the whole story; False when anything was not as it should be."""
    try:
        story.convert()
        story.start()
        story.release_first()
        story.release_second()
        story.release_third()
        story.account()
    except StepFailed as failure:
        story.check("the story goes on", "to its end", str(failure), False)
    return all(check.ok for check in story.checks)


@click.command()
@click.option("--keep", is_flag=True, help="Leave the console and the devices running.")
@click.option("--stop", is_flag=True, help="Stop what an earlier --keep has left running.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(".demo"), show_default=True,
              help="Where everything is kept; made anew.")  # fmt: skip
@click.option("--example", type=click.Path(path_type=Path), default=Path("examples/digits"),
              show_default=True, help="Models and data of the story.")  # fmt: skip
def demo(keep: bool, stop: bool, folder: Path, example: Path) -> None:
    """Run the whole main job here: convert, serve, six devices, three releases, one of them bad."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
    Parts.stop_left_over(folder)
    if stop:
        return
    if not (example / "digits-1.onnx").is_file():
        raise click.UsageError(f"no {example / 'digits-1.onnx'}; run it in a checkout, or give --example")
    parts = Parts(folder, example)
    story = Story(parts, lambda line: console.print(line, highlight=False, markup=False))
    good = False
    try:
        good = tell(story)
        if keep:
            for device in story.devices:
                parts.run(device)
    finally:
        if not keep:
            parts.stop_all()
    table = Table(title="What happened", show_lines=False)
    for heading in ("", "step", "expected", "found"):
        table.add_column(heading, overflow="fold")
    for check in story.checks:
        table.add_row("ok" if check.ok else "WRONG", check.what, check.expected, check.found)
    console.print(table)
    if keep:
        console.print(parts.left_running(), highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(f"logs and reports are in {folder}/", highlight=False)
    raise SystemExit(0 if good else 1)
