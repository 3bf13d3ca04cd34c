"""Plans as files: YAML, which keeps line numbers, or TOML.

Of YAML only what JSON has is read (the core schema of YAML 1.2, section 10.3.2): `on` and `22:00` are
words, and a key that comes twice is refused as tags and anchors are: a plan says what it seems to say.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_contracts.errors import FormatInvalid
from edge_fleet.errors import RequestInvalid

if TYPE_CHECKING:
    import yaml

Where = tuple[str | int, ...]
MAX_BYTES = 1 << 18
MAX_DEPTH = 20
_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"^(?:~|null|Null|NULL|)$"), lambda _: None),
    (re.compile(r"^(?:true|True|TRUE)$"), lambda _: True),
    (re.compile(r"^(?:false|False|FALSE)$"), lambda _: False),
    (re.compile(r"^[-+]?[0-9]{1,18}$"), int),
    (re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), float),
)


@dataclass(frozen=True)
class PlanDocument:
    """A plan as it was written.

    Args:
        raw: As JSON would hold it.
        lines: Line numbers from 1 by path; empty for TOML.
        what: The file, for messages.
    """

    raw: dict[str, Any]
    lines: Mapping[Where, int]
    what: str


def read_plan_file(path: Path) -> PlanDocument:
    """Read a file; one that ends in .toml is TOML, any other YAML (of which JSON is a part).

    Raises:
        RequestInvalid: It cannot be read.
        FormatInvalid: It is not a document of such a kind.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestInvalid(f"cannot read {path}: {error.strerror}") from None
    return read_plan_text(content, str(path), is_toml=path.suffix == ".toml")


def read_plan_text(content: bytes, what: str, is_toml: bool = False) -> PlanDocument:
    """Read the text of a plan.

    Raises:
        FormatInvalid: It is not a document of such a kind.
    """
    if len(content) > MAX_BYTES:
        raise FormatInvalid(f"{what} has {len(content)} bytes, a plan has at most {MAX_BYTES}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatInvalid(f"{what} is not UTF-8: {error.reason} at byte {error.start}") from None
    if is_toml:
        try:
            return PlanDocument(_as_json(tomllib.loads(text)), {}, what)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise FormatInvalid(f"{what} is not TOML: {error}") from None
    return _read_yaml(text, what)


def _read_yaml(text: str, what: str) -> PlanDocument:
    import yaml

    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                line = event.start_mark.line + 1
                raise FormatInvalid(f"{what} line {line}: a plan has no anchors, aliases or tags")
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f" line {mark.line + 1}"
        raise FormatInvalid(f"{what}{line}: not YAML: {' '.join(str(error.problem).split())}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise FormatInvalid(f"{what}: not YAML: {' '.join(str(error).split())[:200]}") from None
    lines: dict[Where, int] = {}
    raw = None if node is None else _built(node, (), lines, what)
    if not isinstance(raw, dict):
        raise FormatInvalid(
            f"{what} is not a mapping of fields to values: expected lines such as `name: value`"
        )
    return PlanDocument(raw, lines, what)


def _built(node: yaml.Node, path: Where, lines: dict[Where, int], what: str) -> Any:
    """What a node holds, with the line of everything in it."""
    import yaml

    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if len(path) > MAX_DEPTH:
        raise FormatInvalid(f"{what} line {line}: nested deeper than {MAX_DEPTH}")
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            at = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                raise FormatInvalid(f"{what} line {at}: a key is a word")
            if key in mapping:
                first = lines[(*path, key)]
                raise FormatInvalid(f"{what} line {at}: {key!r:.80} comes twice, first in line {first}")
            lines[(*path, key)] = at
            mapping[key] = _built(value_node, (*path, key), lines, what)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_built(item, (*path, index), lines, what) for index, item in enumerate(node.value)]
    return _scalar(node)


def _scalar(node: yaml.Node) -> Any:
    text = str(node.value)
    if node.style in ("'", '"', "|", ">"):
        return text
    for pattern, convert in _SCALARS:
        if pattern.match(text):
            return convert(text)
    return text


def _as_json(value: Any) -> Any:
    """TOML has times of its own; everything else is as in JSON."""
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    if isinstance(value, time) and not isinstance(value, datetime):
        return value.strftime("%H:%M")
    return value.isoformat() if isinstance(value, datetime | date) else value
