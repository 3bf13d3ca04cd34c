"""A real browser without a window, for tests that look at a page. No tests."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 90  # its first start on a busy machine takes ten
# It must not talk to anybody of its own accord, or what the page asks for could not be told.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no name is ever looked up
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)


def installed() -> str | None:
    """The browser on this machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Visit:
    """What a browser made of a page.

    Args:
        dom: The document as it stands in the end.
        complaints: What it wrote on the page's console.
        requests: Addresses that were asked for, besides the page itself.
    """

    dom: str
    complaints: tuple[str, ...]
    requests: tuple[str, ...]


def visit(page: Path, folder: Path, width: int = 1200, dark: bool = False) -> Visit:
    """Open a page and wait until it is drawn.

    Args:
        folder: For the browser's own files and its picture, `shot.png`.
    """
    program = installed()
    if program is None:
        raise FileNotFoundError(f"none of {', '.join(NAMES)} is installed")
    log = folder / "net.json"
    command = [
        program, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--dump-dom",
        f"--window-size={width},1600", f"--screenshot={folder / 'shot.png'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=True, encoding="utf-8"
    )
    complaints = tuple(line for line in done.stderr.splitlines() if ":CONSOLE" in line)
    return Visit(done.stdout, complaints, _requests(log, page))


def _requests(log: Path, page: Path) -> tuple[str, ...]:
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    # what the browser wants for itself (a full one asks for updates, whatever it is told) has no origin
    asked = [event.get("params", {}) for event in events]
    own = "not an origin"
    addresses = {params["url"] for params in asked if params.get("initiator", own) != own}
    inside = ("data:", page.as_uri())
    return tuple(sorted(address for address in addresses if not address.startswith(inside)))
