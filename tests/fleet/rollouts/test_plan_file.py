"""Plans as files: what is read, what is refused and how it is told, and what editors are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from edge_contracts.errors import FormatInvalid
from edge_fleet.rollouts.faults import form
from edge_fleet.rollouts.plan import Kind, RolloutPlan, parse_plan
from edge_fleet.rollouts.plan_cli import plan as plan_command
from edge_fleet.rollouts.plan_cli import schema as schema_command
from edge_fleet.rollouts.plan_file import read_plan_file, read_plan_text
from edge_fleet.rollouts.plan_schema import plan_schema
from edge_fleet.rollouts.template import template

EXAMPLES = Path(__file__).parents[3] / "examples" / "plans"
GOOD: dict[str, Any] = {
    "format": "edgefleet.rollout/1",
    "release": "digits@2.0.0",
    "kind": "ab",
    "experiment": {"name": "taste", "share": 0.2},
    "select": "site=lab",
    "stages": ["ring=canary", {"percent": 10, "bake_s": 60}, "100%"],
    "bake_s": 600,
    "quorum": 0.8,
    "silence_s": 900,
    "permit_downgrade": False,
    "rate": {"per_minute": 50, "factor": 2, "after": 100, "max_per_minute": 1000},
    "max_in_flight": 200,
    "windows": [{"begin": "22:00", "end": "04:00", "days": ["mon", "tue"]}],
    "time_zone": "Europe/Berlin",
    "start_at": "2030-01-31T20:00:00+01:00",
    "deadline": "2030-02-28T06:00:00+01:00",
    "on_deadline": "stop",
    "priority": 5,
    "join": "until-deadline",
    "retries": {"shed": 3, "network": 3, "verification": 1, "golden": 1, "crash": 1, "backoff_s": 10},
    "on_failure": "hold",
    "gates": {"error_rate": 0.02, "drift": {"limit": 0.2, "min_inferences": 500}},
    "false_halt": 0.01,
    "stray": 1e-4,
    "control": "10%",
}
# A kind of its own, with what goes with no other.
SHADOWED: dict[str, Any] = {name: value for name, value in GOOD.items() if name != "experiment"} | {
    "kind": "shadow-first",
    "shadow": {
        "share": 0.1,
        "cpu": 0.1,
        "memory_mb": 256,
        "latency_ms": 2000,
        "bake_s": 600,
        "unable": "skip",
    },
    "gates": {"shadow_agreement": 0.9},
}
# And another.
BROUGHT: dict[str, Any] = {name: value for name, value in GOOD.items() if name != "experiment"} | {
    "kind": "blue-green",
    "blue_green": {"unable": "switch"},
}
# A wrong value for each field, by path; two for those that are wrong in two ways.
WRONG: list[tuple[str, Any]] = [
    ("format", "edgefleet.manifest/1"),
    ("release", "digits"),
    ("kind", "waterfall"),
    ("experiment", "taste"),
    ("experiment.name", "a taste"),
    ("experiment.share", 1),
    ("blue_green", True),
    ("blue_green.unable", "hope"),
    ("shadow", True),
    ("shadow.share", 0),
    ("shadow.cpu", 1.5),
    ("shadow.memory_mb", 0),
    ("shadow.latency_ms", 0),
    ("shadow.bake_s", -1),
    ("shadow.unable", "hope"),
    ("select", "site"),
    ("stages", "10%"),
    ("stages", []),
    ("stages.0", "many"),
    ("stages.1.percent", 120),
    ("stages.1.bake_s", -1),
    ("stages.0", {"count": 0}),
    ("stages.0", {"label": "ring"}),
    ("bake_s", "soon"),
    ("quorum", 1.5),
    ("silence_s", 0),
    ("permit_downgrade", "maybe"),
    ("rate", 0),
    ("rate.per_minute", 0),
    ("rate.factor", 0.5),
    ("rate.after", 0),
    ("rate.max_per_minute", 70_000),
    ("max_in_flight", 0),
    ("windows", "nightly"),
    ("windows.0.begin", "10 pm"),
    ("windows.0.end", "25:00"),
    ("windows.0.days", []),
    ("windows.0.days.1", "someday"),
    ("time_zone", "Mars/Base"),
    ("start_at", "2030-01-31T20:00:00"),
    ("deadline", "next week"),
    ("on_deadline", "panic"),
    ("priority", 1000),
    ("join", "sometimes"),
    ("retries", 3),
    ("retries.shed", -1),
    ("retries.network", 101),
    ("retries.verification", 1.5),
    ("retries.golden", "no"),
    ("retries.crash", None),
    ("retries.backoff_s", 4000),
    ("on_failure", "shrug"),
    ("gates", ["error_rate"]),
    ("gates.error_rate", "low"),
    ("gates.drift.limit", float("inf")),
    ("gates.drift.min_inferences", 0),
    ("false_halt", 2),
    ("stray", 0),
    ("control", "10"),
]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good plan with one value replaced."""
    good = {"shadow": SHADOWED, "blue_green": BROUGHT}.get(path.split(".")[0], GOOD)
    document: dict[str, Any] = json.loads(json.dumps(good))
    *steps, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place: Any = document
    for step in steps:
        place = place[step]
    place[last] = value
    return document


def test_the_good_plan_is_one_and_every_field_is_in_it() -> None:
    parse_plan(GOOD)
    parse_plan(SHADOWED)
    parse_plan(BROUGHT)
    assert set(GOOD) | set(SHADOWED) | set(BROUGHT) == set(RolloutPlan.model_fields)
    assert {path.split(".")[0] for path, _ in WRONG} == set(RolloutPlan.model_fields)


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_each_wrong_field_is_named_with_its_line_and_the_right_form(path: str, value: Any) -> None:
    document = read_plan_text(yaml.safe_dump(changed(path, value), sort_keys=False).encode(), "plan.yaml")
    with pytest.raises(FormatInvalid) as refusal:
        parse_plan(document.raw, document.what, document.lines)
    told = str(refusal.value)
    assert "\n" not in told
    if path == "format":
        assert "expected 'edgefleet.rollout/1'" in told
        return
    steps = tuple(int(part) if part.isdigit() else part for part in path.split("."))
    line = next(document.lines[steps[:n]] for n in range(len(steps), 0, -1) if steps[:n] in document.lines)
    assert f"plan.yaml line {line}: {steps[0]}" in told
    right = form(RolloutPlan, steps)
    assert right and (right in told or "expected" in told or "neither" in told), told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bake": 3}, "unknown key 'bake'; did you mean 'bake_s'?"),
        ({"rate": {"per_minute": 1, "facter": 2}}, "unknown key 'rate.facter'; did you mean 'factor'?"),
        ({"windows": [{"begin": "22:00", "start": "4"}]}, "unknown key 'windows.0.start'"),
        ({"rate": {"factor": 2}}, "rate.per_minute: it is missing; expected devices begun a minute"),
        (
            {"gates": {"error_rate": {"limit": 0.1, "min_devices": "few"}}},
            "gates.error_rate.min_devices: Input should be a whole number, found 'few'; expected",
        ),
        ({"priority": None}, "priority: Input should be a whole number, found nothing (null); expected -100"),
        ({"select": ["site=lab"]}, "select: Input should be text, found a list; expected all, or terms"),
        (
            {"start_at": "2030-01-01"},
            "start_at: Input should be a time with its offset from UTC, found '2030",
        ),
        ({"rate": {"per_minute": 9, "max_per_minute": 3}}, "max_per_minute 3 is below per_minute 9"),
        ({"windows": [{"begin": "22:00", "end": "22:00"}]}, "a window from 22:00 to 22:00 is never open"),
        ({"start_at": "2031-01-01T00:00:00Z"}, "is not after start_at"),
        ({"deadline": None}, "join until-deadline needs a deadline"),
        ({"kind": "canary", "experiment": None}, "kind canary has two stages"),
        ({"experiment": None}, "kind ab goes with an experiment"),
        ({"kind": "staged"}, "kind ab goes with an experiment"),
        ({"kind": "rehearsal", "experiment": None}, "kind rehearsal has one stage, and goes back"),
        ({"stages": ["5", "2"]}, "stage 2 comes after 5"),
        # and that none is left when it is taken away is no second fault
        ({"stages": [0]}, "stages.0.count: Input should be greater than or equal to 1, found 0; expected"),
        ({"stages": []}, "stages: Input should have 1 or more items, not 0; expected"),
        ({"stages": ["ring", "rang"]}, "3 nor a share such as 50% (and 1 more); expected"),
        (
            {"select": "site=lab,health=great"},
            "no device's health is 'great'; known: degraded, empty, failing",
        ),
        ({"select": "health!=failng"}, "no device's health is 'failng'; did you mean 'failing'?"),
        ({"stages": []}, "stages: Input should have 1 or more items, not 0; expected a list"),
        ({"stages": 5}, "stages: Input should be a list, found 5; expected a list"),
        (
            {"gates": {"error_rate": "low"}},
            "gates.error_rate: Input should be a mapping of fields to values, found 'low'",
        ),
        (
            {"control": "200%"},
            "control: Input is not of the right form, found '200%'; expected a share such as 10%",
        ),
        ({"gates": {"eror_rate": 0.1}}, "unknown gate 'eror_rate'; did you mean 'error_rate'?"),
    ],
)
def test_what_does_not_go_together_is_told(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatInvalid) as refusal:
        parse_plan({**GOOD, **change})
    assert message in str(refusal.value)


def test_what_was_found_is_said_once() -> None:
    with pytest.raises(FormatInvalid) as refusal:
        parse_plan({**GOOD, "time_zone": "Mars/Base"})
    assert str(refusal.value).count("Mars/Base") == 1


def test_a_plan_of_before_with_a_health_that_there_is_not_is_still_read() -> None:
    document = {**GOOD, "select": "health=great"}
    assert parse_plan(document, is_stored=True).select == "health=great"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' comes twice, first in line 1"),
        ("rate:\n  after: 1\n  after: 2\n", "line 3: 'after' comes twice, first in line 2"),
        ("a: &x 1\nb: *x\n", "line 1: a plan has no anchors, aliases or tags"),
        ("a: !!python/object:os.system x\n", "line 1: a plan has no anchors, aliases or tags"),
        ("stages: [1, 2\nbake_s: 3\n", "not YAML"),
        ("a:\n\t- tab\n", "line 2: not YAML"),
        ("- a\n- b\n", "is not a mapping of fields to values"),
        ("", "is not a mapping of fields to values"),
        ("[1, 2]: x\n", "line 1: a key is a word"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("a: " + "[" * 40 + "]" * 40, "nested deeper than 20"),
        ("a: \xff", "is not UTF-8"),
        ("#" * 300_000, "a plan has at most"),
    ],
)
def test_a_file_that_is_not_plain_yaml_is_refused_on_one_line(text: str, message: str) -> None:
    with pytest.raises(FormatInvalid) as refusal:
        read_plan_text(text.encode("latin-1"), "plan.yaml")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_yaml_says_what_it_seems_to_say() -> None:
    # YAML 1.1 would read these as 1320, True, a date and False
    found = read_plan_text(b"begin: 22:00\nlabel: on\nat: 2030-01-31\nn: no\nx: 1e3\ny: null\n", "p").raw
    assert found == {"begin": "22:00", "label": "on", "at": "2030-01-31", "n": "no", "x": 1000.0, "y": None}


def test_a_plan_in_toml_is_the_same_plan(tmp_path: Path) -> None:
    toml = tmp_path / "plan.toml"
    toml.write_text(
        'format = "edgefleet.rollout/1"\nrelease = "digits@2"\nstages = [1, "100%"]\n'
        "deadline = 2030-02-28T06:00:00+01:00\n[[windows]]\nbegin = 22:00:00\nend = 04:00:00\n"
    )
    found = parse_plan(read_plan_file(toml).raw)
    text = (
        "format: edgefleet.rollout/1\nrelease: digits@2\nstages: [1, 100%]\n"
        "deadline: 2030-02-28T06:00:00+01:00\nwindows: [{begin: 22:00, end: 04:00}]\n"
    )
    assert found == parse_plan(read_plan_text(text.encode(), "plan.yaml").raw)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_new_plan_is_one_and_shows_every_field(kind: Kind) -> None:
    text = template("digits@2", kind)
    assert text.startswith("# yaml-language-server: $schema=rollout.schema.json\n")
    plan = parse_plan(read_plan_text(text.encode(), "new").raw)
    assert (plan.release, plan.kind) == ("digits@2", kind)
    for name in RolloutPlan.model_fields:
        assert f"\n{name}:" in text or f"\n# {name}:" in text


OF_ONE_KIND = {
    Kind.AB: "experiment",
    Kind.SHADOW_FIRST: "shadow",
    Kind.BLUE_GREEN: "blue_green",
}


@pytest.mark.parametrize("kind", list(OF_ONE_KIND))
def test_a_new_plan_with_everything_uncommented_is_one_too(kind: Kind) -> None:
    others = set(OF_ONE_KIND.values()) - {OF_ONE_KIND[kind]}
    lines = []
    for line in template("digits@2", kind).splitlines():
        bare = line.removeprefix("# ").removeprefix("#")
        name = bare.split(":")[0]
        nested = line.startswith("#   ")
        uncommented = (name in RolloutPlan.model_fields and name not in others) or nested
        lines.append(bare if uncommented else line)
    parse_plan(read_plan_text("\n".join(lines).encode(), "new").raw)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_plans_by_reader_and_by_schema(path: Path) -> None:
    found = read_plan_file(path)
    parse_plan(found.raw, found.what, found.lines)
    jsonschema.validate(found.raw, plan_schema())
    assert path.read_text().startswith("# yaml-language-server: $schema=rollout.schema.json\n")


def test_there_are_examples_and_the_schema_beside_them_is_the_newest() -> None:
    assert len(list(EXAMPLES.glob("*.yaml"))) >= 3
    assert json.loads((EXAMPLES / "rollout.schema.json").read_text()) == plan_schema()


# What only the reader can know: selectors, time zones and numbers that are none.
READER_ONLY = {("select", "site"), ("stages.0", '{"label": "ring"}'), ("time_zone", "Mars/Base")}


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_the_schema_refuses_what_the_reader_refuses(path: str, value: Any) -> None:
    schema = plan_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(GOOD, schema)
    jsonschema.validate(SHADOWED, schema)
    jsonschema.validate(BROUGHT, schema)
    as_text = value if isinstance(value, str) else json.dumps(value)
    if (path, as_text) in READER_ONLY or path in ("start_at", "deadline") or value == float("inf"):
        return
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(path, value), schema)


def test_the_command_prints_a_schema_checks_a_file_and_says_what_it_asks_for(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert json.loads(run(schema_command).output) == plan_schema()
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(GOOD, sort_keys=False))
    told = run(plan_command, [str(file)])
    assert told.exit_code == 0, told.output
    for words in (
        "digits@2.0.0 to site=lab, ab",
        "arm B        20.0% of the devices, experiment taste",
        "stage 2      10%, watched for 60 s",
        "rate         50 devices a minute, times 2 after every 100 that confirm, up to 1000",
        "window       22:00 to 04:00 on mon, tue",
        "on failure   it stands still until an operator says",
    ):
        assert words in told.output
    assert run(plan_command, []).exit_code == 2
    assert run(plan_command, ["--new", "--kind", "waterfall"]).exit_code == 2
    assert "release: a@1" in run(plan_command, ["--new", "--release", "a@1", "--kind", "canary"]).output
