"""HTML from values: every text is escaped here, so that no name in a file can become markup.

Names come from model files. Besides being escaped they lose what could mislead a reader: control
characters, and the characters that turn the direction of writing (CVE-2021-42574).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Fields = Mapping[str, Any]  # a part of the report's JSON form

# C0 and C1 controls, bidirectional overrides, isolates and marks, surrogates that no encoding can write
_MISLEADING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
LONGEST = 200  # characters of one name; a tensor may be called by a whole book


class Markup(str):
    """Text that is HTML already."""


def text(value: object) -> Markup:
    """A value as HTML text, markup as it is; a very long name loses its middle."""
    if isinstance(value, Markup):
        return value
    return Markup(escape(_MISLEADING.sub("\ufffd", _shortened(str(value)))))


def _shortened(value: str) -> str:
    """A very long name without its middle."""
    half = LONGEST // 2
    return value if len(value) <= LONGEST else f"{value[:half]} … {value[-half:]}"


def prose(value: object) -> Markup:
    """Text of any length as HTML, or as the inside of a quoted attribute."""
    return Markup(escape(_MISLEADING.sub("\ufffd", str(value))))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """An element; children that are not markup are escaped, attributes that are None or "" left out.

    A trailing underscore of a name is dropped, other underscores become hyphens: `class_`, `aria_label`.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{prose(value)}"'
        for name, value in attributes.items()
        if value is not None and value != ""
    )
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: Iterable[object]) -> Markup:
    """Children one after the other."""
    return Markup("".join(text(child) for child in children))


def empty(tag: str, **attributes: object) -> Markup:
    """An element without content, such as img."""
    return Markup(element(tag, **attributes).removesuffix(f"</{tag}>"))


def sentence(value: object, class_: str = "") -> Markup:
    """A paragraph."""
    return element("p", value if isinstance(value, Markup) else prose(value), class_=class_)


def quiet(value: object) -> Markup:
    """A paragraph that explains and does not insist."""
    return sentence(value, "quiet")


def bullets(items: Sequence[object], class_: str = "") -> Markup:
    """A list; nothing when it is empty."""
    if not items:
        return Markup()
    return element(
        "ul", *(element("li", i if isinstance(i, Markup) else prose(i)) for i in items), class_=class_
    )


def part(title: str, *children: object, note: str = "") -> Markup:
    """A titled part of a section; nothing when it has no children."""
    if not any(children):
        return Markup()
    return element("section", element("h3", title), quiet(note) if note else "", *children, class_="part")


def folded(summary: str, *children: object) -> Markup:
    """What only some readers want: closed on a screen, open on paper; nothing when it is empty."""
    return element("details", element("summary", summary), *children) if any(children) else Markup()


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        number: Whether its cells stand to the right.
    """

    title: object
    number: bool = False


def table(columns: Sequence[Column | str], rows: Sequence[Sequence[object]], name: str) -> Markup:
    """A table that scrolls sideways by itself.

    Args:
        rows: Cells each, or what `row` has made.
        name: Of the table, for those who hear the page.
    """
    shape = [Column(c) if isinstance(c, str) else c for c in columns]
    heads = [element("th", c.title, scope="col", class_="number" if c.number else "") for c in shape]
    body = [r if isinstance(r, Markup) else row(shape, r) for r in rows]
    head = element("thead", element("tr", *heads)) if any(c.title for c in shape) else ""
    made = element("table", head, element("tbody", *body))
    # a scrollable region takes the keyboard's focus, or nobody without a mouse can scroll it
    return element("div", made, class_="wide", tabindex="0", role="group", aria_label=name)


def row(columns: Sequence[Column], cells: Sequence[object], **attributes: object) -> Markup:
    """One row; its first cell heads it."""
    made = []
    for index, (column, cell) in enumerate(zip(columns, cells, strict=True)):
        kind = "number" if column.number else ""
        made.append(element("td" if index else "th", cell, class_=kind, scope=None if index else "row"))
    return element("tr", *made, **attributes)


def badge(word: str) -> Markup:
    """A verdict as a word with a mark; the mark and the word say what the colour says."""
    mark, kind = _BADGES.get(word, ("·", "plain"))
    return element("span", f"{mark} {_WORDS.get(word, word)}", class_=f"badge {kind}")


_BADGES = {
    "pass": ("✓", "good"),
    "passed": ("✓", "good"),
    "chosen": ("✓", "good"),
    "fail": ("✗", "bad"),
    "failed": ("✗", "bad"),
    "not judged": ("·", "plain"),
    "not needed": ("·", "plain"),
    "warning": ("!", "doubt"),
}
_WORDS = {"pass": "passed", "fail": "failed"}


def fragment(*words: object) -> str:
    """An id made of words: letters, digits and hyphens, distinct for distinct words."""
    return "-".join(re.sub(r"[^A-Za-z0-9]", lambda m: f"_{ord(m.group()):x}_", str(word)) for word in words)
