"""Tokens over HTTP: making, listing and revoking them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, cast

from fastapi import Request
from pydantic import Field, StringConstraints, model_validator
from sqlalchemy import Select, func, or_, select, update
from typing_extensions import TypedDict

from edge_fleet.access import users
from edge_fleet.access.certificates import certify_subscriber
from edge_fleet.api.access import Admin, Operator, Shared, area_of, every
from edge_fleet.api.answers import Router
from edge_fleet.audit import record
from edge_fleet.auth import PERSONAL, Principal, Right, Role, make_token
from edge_fleet.brokers.choose import device_door
from edge_fleet.errors import Conflict, Forbidden, NotFound, RequestInvalid
from edge_fleet.model import Frozen, Identifier, Instant
from edge_fleet.schema import tokens
from edge_fleet.services import Server

AREA = "tokens"
router = Router(prefix="/api/v1", tags=[AREA])

ENROL_TTL_S = 24 * 3600
CERTIFIED_TTL_S = 365 * 24 * 3600  # a certificate has an end
MAX_TTL_S = 10 * 365 * 24 * 3600
Scope = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,32}:(read|write)$")]


class TokenRequest(Frozen):
    """What token to make.

    Args:
        expires_s: From now; None for the role's own: a day for enrolment, never for others.
        device_labels: Of the device that enrols with it; stronger than its own word.
        scopes: AREA:read or AREA:write, such as rollouts:write; None for all that the role may.
        user: Whose it is: it may no more than that user, and nothing while that user is disabled.
        certificate_request: Of a subscriber, where the device port asks for certificates: RFC 2986, PEM.
    """

    role: Role = Role.ENROL
    label: str = Field(default="", max_length=128)
    expires_s: int | None = Field(default=None, gt=0, le=MAX_TTL_S)
    device_labels: dict[Identifier, Annotated[str, Field(max_length=128)]] = Field(
        default_factory=dict, max_length=32
    )
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=32)] | None = None
    user: Identifier | None = None
    certificate_request: str | None = Field(default=None, max_length=16_384)

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.role not in PERSONAL and (self.scopes is not None or self.user is not None):
            raise ValueError(f"scopes and user are for people's roles, not for {self.role}")
        if self.certificate_request is not None and self.role is not Role.SUBSCRIBER:
            raise ValueError(f"certificate_request is for subscribers, not for {self.role}")
        return self


class TokenHead(TypedDict):
    """A token without what it opens.

    Args:
        expires_ms: Null for never.
    """

    id: str
    role: Role
    expires_ms: Instant | None


class TokenMade(TokenHead):
    """A token that was made.

    Args:
        token: The secret; it is kept nowhere and shown once.
    """

    token: str


class SubscriberHead(TokenHead):
    """A subscriber of the broker, and where it connects.

    Args:
        user: To log in as.
        host, port: Of the broker.
        topic: A filter that it may subscribe to.
    """

    user: str
    host: str
    port: int
    topic: str


class SubscriberMade(SubscriberHead):
    """A subscriber of the broker, where the port for devices asks for a password."""

    password: str


class SubscriberCertified(SubscriberHead):
    """A subscriber of the broker, where the port for devices asks for a certificate.

    Args:
        certificate: The subscriber's own, PEM.
        ca: Of the authority that certifies the server, PEM.
    """

    certificate: str
    ca: str


class TokenRow(TokenHead):
    """A token, without its secret.

    Args:
        device_labels: Of the device that enrols with it.
        used_ms, used_by: Of an enrolment token: when, and by which device; null before.
        revoked_ms: Null while it holds.
        parent: Of a session in a browser: the token that it was opened with.
        scopes: What it is narrowed to; null for all that the role may.
        owner: The user whose it is; null for nobody's.
        last_used_ms: Of a session, to the minute; null for no session.
        session: Always null: sessions are not listed here.
        client: Address that a session was opened from.
        replaced_ms: When a session got its next secret.
    """

    label: str
    device_labels: dict[str, str]
    created_ms: Instant
    used_ms: Instant | None
    used_by: str | None
    revoked_ms: Instant | None
    parent: str | None
    scopes: list[str] | None
    owner: str | None
    last_used_ms: Instant | None
    session: str | None
    client: str
    replaced_ms: Instant | None


class TokenRevoked(TypedDict):
    """A token that is worth nothing any more."""

    id: str
    revoked: Literal[True]


@router.post("/tokens", status_code=201)
def create_token(
    body: TokenRequest, request: Request, services: Shared, who: Operator
) -> TokenMade | SubscriberMade | SubscriberCertified:
    """Make a token; the secret is shown here and never again. All but enrolment tokens need an admin."""
    if body.role is not Role.ENROL and not who.may(Right.ADMIN, AREA):
        raise Forbidden(f"a token of role {who.role} may make enrolment tokens only")
    _require_narrower(body, request, who)
    certified = _require_fitting(body, services)
    now_ms = services.now_ms()
    lifetime_s = body.expires_s or {Role.ENROL: ENROL_TTL_S}.get(
        body.role, CERTIFIED_TTL_S if certified else None
    )
    expires_ms = now_ms + 1000 * lifetime_s if lifetime_s else None
    issued = None
    with services.store.write() as connection:
        if body.user is not None:
            users.require(connection, body.user)
        token = make_token(
            connection,
            body.role,
            body.label,
            now_ms,
            expires_ms,
            body.device_labels,
            scopes=body.scopes,
            owner=body.user,
        )
        record(
            connection,
            who.name,
            "token made",
            token.id,
            now_ms,
            role=body.role,
            label=body.label,
            **{name: value for name, value in (("scopes", body.scopes), ("user", body.user)) if value},
        )
        if certified and services.authority is not None:
            user, request_pem = services.accounts.subscriber(token.id).user, body.certificate_request or ""
            issued = certify_subscriber(
                connection, services.authority, token, user, request_pem, who.name, now_ms
            )
    answer: TokenHead = {"id": token.id, "role": token.role, "expires_ms": token.expires_ms}
    if body.role is not Role.SUBSCRIBER:
        return {**answer, "token": token.secret}
    account = services.accounts.subscriber(token.id, (issued.serial,) if issued else ())
    services.accounts.apply(account)
    address = device_door(services.config)
    head: SubscriberHead = {
        **answer,
        "user": account.user,
        "host": address.reachable_host,
        "port": address.port,
        "topic": account.subscribe[0],
    }
    if issued is not None and services.tls is not None:
        return {**head, "certificate": issued.pem, "ca": services.tls.ca}
    return {**head, "password": account.password}


@router.get("/tokens")
def list_tokens(services: Shared, who: Admin, valid: bool = False) -> list[TokenRow]:
    """Every token but sessions, without its secret; `valid`: only those that somebody could use now."""
    query = _listed(valid, services.now_ms()).order_by(tokens.c.created_ms)
    with services.store.read() as connection:
        return [cast(TokenRow, dict(row)) for row in connection.execute(query).mappings()]


def find_tokens(services: Server, valid: bool, word: str, skip: int, most: int) -> tuple[int, list[TokenRow]]:
    """How many tokens fit, and some of them, newest first.

    Args:
        word: In its id, label, role or owner, or in the name of the device that enrolled with it.
    """
    own = tokens.c
    query = _listed(valid, services.now_ms())
    if word := word.strip():
        places = (own.id, own.label, own.role, own.owner, own.used_by)
        query = query.where(or_(*(place.icontains(word, autoescape=True) for place in places)))
    some = query.order_by(own.created_ms.desc(), own.id).offset(skip).limit(most)
    with services.store.read() as connection:
        total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
        return total, [cast(TokenRow, dict(row)) for row in connection.execute(some).mappings()]


def _listed(valid: bool, now_ms: int) -> Select[Any]:
    query = select(*(column for column in tokens.c if column.name != "hash")).where(
        tokens.c.session.is_(None)
    )
    if not valid:
        return query
    in_time = tokens.c.expires_ms.is_(None) | (tokens.c.expires_ms > now_ms)
    return query.where(in_time, tokens.c.revoked_ms.is_(None), tokens.c.used_ms.is_(None))


@router.post("/tokens/{token_id}/revoke")
def revoke_token(token_id: str, services: Shared, who: Admin) -> TokenRevoked:
    """Make a token or a subscriber's password worthless."""
    now_ms = services.now_ms()
    with services.store.write() as connection:
        row = connection.execute(
            select(tokens.c.role, tokens.c.revoked_ms).where(tokens.c.id == token_id)
        ).one_or_none()
        if row is None:
            raise NotFound(f"no token {token_id!r:.100}")
        if row.revoked_ms is None:
            connection.execute(update(tokens).where(tokens.c.id == token_id).values(revoked_ms=now_ms))
            record(connection, who.name, "token revoked", token_id, now_ms)
    if row.role == Role.SUBSCRIBER:
        services.accounts.apply()
    return {"id": token_id, "revoked": True}


def _require_fitting(body: TokenRequest, services: Server) -> bool:
    """Whether a subscriber gets a certificate; it must ask for one where the broker does, and only there."""
    if body.role is not Role.SUBSCRIBER:
        return False
    asked, needed = body.certificate_request is not None, services.authority is not None
    if needed and not asked:
        raise Conflict("the device port asks for certificates: edge-fleet token create --certificate FOLDER")
    if asked and not needed:
        raise Conflict("the device port asks for no certificates; see edge-fleet serve --client-certificates")
    return needed


def _require_narrower(body: TokenRequest, request: Request, who: Principal) -> None:
    """A scope must be of an area that there is, and nobody passes on more than they have."""
    areas = {area_of(route) for route in every(request.app.routes)} - {""}
    for scope in body.scopes or ():
        if scope.partition(":")[0] not in areas:
            raise RequestInvalid(f"scope {scope!r} is of no area; there are {', '.join(sorted(areas))}")
    if who.scopes is None or body.role is Role.ENROL:
        return
    wider = sorted(set(body.scopes or ["all"]) - who.scopes)
    if body.role not in PERSONAL or wider:
        raise Forbidden(f"your token is narrower than what you ask for: {', '.join(wider) or body.role}")
