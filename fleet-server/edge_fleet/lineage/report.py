"""The report of a build, report.html of `edge-convert`, kept with its release and shown in the console.

It is a page that somebody else wrote. It is stored as it came and only ever served with HEADERS: a browser
runs nothing of it, asks nobody for anything, and takes it for a page of nobody's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sqlalchemy import Connection

from edge_fleet.audit import record
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.home import Home
from edge_fleet.keys import write_secret

MAX_BYTES = 8 << 20
HEADERS = {
    # its own style and pictures are inside it; "sandbox" gives it an origin of its own
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def report_path(home: Home, counter: int) -> Path:
    """Where the report of a release is kept."""
    return home.root / "reports" / f"{counter}.html"


def keep(
    connection: Connection, home: Home, counter: int, name: str, content: bytes, actor: str, now_ms: int
) -> str:
    """Keep the report of a release, in place of one that is there; gives its digest.

    Raises:
        RequestInvalid: It is no page of HTML.
    """
    try:
        begins = content.decode("utf-8").lstrip("\ufeff \r\n\t")[:15].lower()
    except UnicodeDecodeError:
        raise RequestInvalid("the report is not UTF-8; give the report.html of edge-convert build") from None
    if not begins.startswith("<!doctype html"):
        raise RequestInvalid(
            f"the report begins with {begins!r}, a page begins with <!doctype html; give the report.html of "
            "edge-convert build"
        )
    path = report_path(home, counter)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_secret(path, content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    record(connection, actor, "release report kept", name, now_ms, digest=digest)
    return digest


def read(home: Home, counter: int, name: str) -> bytes:
    """The report of a release.

    Raises:
        NotFound: None is kept.
    """
    try:
        return report_path(home, counter).read_bytes()
    except FileNotFoundError:
        raise NotFound(
            f"no report of {name} is kept; edge-fleet release report {name} report.html keeps one"
        ) from None
