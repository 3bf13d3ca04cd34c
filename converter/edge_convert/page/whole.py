"""The whole page: head, verdict, a section for each profile, where everything comes from."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from edge_convert.page import (
    answers,
    artifacts,
    attention,
    confidence,
    device,
    judged,
    layers,
    overview,
    provenance,
    robustness,
    tradeoff,
    worth,
)
from edge_convert.page.markup import (
    Fields,
    Markup,
    badge,
    bullets,
    element,
    empty,
    folded,
    join,
    part,
    quiet,
    sentence,
)

NOTES = 4


def render(document: Fields) -> str:
    """The page.

    Args:
        document: As report.json has it.
    """
    title = f"{document['name']} {document['version']}"
    profiles = document.get("profiles") or []
    body = [
        element("a", "Skip to the results", href="#results", class_="skip"),
        overview.header(document),
        _navigation(profiles),
        element(
            "main",
            overview.cards(document),
            _notes(document.get("notes") or []),
            *(_profile(document, profile, profiles[:i]) for i, profile in enumerate(profiles)),
            provenance.section(document),
            id="results",
        ),
        element("footer", _GLOSSARY),
    ]
    return "<!doctype html>\n" + element("html", _head(title), element("body", *body), lang="en") + "\n"


def _head(title: str) -> Markup:
    style = _style()
    # the style is allowed by its digest: nothing else, wherever it came from, can run, load or be drawn
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        empty("meta", charset="utf-8"),
        empty("meta", http_equiv="Content-Security-Policy", content=policy),
        empty("meta", name="viewport", content="width=device-width, initial-scale=1"),
        empty("meta", name="color-scheme", content="light dark"),
        empty("meta", name="referrer", content="no-referrer"),
        element("title", f"{title}: conversion report"),
        element("style", Markup(style)),
    )


@cache
def _style() -> str:
    return files(__package__).joinpath("style.css").read_text(encoding="utf-8")


def _navigation(profiles: list[Fields]) -> Markup:
    links = [(overview.anchor(p), p["profile"]) for p in profiles] + [("provenance", "Inputs and tools")]
    items = (element("li", element("a", words, href=f"#{target}")) for target, words in links)
    return element("nav", element("ul", *items), aria_label="Sections")


def _profile(document: Fields, profile: Fields, before: Sequence[Fields]) -> Markup:
    """Everything about one profile: what was chosen and why first, what it consists of last.

    Args:
        before: The profiles that the page has shown; what is the same as there is not shown again.
    """
    parts = [
        tradeoff.part_of(document, profile),
        judged.part_of(profile),
        worth.parts_of(profile),
        confidence.part_of(profile),
        robustness.part_of(profile),
        _artifact(profile, before),
        artifacts.fit(profile),
        device.parts_of(profile),
        artifacts.part_of(profile),
    ]
    title = element("h2", profile["profile"])
    return element(
        "section",
        element("div", title, badge("passed" if profile["passed"] else "failed"), class_="title"),
        quiet(profile["title"]),
        sentence(_sentence(profile["summary"])),
        bullets(profile.get("warnings") or [], "warnings"),
        _notes(profile.get("notes") or []),
        element("div", join(parts), class_="parts"),
        class_="profile",
        id=overview.anchor(profile),
    )


def _notes(notes: Sequence[str]) -> Markup:
    """A few notes as they are, many folded away."""
    notes = list(dict.fromkeys(notes))
    listed = bullets(notes, "notes")
    return listed if len(notes) <= NOTES else folded(f"{len(notes)} notes", listed)


def _artifact(profile: Fields, before: Sequence[Fields]) -> Markup:
    """What changed inside: a link where an earlier profile took the same file."""
    twin = next((p for p in before if p.get("explanation") and _inside(p) == _inside(profile)), None)
    if twin is None:
        return join(module.part_of(profile) for module in (answers, attention, layers))
    there = element("a", twin["profile"], href=f"#{overview.anchor(twin)}")
    words = [
        "The same artifact as for ",
        there,
        ": see there what changed its answer and where noise comes from.",
    ]
    return part("What changed", sentence(join(words)))


def _inside(profile: Fields) -> tuple[Any, ...]:
    return tuple(profile.get(name) for name in ("explanation", "depth", "layers", "histogram"))


def _sentence(summary: str) -> str:
    return summary[:1].upper() + summary[1:]


_GLOSSARY = join(
    [
        element("h3", "Words"),
        sentence(
            "Source: the float model that was given. Artifact: the compressed file made from it. "
            "Signal to noise: power of the source's answers over that of the difference, in decibels; "
            "20 dB is a noise of a tenth of the signal, 40 dB of a hundredth. Same answer: the share of "
            "samples whose first class stays. Held-out samples chose nothing, neither ranges nor candidates."
        ),
        sentence("This page holds everything it shows: it loads nothing, runs nothing and sends nothing."),
    ]
)
