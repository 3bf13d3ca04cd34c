"""The pages of models: versions, one in full, compared, found by digest, recalled."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from console_visit import csrf, visitor
from fleet_rows import FleetRows, digest
from fleet_server import Running

from edge_contracts.digest import digest_of
from edge_fleet.client import Refused
from edge_fleet.lineage import cli as _adds_to_release  # noqa: F401
from edge_fleet.release_cli import release as release_group


def test_versions_show_stage_bundles_and_who_runs_them(operator: httpx.Client) -> None:
    page = operator.get("/console/models").text
    row = page[page.index("/console/models/digits%401") :]
    assert "candidate" in row and "arm-cpu" in row and "intel-npu" in row
    assert '/console/fleet?model=digits+1">4</a>' in row or "model=digits%201" in row
    assert "/console/rollouts/new?release=digits%402" in page
    assert "1 version<" in operator.get("/console/models?q=2").text
    assert "No version fits" in operator.get("/console/models?q=nothing").text


def test_a_version_shows_where_it_comes_from_and_what_it_promises(operator: httpx.Client) -> None:
    page = operator.get("/console/models/digits@1").text
    assert "digits.onnx" in page and digest("1") in page
    assert "10, 90 % must agree" in page and "p95 of 50 ms" in page
    assert "devices measured 800 inferences" in page  # two windows of 400
    assert "/console/models/compare?before=digits%401&amp;after=digits%402" in (
        operator.get("/console/models/digits@2").text
    )
    answer = operator.get("/console/models/digits@9")
    assert answer.status_code == 404 and "no release" in answer.text


def test_two_versions_are_compared_profile_by_profile(operator: httpx.Client) -> None:
    page = operator.get("/console/models/compare?before=digits@1&after=digits@2").text
    assert "digits@2 has no bundle for intel-npu, which digits@1 has" in page
    assert "measured by devices" in page
    same = operator.get("/console/models/compare?before=digits@1&after=digits@1").text
    assert same.count("No difference.") == 2
    assert operator.get("/console/models/compare?before=digits@1&after=digits@9").status_code == 404
    assert "<select" in operator.get("/console/models/compare").text


def test_a_digest_or_its_beginning_is_found(operator: httpx.Client) -> None:
    source = digest_of(b"s")
    page = operator.get(f"/console/models/find?q={source[:20]}").text
    assert "source digits.onnx" in page and page.count("digits@1") >= 2
    assert "is not a digest" in operator.get("/console/models/find?q=zz").text
    assert "nothing known here" in operator.get(f"/console/models/find?q={'0' * 12}").text


def test_a_recall_names_the_devices_and_leads_to_the_proof(operator: httpx.Client) -> None:
    page = operator.get("/console/models/recall?what=digits@1").text
    assert set(re.findall(r"/console/devices/([\w-]+)", page)) == {"cam-0", "cam-1"}
    assert ">800</b>" in page and "/api/v1/lineage/recall/proof?what=digits%401" in page
    assert "no release" in operator.get("/console/models/recall?what=digits@9").text
    assert "No device has reported it" in operator.get("/console/models/recall?what=digits@2").text


@pytest.mark.parametrize("step", ["approve", "retire", "reopen"])
def test_the_stage_is_changed_by_who_may_and_by_nobody_else(
    fleet: Running, operator: httpx.Client, rows: FleetRows, step: str
) -> None:
    path = f"/console/models/digits@2/{step}"
    own = operator.get("/console/models/digits@2").text
    assert 'id="decide"' not in own
    assert operator.post(path, data={"csrf": csrf(own)}).status_code == 403
    with visitor(fleet, fleet.token("approver", label="bert")) as approver:
        page = approver.get("/console/models/digits@2").text
        assert approver.post(path, data={"csrf": "0" * 64}).status_code == 403
        done = approver.post(path, data={"csrf": csrf(page), "why": "looked at it"})
        assert done.status_code == 303, done.text
        after = approver.get("/console/models/digits@2").text
        assert "looked at it" in after and "bert/" in after
        again = approver.post(path, data={"csrf": csrf(after)})
        assert again.status_code == 409
        assert approver.post("/console/models/digits@2/burn", data={"csrf": csrf(after)}).status_code == 404


def test_a_release_is_withdrawn_by_an_operator_with_a_reason_and_by_nobody_without_the_right(
    fleet: Running, operator: httpx.Client, rows: FleetRows
) -> None:
    path = "/console/models/digits@3/withdraw"
    rows.publish("3")
    with visitor(fleet, fleet.token("viewer")) as viewer:
        page = viewer.get("/console/models/digits@3").text
        assert 'id="withdraw"' not in page
        assert viewer.post(path, data={"csrf": csrf(page), "why": "x"}).status_code == 403
    page = operator.get("/console/models/digits@3").text
    assert f'href="{path.replace("@", "%40")}"' in page or f'href="{path}"' in page
    asked = operator.get(path).text
    assert "the others answer nothing until they are given another release" in asked
    refused = operator.post(path, data={"csrf": csrf(asked), "why": "  "})
    assert (refused.status_code, "a reason is needed" in refused.text) == (400, True)
    done = operator.post(path, data={"csrf": csrf(asked), "why": "it sees ghosts"})
    assert done.status_code == 303, done.text
    after = operator.get("/console/models/digits@3").text
    assert "it sees ghosts" in after and 'id="withdraw"' not in after
    assert "0 of 0 devices that had it have stopped" in after
    again = operator.post(path, data={"csrf": csrf(after), "why": "twice"})
    assert (again.status_code, "that is withdrawn cannot be withdrawn" in again.text) == (409, True)


REPORT = b"<!doctype html><title>digits 1</title><script>alert(1)</script><h1>Converted</h1>"


def test_a_report_is_kept_by_a_publisher_and_shown_so_that_nothing_of_it_runs(
    fleet: Running, operator: httpx.Client, rows: FleetRows, tmp_path: Path
) -> None:
    missing = operator.get("/console/models/digits@1/report")
    assert missing.status_code == 404 and "edge-fleet release report digits@1" in missing.text
    assert "/report" not in operator.get("/console/models/digits@1").text
    page = tmp_path / "report.html"
    page.write_bytes(REPORT)

    def command(role: str, release: str = "digits@1") -> Result:
        where = ["--server", fleet.url, "--token", fleet.token(role)]
        return CliRunner().invoke(release_group, ["report", release, str(page), *where])

    assert isinstance(command("operator").exception, Refused), "only who publishes"
    assert isinstance(command("publisher", "digits@9").exception, Refused)
    done = command("publisher")
    assert done.exit_code == 0 and "kept with digits@1" in done.output
    assert "it names no bundle of digits@1: is it the report of another build?" in done.stderr
    page.write_bytes(REPORT + digest("1").encode())
    assert not command("publisher").stderr
    page.write_bytes(REPORT)
    command("publisher")
    assert 'href="/console/models/digits%401/report"' in operator.get("/console/models/digits@1").text
    for path in ("/console/models/digits@1/report", "/api/v1/lineage/report?release=digits@1"):
        shown = operator.get(path)
        assert (shown.status_code, shown.content) == (200, REPORT)
        policy = shown.headers["content-security-policy"]
        assert policy.startswith("sandbox; default-src 'none'") and "script-src" not in policy
        assert "allow-" not in policy
    for wrong, said in ((b"PK\x03\x04 \xff", "is not UTF-8"), (b"{}", "a page begins with")):
        page.write_bytes(wrong)
        refused = command("publisher")
        assert isinstance(refused.exception, Refused) and said in str(refused.exception)
    assert operator.get("/console/models/digits@1/report").content == REPORT, "the one before stays"
