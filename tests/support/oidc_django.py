"""A real identity provider: Django with django-oauth-toolkit, as a program. `oidc_provider.py` runs it.

It can be told to lie in one way (GET /lie/NAME), as a provider that was taken over would, or one that is
in another's place: its tokens are signed with its own key all the same, where the lie is not the key.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.http import HttpRequest, HttpResponse

LOGIN = """<!doctype html><html><body><form method="post">{% csrf_token %}{{ form }}
<input type="hidden" name="next" value="{{ next }}"><button id="enter">Enter</button></form></body></html>"""
_LIE = {"name": ""}


def _rsa_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def configure(folder: str, port: int) -> None:
    """Django's settings, without a project."""
    settings.configure(
        SECRET_KEY=secrets.token_hex(),
        ALLOWED_HOSTS=["localhost"],
        ROOT_URLCONF="oidc_django",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "loaders": [
                        ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN}),
                        "django.template.loaders.app_directories.Loader",
                    ],
                    "context_processors": ["django.template.context_processors.request"],
                },
            }
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/idp.db"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        LOGIN_URL="/accounts/login/",
        USE_TZ=True,
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": _rsa_pem(),
            "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
            "OIDC_ISS_ENDPOINT": f"http://localhost:{port}/o",
            "OAUTH2_VALIDATOR_CLASS": "oidc_django.Validator",
            "SCOPES": {"openid": "who you are", "profile": "your name"},
        },
    )
    django.setup()


def __getattr__(name: str) -> Any:
    """What can be made only once Django is set up; it asks for these by name."""
    if name == "urlpatterns":
        from django.contrib.auth.views import LoginView
        from django.urls import include, path

        return [
            path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
            path("accounts/login/", LoginView.as_view()),
            path("lie/<str:name>", lie),
            path("groups/<str:name>/<str:groups>", regroup),
        ]
    if name == "Validator":
        return _validator()
    raise AttributeError(name)


def lie(request: HttpRequest, name: str) -> HttpResponse:
    """From now on lie in this way; "-" is the truth."""
    _LIE["name"] = "" if name == "-" else name
    return HttpResponse("noted")


def regroup(request: HttpRequest, name: str, groups: str) -> HttpResponse:
    """Put somebody into these groups, with commas between them; "-" is none."""
    from django.contrib.auth.models import Group, User

    names = [] if groups == "-" else groups.split(",")
    User.objects.get(username=name).groups.set([Group.objects.get_or_create(name=n)[0] for n in names])
    return HttpResponse("noted")


def _validator() -> type[Any]:
    from jwcrypto import jwk, jwt
    from oauth2_provider.oauth2_validators import OAuth2Validator
    from oauth2_provider.settings import oauth2_settings

    own = jwk.JWK.from_pem(oauth2_settings.OIDC_RSA_PRIVATE_KEY.encode())

    class Validator(OAuth2Validator):  # type: ignore[misc]
        """Puts names and groups into ID tokens, and lies when it is told to."""

        oidc_claim_scope = None

        def get_additional_claims(self, request: Any) -> dict[str, Any]:
            groups = [group.name for group in request.user.groups.all()]
            return {"preferred_username": request.user.username, "groups": groups, "realm": {"roles": groups}}

        def finalize_id_token(self, id_token: Any, token: Any, handler: Any, request: Any) -> str:
            true = str(super().finalize_id_token(id_token, token, handler, request))
            if not _LIE["name"]:
                return true
            claims = json.loads(jwt.JWT(jwt=true, key=own).claims)
            return _spoilt(_LIE["name"], claims, true)

    def _spoilt(name: str, claims: dict[str, Any], true: str) -> str:
        header: dict[str, Any] = {"alg": "RS256", "typ": "JWT", "kid": own.thumbprint()}
        key = own
        if name == "none":
            from jwcrypto.common import base64url_encode

            parts = ({"alg": "none"}, {**claims, "groups": ["fleet-admins"]})
            return ".".join(base64url_encode(json.dumps(part)) for part in parts) + "."
        if name == "flipped":
            head, body, signature = true.split(".")
            return ".".join((head, body, ("A" if signature[0] != "A" else "B") + signature[1:]))
        if name == "unsigned-part":
            from jwcrypto.common import base64url_decode, base64url_encode

            head, body, signature = true.split(".")
            changed = {**json.loads(base64url_decode(body)), "groups": ["fleet-admins"]}
            return ".".join((head, base64url_encode(json.dumps(changed)), signature))
        if name == "hmac":  # the public key as a shared secret
            public = own.export_to_pem()
            header, key = {"alg": "HS256"}, jwk.JWK(kty="oct", k=jwk.base64url_encode(public))
        elif name == "other-key":
            key = jwk.JWK.generate(kty="RSA", size=2048)
        elif name == "own-jwk":
            key = jwk.JWK.generate(kty="RSA", size=2048)
            header = {"alg": "RS256", "jwk": key.export_public(as_dict=True)}
        changes: dict[str, dict[str, Any]] = {
            "audience": {"aud": "another-client"},
            "audiences": {"aud": [claims["aud"], "another-client"]},
            "presenter": {"aud": [claims["aud"], "another-client"], "azp": "another-client"},
            "issuer": {"iss": "https://elsewhere.example"},
            "expired": {"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200},
            "future": {"iat": int(time.time()) + 3600, "exp": int(time.time()) + 7200},
            "nonce": {"nonce": "another"},
            "hash": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
            "subject": {"sub": ""},
        }
        absent = {
            "no-nonce": "nonce",
            "no-expiry": "exp",
            "no-audience": "aud",
            "no-subject": "sub",
            "thin": "realm",
        }
        claims = {**claims, **changes.get(name, {})}
        claims.pop(absent.get(name, ""), None)
        made = jwt.JWT(header=header, claims=claims, algs=["RS256", "HS256"])
        made.make_signed_token(key)
        return str(made.serialize())

    return Validator


def fill(clients: list[dict[str, str]], people: dict[str, list[str]]) -> None:
    """Tables, clients and people; everybody's password is their name."""
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command
    from oauth2_provider.models import get_application_model

    call_command("migrate", verbosity=0)
    application = get_application_model()
    for client in clients:
        public = not client["secret"]
        application.objects.create(
            client_id=client["id"],
            client_secret=client["secret"],
            client_type=application.CLIENT_PUBLIC if public else application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=application.GRANT_AUTHORIZATION_CODE,
            redirect_uris=client["callback"],
            post_logout_redirect_uris=client["left"],
            skip_authorization=True,
            algorithm=application.RS256_ALGORITHM,
        )
    for name, groups in people.items():
        user = User.objects.create_user(name, password=name)
        user.groups.set([Group.objects.get_or_create(name=group)[0] for group in groups])


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """`oidc_django.py FOLDER PORT`, clients and people as JSON on standard input."""
    folder, port = sys.argv[1], int(sys.argv[2])
    sys.modules["oidc_django"] = sys.modules["__main__"]
    configure(folder, port)
    stated = json.loads(sys.stdin.readline())
    fill(stated["clients"], stated["people"])
    from django.core.wsgi import get_wsgi_application

    with make_server("127.0.0.1", port, get_wsgi_application(), _Server, _Quiet) as server:
        print("serving", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
