"""Whether an ID token is one that we may believe (OpenID Connect Core 1.0, section 3.1.3.7). Pure.

Signatures and claims are checked by joserfc. Only asymmetric algorithms count: `none` is no signature,
and an HMAC would make everybody who knows the client's secret a provider.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import BadSignatureError, ClaimError, ExpiredTokenError, JoseError, MissingClaimError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from edge_contracts.errors import one_line
from edge_fleet.errors import LoginRefused

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip
LEEWAY_S = 60  # between the provider's clock and ours
MAX_BYTES = 64 << 10
_CLOCKS = "log in again, and if it stays so compare the two clocks"
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


def verify(
    token: str,
    keys: Mapping[str, Any],
    *,
    issuer: str,
    client_id: str,
    nonce: str,
    access_token: str,
    now_s: int,
) -> Mapping[str, Any]:
    """The claims of an ID token that this provider made, for us, now, in answer to this login.

    Args:
        keys: The provider's JWK set.
        access_token: That came with it; "" for none. Where the token has a hash of it, it must match.

    Raises:
        LoginRefused: Anything is not so.
    """
    if len(token) > MAX_BYTES:
        raise LoginRefused(f"the ID token has {len(token)} bytes, at most {MAX_BYTES} are read")
    try:
        known = KeySet.import_key_set({"keys": _for_signatures(keys)})
        # of a JWS alone: an encrypted token is none that we asked for
        decoded = jwt.decode(token, known, algorithms=list(ALGORITHMS))
    except BadSignatureError:
        raise LoginRefused("the ID token's signature is of no key that the provider publishes") from None
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise LoginRefused(f"the ID token's signature: {_said(error)}") from None
    claims, algorithm = decoded.claims, str(decoded.header.get("alg"))
    if not isinstance(claims, dict) or algorithm not in ALGORITHMS:
        raise LoginRefused(f"the ID token is signed with {algorithm!r:.20}, expected {', '.join(ALGORITHMS)}")
    registry = JWTClaimsRegistry(
        now_s,
        LEEWAY_S,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client_id},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    try:
        registry.validate(claims)
    except ExpiredTokenError:
        late_s = now_s - int(claims["exp"])
        raise LoginRefused(
            f"the ID token has expired {late_s} s ago by this server's clock; {_CLOCKS}"
        ) from None
    except MissingClaimError as error:
        raise LoginRefused(f"the ID token lacks {error.claim or 'a claim'}") from None
    except ClaimError as error:
        expected = {"iss": issuer, "aud": client_id}
        raise LoginRefused(_another(str(error.claim), claims, expected, now_s)) from None
    _require_presenter(claims, client_id)
    stated = claims.get("at_hash")
    if stated is not None and access_token and not _matches(stated, access_token, algorithm):
        raise LoginRefused("the ID token's claim at_hash is not of the access token that came with it")
    return claims


def _another(claim: str, claims: Mapping[str, Any], expected: Mapping[str, str], now_s: int) -> str:
    """What is wrong with a claim; a nonce is nobody's business."""
    found = claims.get(claim)
    if claim == "iat" and isinstance(found, int):
        return f"the ID token was made {found - now_s} s in the future by this server's clock; {_CLOCKS}"
    if claim in expected:
        return f"the ID token's claim {claim} is {ascii(found)[:80]}, expected {expected[claim]!r}"
    return f"the ID token's claim {claim} is another than expected"


def _for_signatures(keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The public keys of a set; a secret one (`oct`) in a public document is nobody's."""
    listed = keys.get("keys")
    if not isinstance(listed, list):
        raise ValueError("the provider's key set has no keys")
    return [
        key for key in listed if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP")
        and key.get("use", "sig") == "sig"
    ]  # fmt: skip


def _require_presenter(claims: Mapping[str, Any], client_id: str) -> None:
    """Section 3.1.3.7, steps 3 to 5: of several audiences all must be trusted, and `azp` says who asked."""
    audience = claims["aud"]
    several = isinstance(audience, list) and len(audience) > 1
    if claims.get("azp", None if several else client_id) != client_id:
        raise LoginRefused("the ID token was made for another client (azp)")


def _matches(stated: Any, access_token: str, algorithm: str) -> bool:
    """Section 3.1.3.6: the left half of the hash that the algorithm uses; EdDSA's is SHA-512."""
    hashed = _HASHES.get(algorithm[-3:], hashlib.sha512)(access_token.encode()).digest()
    half = base64.urlsafe_b64encode(hashed[: len(hashed) // 2]).rstrip(b"=").decode()
    return isinstance(stated, str) and hmac.compare_digest(half.encode(), stated.encode())


def _said(error: Exception) -> str:
    return one_line(error)
