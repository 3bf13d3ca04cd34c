"""How people log in at an identity provider: one file, `edge-fleet serve --oidc FILE`.

    format: edgefleet.oidc/1
    issuer: https://login.example
    client_id: edge-fleet
    client_secret_file: oidc.secret     # beside this file; left out for a public client
    public_url: https://fleet.example   # how browsers reach this server
    roles:                              # the first line that a person has counts
      fleet-admins: admin
      fleet-operators: operator

YAML or TOML, as plans are; nothing but files is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from edge_contracts.model import require_format
from edge_fleet.auth import PERSONAL, Role
from edge_fleet.config import Address
from edge_fleet.errors import RequestInvalid
from edge_fleet.model import Frozen, parse_object
from edge_fleet.rollouts.plan_file import read_plan_file

FORMAT = "edgefleet.oidc/1"
CALLBACK = "/console/oidc/callback"


def is_safe_url(url: str) -> bool:
    """Whether what is sent to a URL can be read by nobody on its way: https, or this machine's own http."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if "\\" in url or any(ord(character) <= 32 for character in url) or parts.username is not None:
        return False
    own = parts.scheme == "http" and Address(host, 0).is_loopback
    return bool(host) and (parts.scheme == "https" or own)


def _safe_url(url: str) -> str:
    if not is_safe_url(url):
        raise ValueError("expected an https URL; http is for this machine's own addresses alone")
    return url


SafeUrl = Annotated[str, StringConstraints(max_length=500), AfterValidator(_safe_url)]
ClaimName = Annotated[str, StringConstraints(pattern=r"^[^\s]{1,200}$")]


class OidcSettings(Frozen):
    """What a settings file says.

    Args:
        issuer: Of the provider, exactly as it calls itself; its discovery document is below it.
        client_id: Under which the provider knows this server.
        client_secret_file: A file with the secret, relative to the settings; "" for a public client.
        public_url: Of this server, as browsers reach it, without a path.
        roles: Role by value of the role claim; of several that a person has the first here counts.
        role_claim: Claim of the ID token with a value or a list of them; dots lead into objects.
        name_claim: Claim that becomes the user's name here, at the first login.
        scopes: What is asked for, besides "openid".
        label: Words of the button: "Log in with ...".
    """

    format: Literal["edgefleet.oidc/1"]
    issuer: SafeUrl
    client_id: Annotated[str, Field(min_length=1, max_length=300)]
    client_secret_file: str = ""
    public_url: SafeUrl
    roles: Annotated[dict[Annotated[str, Field(min_length=1, max_length=200)], Role], Field(min_length=1)]
    role_claim: ClaimName = "groups"
    name_claim: ClaimName = "preferred_username"
    scopes: tuple[Annotated[str, StringConstraints(pattern=r"^[!#-\[\]-~]{1,100}$")], ...] = ("profile",)
    label: Annotated[str, Field(min_length=1, max_length=60)] = "your organisation"

    @field_validator("roles")
    @classmethod
    def _personal(cls, roles: dict[str, Role]) -> dict[str, Role]:
        for value, role in roles.items():
            if role not in PERSONAL:
                raise ValueError(f"{value}: {role} is no person's role, expected {', '.join(PERSONAL)}")
        return roles

    @field_validator("public_url")
    @classmethod
    def _bare(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("expected scheme and host alone, such as https://fleet.example")
        return url.rstrip("/")

    @property
    def callback(self) -> str:
        """Where the provider sends people back to; it must know this address."""
        return self.public_url + CALLBACK


@dataclass(frozen=True)
class Client:
    """A settings file with its secret; "" for a public client, which PKCE alone protects."""

    settings: OidcSettings
    secret: str


def read_client(path: Path) -> Client:
    """Read a settings file and the secret that it names.

    Raises:
        RequestInvalid: One cannot be read, or the secret is empty.
        FormatInvalid: The file does not parse or does not fit; the message names the field.
        FormatTooNew: It is of a later release.
    """
    document = read_plan_file(path)
    require_format(document.raw, FORMAT, str(path))
    settings = parse_object(OidcSettings, document.raw, str(path))
    if not settings.client_secret_file:
        return Client(settings, "")
    place = path.parent / settings.client_secret_file
    try:
        secret = place.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestInvalid(
            f"cannot read client_secret_file {place}: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not secret:
        raise RequestInvalid(f"client_secret_file {place} is empty; leave the line out for a public client")
    return Client(settings, secret)
