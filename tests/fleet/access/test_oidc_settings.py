"""The file that says how people log in elsewhere: each fault is named, and stops the server from starting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_contracts.errors import ContractError
from edge_fleet.access.oidc_people import role_of
from edge_fleet.access.oidc_settings import is_safe_url, read_client
from edge_fleet.auth import Role
from edge_fleet.errors import FleetError

GOOD = """\
format: edgefleet.oidc/1
issuer: https://login.example/realms/main
client_id: edge-fleet
client_secret_file: oidc.secret
public_url: https://fleet.example/
roles:
  fleet-operators: operator
  fleet-admins: admin
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "oidc.secret").write_text("s3cret\n")
    (tmp_path / "oidc.yaml").write_text(GOOD)
    return tmp_path / "oidc.yaml"


def test_a_file_is_read_with_its_secret_beside_it(file: Path) -> None:
    found = read_client(file)
    assert found.secret == "s3cret"
    assert found.settings.callback == "https://fleet.example/console/oidc/callback"
    assert found.settings.scopes == ("profile",)


def test_a_public_client_has_no_secret(file: Path) -> None:
    file.write_text(GOOD.replace("client_secret_file: oidc.secret\n", ""))
    assert read_client(file).secret == ""


@pytest.mark.parametrize(
    ("line", "instead", "says"),
    [
        ("format: edgefleet.oidc/1", "format: edgefleet.oidc/2", "update edgefleet"),
        ("format: edgefleet.oidc/1", "format: other", "expected 'edgefleet.oidc/1'"),
        (
            "issuer: https://login.example/realms/main",
            "issuer: http://login.example",
            "issuer: expected an https",
        ),
        (
            "issuer: https://login.example/realms/main",
            "issuer: https://a@login.example",
            "issuer: expected an https",
        ),
        ("client_id: edge-fleet\n", "", "client_id: it is missing"),
        ("client_id", "client_name", "unknown key 'client_name'"),
        (
            "public_url: https://fleet.example/",
            "public_url: https://fleet.example/x",
            "public_url: expected scheme",
        ),
        ("fleet-admins: admin", "fleet-admins: subscriber", "subscriber is no person's role"),
        ("fleet-admins: admin", "fleet-admins: boss", "roles.fleet-admins: Input should be 'enrol'"),
        (
            "client_secret_file: oidc.secret",
            "client_secret_file: none.secret",
            "cannot read client_secret_file",
        ),
        ("client_secret_file: oidc.secret", "client_secret_file: empty", "is empty"),
    ],
)
def test_each_fault_is_named(file: Path, line: str, instead: str, says: str) -> None:
    (file.parent / "empty").write_text("\n")
    assert line in GOOD
    file.write_text(GOOD.replace(line, instead))
    with pytest.raises((FleetError, ContractError)) as refusal:
        read_client(file)
    assert says in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_server_with_a_fault_in_the_file_does_not_start(file: Path, tmp_path: Path) -> None:
    file.write_text(GOOD.replace("fleet-admins: admin", "fleet-admins: subscriber"))
    command = [sys.executable, "-c", "from edge_fleet.cli import main; main()", "serve"]
    done = subprocess.run(
        [*command, "--home", str(tmp_path / "home"), "--http", "127.0.0.1:0", "--oidc", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "subscriber is no person's role" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://login.example", True),
        ("http://localhost:8000/o", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000", True),
        ("http://login.example", False),
        ("ftp://login.example", False),
        ("https://", False),
        ("https:///x", False),
        ("https://user@login.example", False),
        ("https://login.example:port", False),
        ("https://login.example\\@evil.example", False),
        ("https://login.example/ x", False),
        ("http://localhost.evil.example", False),
        ("javascript:alert(1)", False),
    ],
)
def test_an_address_is_safe_when_nobody_on_the_way_can_read_it(url: str, safe: bool) -> None:
    assert is_safe_url(url) is safe


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"groups": ["x", "fleet-admins"]}, Role.ADMIN),
        ({"groups": ["fleet-admins", "fleet-operators"]}, Role.OPERATOR),
        ({"groups": "fleet-admins"}, Role.ADMIN),
        ({"groups": ["Fleet-Admins", "fleet-admins "]}, None),
        ({"groups": "x fleet-admins"}, None),
        ({"groups": {"fleet-admins": True}}, None),
        ({"groups": [["fleet-admins"], 1, None]}, None),
        ({"groups": None}, None),
        ({}, None),
    ],
)
def test_the_first_line_that_a_person_has_is_the_role(
    file: Path, claims: dict[str, object], role: Role | None
) -> None:
    assert role_of(claims, read_client(file).settings) is role


def test_dots_lead_into_objects_where_no_claim_has_the_whole_name(file: Path) -> None:
    file.write_text(GOOD + "role_claim: realm_access.roles\n")
    settings = read_client(file).settings
    assert role_of({"realm_access": {"roles": ["fleet-admins"]}}, settings) is Role.ADMIN
    assert role_of({"realm_access.roles": ["fleet-admins"]}, settings) is Role.ADMIN
    assert role_of({"realm_access": ["fleet-admins"]}, settings) is None
    assert role_of({"realm_access": {"roles": {"fleet-admins": 1}}}, settings) is None
