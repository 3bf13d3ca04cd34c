"""A real identity provider in a process of its own, and a browser's way through it. No tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx

from edge_fleet.brokers.child import free_loopback_port


@dataclass(frozen=True)
class IdentityProvider:
    """One that serves."""

    url: str

    @property
    def issuer(self) -> str:
        """As it calls itself."""
        return f"{self.url}/o"

    def regroup(self, name: str, *groups: str) -> None:
        """Put somebody into other groups."""
        httpx.get(f"{self.url}/groups/{name}/{','.join(groups) or '-'}", trust_env=False).raise_for_status()

    @contextmanager
    def lying(self, how: str) -> Iterator[None]:
        """While it lies in this way: see `oidc_django.py`."""
        httpx.get(f"{self.url}/lie/{how}", trust_env=False).raise_for_status()
        try:
            yield
        finally:
            httpx.get(f"{self.url}/lie/-", trust_env=False).raise_for_status()


@contextmanager
def identity_provider(
    folder: Path, clients: Mapping[str, tuple[str, str]], people: Mapping[str, list[str]]
) -> Iterator[IdentityProvider]:
    """Run one.

    Args:
        clients: Secret ("" for a public one) and public URL by client id.
        people: Their groups by name; the password is the name.
    """
    folder.mkdir()
    port = free_loopback_port()
    told = {
        "clients": [
            {
                "id": name,
                "secret": secret,
                "callback": f"{url}/console/oidc/callback",
                "left": f"{url}/console/login",
            }
            for name, (secret, url) in clients.items()
        ],
        "people": people,
    }
    program = Path(__file__).with_name("oidc_django.py")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(program), str(folder), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    try:
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "serving\n", "the identity provider did not start"
        yield IdentityProvider(f"http://localhost:{port}")
    finally:
        process.terminate()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def way_back(browser: httpx.Client, begin: str, name: str) -> str:
    """Follow redirects from a login's beginning as a browser does, logging in where it is asked.

    Returns:
        The URL that the provider sends the browser back to; it has not been opened.
    """
    if "sessionid" in browser.cookies:  # the provider's own session, of whoever came before
        browser.cookies.delete("sessionid")
    answer, url = browser.get(begin, follow_redirects=False), begin
    for _ in range(10):
        if answer.is_redirect:
            url = urljoin(str(answer.url), answer.headers["location"])
            if "/console/oidc/callback" in url:
                return url
            answer = browser.get(url, follow_redirects=False)
        else:
            assert answer.status_code == 200, answer.text
            fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', answer.text))
            assert "csrfmiddlewaretoken" in fields, answer.text
            form = {
                **fields,
                "next": fields["next"].replace("&amp;", "&"),
                "username": name,
                "password": name,
            }
            answer = browser.post(str(answer.url), data=form, follow_redirects=False)
    raise AssertionError(f"never sent back, last at {url}")
