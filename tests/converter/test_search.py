"""Searches over candidates of a real classifier: what is made, when it ends, that something comes of it."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from digit_models import classifier, parts, write_data

from edge_contracts.bundle import open_bundle
from edge_contracts.keys import PrivateKey, write_private
from edge_convert import convert
from edge_convert.budget import Budget
from edge_convert.build import BuildOptions, build
from edge_convert.errors import DataInvalid, RecipeInvalid
from edge_convert.gates import Limits
from edge_convert.results import TrialState
from edge_convert.search import Forms
from edge_convert.source import read_source
from edge_convert.workbench import Form

UNTIMED = Limits(latency="off")


@pytest.fixture
def options(tmp_path: Path) -> BuildOptions:
    write_private(PrivateKey.generate(), tmp_path / "private.pem")
    return BuildOptions(
        model=classifier(tmp_path / "digits.onnx"),
        profiles=["arm-cpu"],
        name="digits",
        version="1",
        calibration=write_data(tmp_path / "calibration.npz", "calibration", labels=False),
        evaluation=write_data(tmp_path / "evaluation.npz", "evaluation"),
        sign_key=tmp_path / "private.pem",
        output=tmp_path / "out",
        limits=UNTIMED,
    )


class Ticking:
    """A clock that is a second further each time somebody looks."""

    def __init__(self) -> None:
        self._ticks = itertools.count()

    def __call__(self) -> float:
        return float(next(self._ticks))


def test_the_first_candidate_is_made_whatever_the_budget(options: BuildOptions) -> None:
    (outcome,) = build(options, budget=Budget(0)).outcomes
    assert outcome.passed
    assert [t.state for t in outcome.trials] == [TrialState.CHOSEN]
    assert outcome.searched is not None
    assert "0 s was used up" in outcome.searched.ended
    assert any("1 candidates were tried" in note for note in outcome.notes)


def test_each_search_gets_its_share_of_the_budget(options: BuildOptions) -> None:
    both = replace(options, profiles=["arm-cpu", "intel-npu"])
    first, second = build(both, budget=Budget(40, Ticking())).outcomes
    assert first.searched is not None
    assert second.searched is not None
    assert first.searched.tried > 1
    assert second.searched.tried > 1


def test_a_fallback_is_made_even_when_the_time_is_up(options: BuildOptions, tmp_path: Path) -> None:
    spoilt = replace(options, model=classifier(tmp_path / "spoilt.onnx", spoilt=True))
    (outcome,) = build(spoilt, budget=Budget(0)).outcomes
    assert outcome.passed
    assert "fallback to float16" in outcome.summary


def test_a_search_that_is_not_cut_off_tries_every_precision_and_smaller_forms(options: BuildOptions) -> None:
    (outcome,) = build(options).outcomes
    assert {t.precision for t in outcome.trials} == {"int8", "float16", "float32"}
    assert {t.pruned for t in outcome.trials} == {True, False}
    assert len({t.name for t in outcome.trials}) == len(outcome.trials)


def test_a_recipe_by_name_is_the_only_one_tried(options: BuildOptions) -> None:
    (outcome,) = build(replace(options, recipe="wi8_ai8_minmax")).outcomes
    assert [t.recipe for t in outcome.trials] == ["wi8_ai8_minmax"]
    with pytest.raises(RecipeInvalid, match="did you mean 'wi8_ai8_minmax'"):
        build(replace(options, recipe="wi8_ai8_minma"))


def test_a_recipe_that_the_profile_cannot_run_is_refused_with_what_it_runs(options: BuildOptions) -> None:
    (outcome,) = build(replace(options, recipe="wf16", profiles=["coral-usb"])).outcomes
    assert not outcome.passed
    assert outcome.summary == (
        "no bundle: none of the recipes asked for makes int8, which is what profile coral-usb runs"
    )


def test_the_chosen_candidate_can_be_made_again_by_its_name(options: BuildOptions) -> None:
    (outcome,) = build(replace(options, prune="none")).outcomes
    (chosen,) = [t for t in outcome.trials if t.state is TrialState.CHOSEN]
    again = replace(options, recipe=chosen.recipe, output=options.output / "again")
    assert build(again).passed
    assert (again.output / outcome.bundle).read_bytes() == (options.output / outcome.bundle).read_bytes()


def test_a_pruned_candidate_can_be_made_again_by_its_names(options: BuildOptions) -> None:
    fast = replace(options, prefer="speed", limits=replace(UNTIMED, max_drop=60.0, min_agreement=0.3))
    (outcome,) = build(fast).outcomes
    (chosen,) = [t for t in outcome.trials if t.state is TrialState.CHOSEN]
    recipe, step = chosen.name.split("/")
    again = replace(fast, recipe=recipe, prune=step, output=options.output / "again")
    assert build(again).passed
    assert (again.output / outcome.bundle).read_bytes() == (options.output / outcome.bundle).read_bytes()
    with pytest.raises(DataInvalid, match="no such step, the last one is 'step-"):
        build(replace(again, prune="step-99"))


def test_an_accelerators_forms_keep_their_first_convolution(options: BuildOptions) -> None:
    (outcome,) = build(replace(options, profiles=["coral-usb"])).outcomes
    assert {t.pruned for t in outcome.trials} == {True, False}
    assert not [t for t in outcome.trials if "folded" in t.pruning]


def test_preferring_accuracy_gives_the_least_noise(options: BuildOptions) -> None:
    (outcome,) = build(replace(options, prefer="accuracy")).outcomes
    (chosen,) = [t for t in outcome.trials if t.state is TrialState.CHOSEN]
    ratios = [t.unsaturated_db for t in outcome.trials if t.precision == "int8"]
    assert chosen.unsaturated_db == max(r for r in ratios if r is not None)


def test_preferring_speed_gives_a_smaller_form_within_the_gates(options: BuildOptions) -> None:
    fast = replace(options, prefer="speed", limits=replace(UNTIMED, max_drop=60.0, min_agreement=0.3))
    (outcome,) = build(fast).outcomes
    (chosen,) = [t for t in outcome.trials if t.state is TrialState.CHOSEN]
    int8 = [t for t in outcome.trials if t.precision == "int8"]
    assert chosen.predicted_us == min(t.predicted_us for t in int8)


def test_forms_are_made_when_asked_for(options: BuildOptions) -> None:
    graph = read_source(options.model).graph
    made = []

    def coming() -> Iterator[Form]:
        for index in range(3):
            made.append(index)
            yield Form(graph, f"form {index}")

    forms = Forms(coming())
    assert made == []
    assert forms.at(1) is not None
    assert made == [0, 1]
    assert forms.at(1) is forms.at(1)
    assert forms.at(3) is None


def test_arrays_and_names_do_where_the_command_line_has_files(options: BuildOptions, tmp_path: Path) -> None:
    x, y = parts()["evaluation"]
    result = convert(
        options.model,
        profiles=["arm-cpu"],
        name="digits",
        version="1",
        calibration=parts()["calibration"][0],
        evaluation={"x": x, "y": y},
        sign_key=options.sign_key,
        output=tmp_path / "from-arrays",
        labels=[f"digit {i}" for i in range(10)],
        time_budget_s=0,
        limits=UNTIMED,
    )
    (outcome,) = result.outcomes
    manifest = open_bundle(tmp_path / "from-arrays" / outcome.bundle).manifest
    assert manifest.labels[3] == "digit 3"
    assert manifest.evaluation["int8"].samples == len(x)


def command(options: BuildOptions, *more: str) -> list[str]:
    return [
        sys.executable, "-c", "from edge_convert.cli import main; main()", "build", str(options.model),
        "--profile", "arm-cpu", "--name", "digits", "--version", "1",
        "--calibration", str(options.calibration), "--sign-key", str(options.sign_key),
        "--output", str(options.output), "--latency-gate", "off", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_ended_at_any_time_leaves_all_or_nothing(
    options: BuildOptions, number: signal.Signals
) -> None:
    options.output.mkdir()
    (options.output / "report.json").write_text("older")
    for delay in np.linspace(0.1, 2.5, 5):
        running = subprocess.Popen(command(options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            code = running.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            running.send_signal(number)
            code = running.wait()
        seen = sorted(p.name for p in options.output.iterdir() if not p.name.startswith("."))
        if code == 0 or "report.html" in seen:  # through, or ended on its way out
            assert seen == ["digits-1-arm-cpu.bundle", "report.html", "report.json"]
            break
        assert seen == ["report.json"]
        assert (options.output / "report.json").read_text() == "older"
    build(options, budget=Budget(0))
    assert [p for p in options.output.iterdir() if p.name.startswith(".")] == []


# sends Ctrl-C from within, when the search has begun: no guess about time is needed
INTERRUPTED = """
import os, signal, sys
from contextlib import contextmanager
from edge_convert import build_cli
times = int(sys.argv.pop(1))
@contextmanager
def progress(title, share=None):
    def step(text):
        if "recipe" in text:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
    yield step
build_cli.progress = progress
from edge_convert.cli import main
main()
"""


def interrupted(options: BuildOptions, times: int) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", INTERRUPTED, str(times), *command(options)[3:]]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


def test_ctrl_c_ends_the_search_with_the_best_so_far(options: BuildOptions) -> None:
    ended = interrupted(options, 1)
    # beginning a second recipe would send a second signal, which abandons the build
    assert ended.returncode == 0, ended.stderr
    assert "finishing with the best so far" in ended.stderr
    assert "stopped by the user: 1 candidates were tried" in ended.stdout
    assert (options.output / "digits-1-arm-cpu.bundle").exists()


def test_a_second_ctrl_c_abandons_the_build(options: BuildOptions) -> None:
    ended = interrupted(options, 2)
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1] == "edge-convert: stopped"
    assert not options.output.exists()


def test_what_only_just_passes_gives_way_to_what_passes_well(options: BuildOptions) -> None:
    lax = replace(UNTIMED, max_drop=60.0, min_agreement=0.1, max_slice_drop=100.0)
    (fastest,) = build(replace(options, prefer="speed", limits=lax)).outcomes
    (bold,) = [t for t in fastest.trials if t.state is TrialState.CHOSEN]
    assert bold.score is not None and bold.score.source is not None and bold.score.artifact is not None
    drop = 100 * (bold.score.source - bold.score.artifact)
    assert drop > 1  # else there is nothing to see here
    tight = replace(lax, max_drop=1.1 * drop)
    (speedy,) = build(replace(options, prefer="speed", limits=tight)).outcomes
    assert bold.name in [t.name for t in speedy.trials if t.state is TrialState.CHOSEN]
    (balanced,) = build(replace(options, limits=tight)).outcomes
    states = {t.name: t.state for t in balanced.trials}
    assert states[bold.name] is not TrialState.CHOSEN
    (chosen,) = [t for t in balanced.trials if t.state is TrialState.CHOSEN]
    assert chosen.score is not None and chosen.score.source is not None and chosen.score.artifact is not None
    assert 100 * (chosen.score.source - chosen.score.artifact) <= drop / 2


def test_the_costliest_layers_are_tried_in_float_and_can_be_made_again(options: BuildOptions) -> None:
    best = replace(options, prefer="accuracy", prune="none")
    (outcome,) = build(best).outcomes
    kept = [t for t in outcome.trials if "+" in t.name]
    plain = [t for t in outcome.trials if "+" not in t.name and t.precision == "int8"]
    assert kept
    assert max(t.unsaturated_db or 0 for t in kept) > max(t.unsaturated_db or 0 for t in plain)
    (chosen,) = [t for t in outcome.trials if t.state is TrialState.CHOSEN]
    assert chosen.name in [t.name for t in kept]
    manifest = open_bundle(options.output / outcome.bundle).manifest
    assert len(manifest.provenance.kept_float) == int(chosen.name.split("+")[1].removesuffix("float"))
    again = replace(best, recipe=chosen.name, output=options.output / "again")
    assert build(again).passed
    assert (again.output / outcome.bundle).read_bytes() == (options.output / outcome.bundle).read_bytes()


def test_a_set_of_layers_that_is_not_proposed_is_refused_with_those_that_are(options: BuildOptions) -> None:
    with pytest.raises(RecipeInvalid, match=r"wi8_ai8_minmax\+999float.*known: wi8_ai8_minmax\+\dfloat"):
        build(replace(options, recipe="wi8_ai8_minmax+999float"))


def test_an_edge_tpu_keeps_nothing_in_float(options: BuildOptions) -> None:
    (outcome,) = build(replace(options, profiles=["coral-usb"], prune="none")).outcomes
    assert not [t for t in outcome.trials if "+" in t.name]
