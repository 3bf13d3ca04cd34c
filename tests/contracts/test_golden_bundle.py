"""Bundles of older releases: they must open and verify for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
import samples

from edge_contracts.bundle import open_bundle
from edge_contracts.keys import TrustedKeys
from edge_contracts.signing import verify

FILES = sorted((Path(__file__).parents[1] / "golden").glob("v*/*.bundle"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_bundles_of_older_releases_still_verify(path: Path) -> None:
    verified = verify(open_bundle(path), TrustedKeys.of([samples.KEY.public]))
    assert verified.manifest.name == "sample"


def test_there_is_a_golden_bundle_of_version_1() -> None:
    assert any(path.parent.name == "v1" for path in FILES)
