"""An identity provider over HTTP: the authorization code flow with PKCE (RFC 7636), and nothing else.

What is believed of a provider is its discovery document, fetched from the issuer that the settings name,
its keys, and the ID token that the token endpoint gives us for a code. Its userinfo is never asked: that is
not signed. Nobody's browser carries more than a code.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_contracts.errors import one_line
from edge_fleet.access.oidc_settings import Client, SafeUrl
from edge_fleet.access.oidc_token import verify
from edge_fleet.config import Address
from edge_fleet.errors import LoginRefused, ProviderUnreachable, TooManyAttempts

DISCOVERY = "/.well-known/openid-configuration"
KEPT_MS = 10 * 60_000  # of the discovery document; keys are read at every login
TIMEOUT_S = 10.0
MAX_BYTES = 1 << 20
AWAY_MS = 5000  # after an answer that was none
WAIT_S = 0.5
MOST_AT_ONCE = 4  # logins that wait for the provider: it must not hold every thread of ours


class Metadata(BaseModel):
    """What we read of a discovery document (OpenID Connect Discovery 1.0, section 3)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    issuer: str
    authorization_endpoint: SafeUrl
    token_endpoint: SafeUrl
    jwks_uri: SafeUrl
    end_session_endpoint: SafeUrl | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    states_issuer: bool = Field(default=False, alias="authorization_response_iss_parameter_supported")


class Once:
    """What has been there before."""

    MOST = 10_000  # the least recent are forgotten beyond: a provider refuses their codes all the same

    def __init__(self) -> None:
        """Start with nothing."""
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def first(self, key: str) -> bool:
        """Whether it comes for the first time."""
        with self._lock:
            known = key in self._seen
            self._seen[key] = None
            if len(self._seen) > self.MOST:
                self._seen.popitem(last=False)
        return not known


class Provider:
    """One identity provider, as a client of it."""

    def __init__(self, client: Client) -> None:
        """Take the settings; nothing is asked before somebody logs in."""
        self.settings = client.settings
        self.finished = Once()  # states of logins
        self._secret = client.secret
        self._turns = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._lock = threading.Lock()
        self._kept: tuple[int, Metadata] | None = None
        self._away_ms = 0  # nobody asks before

    def authorization(self, state: str, nonce: str, verifier: str, now_ms: int) -> str:
        """The URL that a browser is sent to.

        Raises:
            ProviderUnreachable: The provider does not say where that is.
        """
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self.settings.callback,
            "scope": " ".join(("openid", *(s for s in self.settings.scopes if s != "openid"))),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
        return _with_query(self.metadata(now_ms).authorization_endpoint, query)

    def claims(self, code: str, nonce: str, verifier: str, now_ms: int) -> Mapping[str, Any]:
        """What the provider says of the person who brought a code, from its signed ID token alone.

        Raises:
            LoginRefused: The code or the ID token is not good.
            ProviderUnreachable: The provider does not answer as one.
            TooManyAttempts: Too many logins wait for it.
        """
        metadata = self.metadata(now_ms)
        with self._turn(), self._http(metadata.token_endpoint) as http:
            answer = self._redeem(http, metadata, code, verifier)
            keys = _json(http, "GET", metadata.jwks_uri)
        token, access_token = answer.get("id_token"), answer.get("access_token", "")
        if not isinstance(token, str) or not isinstance(access_token, str):
            raise LoginRefused("the provider gave no ID token; does the client have the scope openid?")
        return verify(
            token,
            keys,
            issuer=self.settings.issuer,
            client_id=self.settings.client_id,
            nonce=nonce,
            access_token=access_token,
            now_s=now_ms // 1000,
        )

    def logout(self, now_ms: int) -> str | None:
        """Where a browser can end its session at the provider too (RP-Initiated Logout 1.0).

        Raises:
            ProviderUnreachable: The provider does not answer.
        """
        endpoint = self.metadata(now_ms).end_session_endpoint
        query = {
            "client_id": self.settings.client_id,
            "post_logout_redirect_uri": f"{self.settings.public_url}/console/login",
        }
        return endpoint and _with_query(endpoint, query)

    def require_issuer(self, stated: str | None, now_ms: int) -> None:
        """RFC 9207: an answer states whose it is, so that one provider's cannot pass for another's.

        Raises:
            LoginRefused: It is another's, or says nothing where this provider says it.
            ProviderUnreachable: The provider does not answer.
        """
        required = stated is not None or self.metadata(now_ms).states_issuer
        if required and stated != self.settings.issuer:
            raise LoginRefused("the answer is of another issuer than the one that was asked")

    def metadata(self, now_ms: int) -> Metadata:
        """The discovery document, at most KEPT_MS old.

        Raises:
            ProviderUnreachable: It cannot be read, or is another issuer's.
        """
        kept = self._kept
        if kept is not None and now_ms - kept[0] < KEPT_MS:
            return kept[1]
        if now_ms < self._away_ms:
            raise ProviderUnreachable("the identity provider did not answer just now; try again soon")
        # one asks and the others do not wait: strangers must not hold every thread of ours
        if not self._lock.acquire(timeout=WAIT_S):
            raise TooManyAttempts("the identity provider is being asked; try again soon", 5)
        try:
            self._away_ms = now_ms + AWAY_MS
            found = self._discover()
            self._kept, self._away_ms = (now_ms, found), 0
            return found
        finally:
            self._lock.release()

    def _discover(self) -> Metadata:
        url = self.settings.issuer.rstrip("/") + DISCOVERY
        with self._http(url) as http:
            raw = _json(http, "GET", url)
        try:
            found = Metadata.model_validate(raw)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise ProviderUnreachable(f"{url}: {fault['loc'][-1]}: {fault['msg']}") from None
        if found.issuer != self.settings.issuer:
            raise ProviderUnreachable(
                f"{url} is of the issuer {found.issuer!r:.200}, expected {self.settings.issuer!r}"
            )
        return found

    def _redeem(self, http: httpx.Client, metadata: Metadata, code: str, verifier: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.settings.callback,
            "code_verifier": verifier,
            "client_id": self.settings.client_id,
        }
        auth = None
        if self._secret:
            methods = metadata.token_endpoint_auth_methods_supported
            if "client_secret_basic" in methods or "client_secret_post" not in methods:
                # RFC 6749 section 2.3.1: both halves are form-encoded first
                auth = httpx.BasicAuth(quote_plus(self.settings.client_id), quote_plus(self._secret))
            else:
                form["client_secret"] = self._secret
        return _json(http, "POST", metadata.token_endpoint, data=form, auth=auth)

    @contextmanager
    def _http(self, url: str) -> Iterator[httpx.Client]:
        # no redirects: what is asked for is where the provider's own document says
        own = Address(urlsplit(url).hostname or "", 0).is_loopback
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=not own) as client:
            yield client

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=WAIT_S):
            raise TooManyAttempts("too many logins wait for the identity provider; try again soon", 10)
        try:
            yield
        finally:
            self._turns.release()


def challenge(verifier: str) -> str:
    """RFC 7636 section 4.2, method S256."""
    hashed = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return url + ("&" if urlsplit(url).query else "?") + urlencode(query)


def _json(http: httpx.Client, method: str, url: str, **request: Any) -> dict[str, Any]:
    """The object that a provider answers with."""
    headers = {"Accept": "application/json"}
    try:
        with http.stream(method, url, headers=headers, **request) as answer:
            content = b""
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > MAX_BYTES:
                    raise ProviderUnreachable(f"{url} answers with more than {MAX_BYTES} bytes")
            status = answer.status_code
    except httpx.HTTPError as error:
        reason = one_line(error)
        raise ProviderUnreachable(f"the identity provider does not answer at {url}: {reason}") from None
    try:
        raw = httpx.Response(status, content=content).json()
    except (ValueError, RecursionError):
        raw = None
    if method == "POST" and status in (400, 401) and isinstance(raw, dict):
        raise LoginRefused(f"the provider refuses the code: {printable(raw.get('error'))}")
    if status != 200 or not isinstance(raw, dict):
        raise ProviderUnreachable(f"{url} answers {status}, expected a JSON object")
    return raw


def printable(text: Any) -> str:
    """A stranger's word, short and plain."""
    return "".join(c for c in str(text) if c.isascii() and c.isprintable())[:80]
