"""HTTP as a device needs it: with a time limit, a size limit, no redirects, one line for each failure.

Redirects are refused because urllib would carry the device's credentials to wherever they point.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import urllib.request
from collections.abc import Mapping
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from edge_agent.device.patience import Patience, PatientHTTP, PatientHTTPS
from edge_agent.errors import ServerBusy, ServerRefused, ServerUnreachable

TIMEOUT_S = 20.0  # of silence, not of the whole transfer
MAX_ANSWER_BYTES = 1 << 20
BUSY = frozenset({429, 503})
MOST_SAID = 200  # of what a server says that is no server
LONGEST_RETRY_S = 86_400.0  # a server that wants to be left alone for longer is asked once a day


def base_url(text: str) -> str:
    """A server's address without a slash at its end.

    Raises:
        ServerUnreachable: It is not an http or https address.
    """
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or parts.username or parts.fragment:
        raise ServerUnreachable(f"{text!r:.200} is not an address of a server, such as https://fleet.example")
    return text.rstrip("/")


def host_of(url: str) -> str:
    """The host part of an address."""
    return urlsplit(url).hostname or ""


def post_json(url: str, body: bytes, ca: str = "", headers: Mapping[str, str] | None = None) -> bytes:
    """Send JSON and read the answer.

    Args:
        ca: PEM of the CA to trust, "" for the system's.
        headers: Further ones.

    Raises:
        ServerUnreachable, ServerRefused: As `opened`.
    """
    with opened(url, {"Content-Type": "application/json", **(headers or {})}, body, ca) as answer:
        try:
            content = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, HTTPException) as error:
            raise broken(url, error) from None
    if len(content) > MAX_ANSWER_BYTES:
        raise ServerRefused(f"{url} answers with more than {MAX_ANSWER_BYTES} bytes")
    return content


def opened(
    url: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    ca: str = "",
    patience: Patience | None = None,
) -> HTTPResponse:
    """Open an address; the caller closes the answer, and turns what fails while it is read into `broken`.

    Args:
        patience: How much the server may send, and how slowly.

    Raises:
        ServerBusy: It cannot now (429, 503).
        ServerUnreachable: Nobody answers, or the server is not itself (other 5xx).
        ServerRefused: It said no (4xx, or a redirect); its own words are in the text.
    """
    request = urllib.request.Request(url, data=body, headers={"User-Agent": "edge-agent", **headers})
    try:
        opener = _opener(url, ca, patience or Patience(MAX_ANSWER_BYTES))
        answer: HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        with error:
            said = _said(error)
        text = f"{host_of(url)} answers {error.code} {error.reason}{said}"
        if error.code in BUSY:
            raise ServerBusy(text, retry_after_s(error.headers)) from None
        raise (ServerUnreachable if error.code >= 500 else ServerRefused)(text) from None
    except URLError as error:
        raise ServerUnreachable(f"no server at {url}: {_reason(error.reason)}") from None
    except (OSError, HTTPException) as error:
        raise broken(url, error) from None
    return answer


def retry_after_s(headers: Message) -> float | None:
    """When to ask again: RFC 9110 section 10.2.3, seconds or a date; None when it is neither.

    A date is held against the answer's own Date, because the device's clock may be wrong.
    """
    text = (headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_RETRY_S)
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date") or "")
    except (ValueError, TypeError):
        return None
    return min(max(0.0, wait.total_seconds()), LONGEST_RETRY_S)


def broken(url: str, error: Exception) -> ServerUnreachable:
    """A connection that ended before its answer did."""
    return ServerUnreachable(f"the connection to {host_of(url)} broke: {_reason(error)}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Follow nothing: urllib then reports the redirect as the error that it is here."""


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self._patience = patience

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(PatientHTTP, patience=self._patience), req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, patience: Patience, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._patience, self._trusts = patience, context

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        connection = partial(PatientHTTPS, patience=self._patience)
        return self.do_open(connection, req, context=self._trusts)


def _opener(url: str, ca: str, patience: Patience) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect(), _Plain(patience)]
    if url.startswith("https:"):
        try:
            context = ssl.create_default_context(cadata=ca or None)
        except ssl.SSLError:
            raise ServerUnreachable("the CA of the server is not a certificate in PEM") from None
        handlers.append(_Secure(patience, context))
    if _is_loopback(host_of(url)):  # a proxy cannot know what this machine calls itself
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _said(error: HTTPError) -> str:
    """What an error's body, {"code", "message"}, says on one line."""
    answer: Any = error.fp
    try:
        # one piece and not `read`: a body may come for ever, byte by byte
        parsed = json.loads(answer.read1(4096))
    except (ValueError, RecursionError, OSError, HTTPException):  # a proxy's page, not our server's answer
        return ""
    message = parsed.get("message") if isinstance(parsed, dict) else None
    return ": " + " ".join(message.split())[:300] if isinstance(message, str) else ""


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {TIMEOUT_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify ({error.verify_message})"
    said = str(getattr(error, "strerror", None) or error)
    return "".join(one if one.isprintable() else "?" for one in said[:MOST_SAID])
