"""Templates into pages, with the headers that keep a page to itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from edge_contracts.digest import short
from edge_fleet.console.plots import say

HEADERS = {
    # everything comes from here, nothing is inline, nobody may frame it
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

ASSETS: dict[str, bytes] = {
    entry.name: entry.read_bytes()
    for entry in (resources.files("edge_fleet.console") / "static").iterdir()
    if any(entry.name.endswith(suffix) for suffix in MEDIA_TYPES)
}
# as they were at the start: an upgrade beside it must not give a server pages that its code does not know
_TEMPLATES: dict[str, tuple[str, str]] = {
    entry.name: (entry.read_text(encoding="utf-8"), str(entry))
    for entry in (resources.files("edge_fleet.console") / "templates").iterdir()
    if entry.name.endswith(".html")
}
_STAMPS = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in ASSETS.items()}


def asset(name: str) -> str:
    """The address of a static file; it changes with its content."""
    return f"/console/static/{name}?v={_STAMPS[name]}"


def page(template: str, now_ms: int, status: int = 200, **values: Any) -> HTMLResponse:
    """A page of the console."""
    text = _ENVIRONMENT.get_template(template).render(now_ms=now_ms, **values)
    return HTMLResponse(text, status, HEADERS)


def use(**values: Any) -> None:
    """Give every page a value."""
    _ENVIRONMENT.globals.update(values)


def _at(at_ms: int | None) -> Markup:
    """An exact time; what is to come has no "ago"."""
    if at_ms is None:
        return Markup("never")
    exact = datetime.fromtimestamp(at_ms / 1000, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        exact.isoformat(timespec="seconds"), exact.strftime("%Y-%m-%d %H:%M UTC")
    )


def _ago(at_ms: int | None, now_ms: int) -> Markup:
    """How long ago, with the exact time for those who point at it."""
    if at_ms is None:
        return Markup("never")
    seconds = max(0, (now_ms - at_ms) / 1000)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size or unit == "s":
            words = f"{seconds / size:.0f} {unit} ago"
            break
    exact = datetime.fromtimestamp(at_ms / 1000, UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        exact.isoformat(timespec="seconds"), exact.strftime("%Y-%m-%d %H:%M:%S UTC"), words
    )


def _many(count: int) -> str:
    """A number that fits a tile: whole below ten thousand."""
    return f"{count:,}" if count < 10_000 else say(count)


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _source(name: str) -> tuple[str, str, Callable[[], bool]] | None:
    found = _TEMPLATES.get(name)
    return None if found is None else (*found, lambda: True)


_ENVIRONMENT = Environment(
    loader=FunctionLoader(_source),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(ago=_ago, bytes=_bytes, many=_many, short=short)
_ENVIRONMENT.globals.update(asset=asset)
_ENVIRONMENT.filters["at"] = _at
