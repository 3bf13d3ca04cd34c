"""Where somebody wanted to go before they had to log in: a page of the console, and nowhere else."""

from __future__ import annotations

import re
from urllib.parse import quote

HOME = "/console"
# printable ASCII without what browsers take for another slash; the path begins with our own
_PAGE = re.compile(r"/console(?:/[!-.0-\[\]-~][!-\[\]-~]*|/?(?:\?[!-\[\]-~]*)?)")
_ENTRANCE = re.compile(r"/console/(?:login|logout|oidc|static)(?:[/?#]|$)")
_ADDRESS = re.compile(r"https?://([^/?#@]*)((?:[/?][^#]*)?)")
_LONGEST = 1000


def safe_next(stated: str, otherwise: str = HOME) -> str:
    """A page of the console that was asked for; `otherwise` when it is none, or is the way in itself.

    An address that somebody else wrote must not lead from our login to their page.
    """
    fits = len(stated) <= _LONGEST and _PAGE.fullmatch(stated) is not None
    return stated if fits and _ENTRANCE.match(stated) is None else otherwise


def login_at(path: str, query: str) -> str:
    """The address of the login that leads back to a page."""
    wanted = safe_next(f"{path}?{query}" if query else path)
    return f"{HOME}/login" if wanted == HOME else f"{HOME}/login?next={quote(wanted, safe='')}"


def parted(address: str) -> tuple[str, str]:
    """Host with port, and path with query, of where a browser says it comes from; ("", "") for no address.

    Whoever sends it may write anything there, also what a parser of addresses fails on.
    """
    found = _ADDRESS.fullmatch(address.split("#")[0])
    return (found[1], found[2]) if found else ("", "")
