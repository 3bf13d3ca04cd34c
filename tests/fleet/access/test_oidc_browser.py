"""Logging in at an identity provider of another site, in a real browser with its rules about cookies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import page_browser
import pytest
from browser import installed
from fleet_server import Running, fleet_server
from oidc_provider import IdentityProvider, identity_provider
from playwright.sync_api import Page, expect

from edge_fleet.brokers.child import free_loopback_port

pytestmark = pytest.mark.skipif(installed() is None, reason="no chromium on this machine")

SETTINGS = """\
format: edgefleet.oidc/1
issuer: {issuer}
client_id: fleet
public_url: {url}
label: the example company
roles: {{everybody: operator}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, IdentityProvider]]:
    """A server at 127.0.0.1 and a provider at localhost: for a browser two sites."""
    root: Path = tmp_path_factory.mktemp("oidc")
    url = f"http://127.0.0.1:{free_loopback_port()}"
    with identity_provider(root / "idp", {"fleet": ("", url)}, {"ada": ["everybody"]}) as idp:
        (root / "oidc.yaml").write_text(SETTINGS.format(issuer=idp.issuer, url=url))
        address = url.removeprefix("http://")
        with fleet_server(root / "home", http=address, oidc=str(root / "oidc.yaml")) as fleet:
            yield fleet, idp


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, world: tuple[Running, IdentityProvider]) -> Iterator[Page]:
    both = [
        one.replace("EXCLUDE 127.0.0.1", "EXCLUDE 127.0.0.1,EXCLUDE localhost")
        for one in page_browser._ARGUMENTS
    ]
    monkeypatch.setattr(page_browser, "_ARGUMENTS", both)
    with page_browser.started() as browser, page_browser.person(browser, world[0].url) as somebody:
        yield somebody.page
        ours = [said for said in somebody.complaints if "404" not in said]  # the provider has no icon
        assert ours == []


def test_somebody_comes_to_the_page_that_was_wanted_and_leaves_both_sites(
    world: tuple[Running, IdentityProvider], page: Page
) -> None:
    _, idp = world
    page.goto("/console/rollouts")
    page.get_by_role("link", name="Log in with the example company").click()
    page.wait_for_url(f"{idp.url}/accounts/login/**")
    page.fill("#id_username", "ada")
    page.fill("#id_password", "ada")
    page.click("#enter")
    page.wait_for_url("**/console/rollouts")
    expect(page.get_by_text("ada (operator)")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="Log out there too").click()
    page.wait_for_url(f"{idp.issuer}/logout/**")
    page.goto("/console/rollouts")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
