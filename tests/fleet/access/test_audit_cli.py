from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fleet_device import eventually
from fleet_server import Running
from sqlalchemy import delete, select

from edge_fleet.access.audit_cli import audit as commands
from edge_fleet.access.audit_head import read_head
from edge_fleet.errors import AuditBroken
from edge_fleet.schema import audit


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, [str(a) for a in arguments])


def test_the_log_of_a_server_is_signed_exported_and_checked(fleet: Running, tmp_path: Path) -> None:
    home = fleet.server.home
    fleet.token("viewer", label='=cmd(),\u2028\n"x"')
    with fleet.server.store.read() as connection:
        newest = connection.execute(select(audit.c.id).order_by(audit.c.id.desc())).scalars().first()
    eventually(
        lambda: (head := read_head(home.audit_head)) is not None and head.row == newest, "a signed head"
    )
    found = _run("verify", "--home", home.root)
    assert found.exit_code == 0, found.output
    assert f"nothing is missing up to row {newest}" in found.output
    for form in ("jsonl", "csv"):
        token = home.admin_token.read_text().strip()
        exported = _run("export", "--format", form, "--server", fleet.url, "--token", token)
        assert exported.exit_code == 0, exported.output
        path = tmp_path / f"audit.{form}"
        path.write_bytes(exported.stdout_bytes)
        assert _run("verify", path, "--home", home.root).exit_code == 0
        away = _run("verify", path, "--home", tmp_path / "nowhere")
        assert away.exit_code == 0 and "signature NOT checked" in away.output
        cut = path.with_name(f"cut.{form}")
        cut.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
        short = _run("verify", cut, "--home", home.root)
        assert short.exit_code == 1 and "its end was cut off" in str(short.exception)


def test_only_an_admin_exports_the_log(fleet: Running) -> None:
    for role in ("viewer", "operator", "publisher"):
        with fleet.as_role(role) as client:
            assert client.get("/api/v1/audit/export").status_code == 403
    assert fleet.http.get("/api/v1/audit/export").status_code == 401


def test_a_log_whose_end_was_cut_off_fails_until_it_is_accepted(fleet: Running) -> None:
    home = fleet.server.home
    fleet.token("viewer")
    eventually(lambda: _run("verify", "--home", home.root).exit_code == 0, "a signed head")
    with fleet.server.store.write() as connection:
        head = read_head(home.audit_head)
        assert head is not None
        connection.execute(delete(audit).where(audit.c.id >= head.row))
    broken = _run("verify", "--home", home.root)
    assert broken.exit_code == 1
    assert isinstance(broken.exception, AuditBroken) and "was cut off" in str(broken.exception)
    accepted = _run("accept", "--home", home.root, "--why", "a drill")
    assert accepted.exit_code == 0, accepted.output
    assert _run("verify", "--home", home.root).exit_code == 0


@pytest.mark.parametrize("content", [b"\xff\xfe", b"no log"])
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert _run("verify", tmp_path / "x", "--home", tmp_path).exit_code == 1
    assert _run("verify", tmp_path / "missing", "--home", tmp_path).exit_code == 1
