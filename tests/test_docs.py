"""The pages: what they link to is there, and so are the files and commands that they name."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from edge_agent.cli import main as agent
from edge_convert.cli import edge_convert
from edge_fleet import cli as fleet

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs" / "decisions"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# records of decisions speak of what was there when they were made
OF_NOW = [page for page in PAGES if "decisions" not in page.parts]
COMPONENTS = "agent|contracts|converter|device-profiles|fleet-server|tests|benchmarks|examples|docs"
PATH = re.compile(rf"`((?:{COMPONENTS})/[\w./-]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.S)
COMMAND = re.compile(r"\bedge-(convert|agent|fleet)((?: +[^\s`|;&()]+)*)")


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link to it."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.lower())
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def dead_links(page: Path, text: str) -> list[str]:
    found = []
    for link in LINK.findall(text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def command_of(program: str, words: list[str]) -> tuple[click.Command | None, list[str]]:
    """The command that the first words name, and the words that are left; None where one is strange."""
    fleet._add_groups()
    command: click.Command = {"convert": edge_convert, "agent": agent, "fleet": fleet.cli}[program]
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        inner = command.get_command(click.Context(command), words[0])
        if inner is None:
            return None, words
        command, words = inner, words[1:]
    return command, words


def strange_commands(text: str) -> list[str]:
    """Commands with a word or a long option that the programs do not know."""
    found = []
    for code in CODE.findall(text):
        for program, rest in COMMAND.findall(code.replace("\\\n", " ")):
            words = [word.rstrip(".,:") for word in rest.split(" #")[0].split()]
            command, left = command_of(program, words)
            known = {"--help", "--version"}
            for one in command.params if command is not None else ():
                known |= {*one.opts, *one.secondary_opts}
            asked = {word.split("=")[0] for word in left if re.match(r"--[a-z]", word)}
            if command is None or asked - known:
                found.append(f"edge-{program}{rest}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", OF_NOW, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    named = PATH.findall(page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists() and "NAME" not in path] == []


@pytest.mark.parametrize("page", OF_NOW, ids=lambda page: page.name)
def test_commands_that_are_shown_are_there(page: Path) -> None:
    assert strange_commands(page.read_text(encoding="utf-8")) == []


def test_every_page_is_in_the_index() -> None:
    here = ROOT / "docs"
    listed = LINK.findall((here / "README.md").read_text(encoding="utf-8"))
    assert sorted(page.name for page in here.glob("*.md") if page.name not in {*listed, "README.md"}) == []


def test_every_decision_is_in_the_index_by_its_title() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    wanted = []
    for record in sorted(DECISIONS.glob("[0-9]*.md")):
        head = record.read_text(encoding="utf-8").split("\n", 1)[0]
        number, _, title = head.removeprefix("# ").partition(": ")
        assert number == record.name[:4], f"{record.name} begins with another number"
        wanted.append(f"* [{number}]({record.name}) {title}")
    assert len(wanted) > 60
    assert [line for line in wanted if line not in index] == []


def test_what_is_not_there_is_found() -> None:
    assert dead_links(PAGES[0], "[a](docs/nowhere.md) [b](docs/design.md#nothing) [c](docs/design.md)") == [
        "docs/nowhere.md",
        "docs/design.md#nothing",
    ]
    text = (
        "```\nedge-fleet rollout make\nedge-fleet rollout show 1 --colour red\nedge-fleet rollout show 1\n```"
    )
    assert strange_commands(text) == ["edge-fleet rollout make", "edge-fleet rollout show 1 --colour red"]
