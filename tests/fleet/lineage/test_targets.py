"""What a release and a digest name, when something is recalled."""

from __future__ import annotations

import pytest
from fleet_rows import FleetRows, digest

from edge_contracts.digest import digest_of
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.lineage.targets import targets_of
from edge_fleet.store import Store

OLD, NEW = digest("1"), digest("2")


@pytest.fixture
def fleet(store: Store) -> FleetRows:
    rows = FleetRows(store, lambda: 9_000)
    rows.publish("1")
    rows.publish("2")
    return rows


@pytest.mark.parametrize(
    ("what", "bundles"),
    [
        ("digits@1", {OLD}),
        ("2", {NEW}),
        (OLD, {OLD}),
        (OLD.removeprefix("sha256:")[:10].upper(), {OLD}),
        (digest_of(b"archive/2/arm-cpu"), {NEW}),
        (digest_of(b"s"), {OLD, NEW}),  # the source of both
        (digest_of(b"m"), {OLD, NEW}),  # the artifact's file, the same in both
    ],
)
def test_a_release_and_every_digest_of_it_name_what_is_recalled(
    fleet: FleetRows, what: str, bundles: set[str]
) -> None:
    with fleet.store.read() as connection:
        assert {target.bundle for target in targets_of(connection, what)} == bundles


def test_what_names_nothing_is_refused(fleet: FleetRows) -> None:
    with fleet.store.read() as connection:
        with pytest.raises(NotFound, match="no release 'digits@9'"):
            targets_of(connection, "digits@9")
        with pytest.raises(NotFound, match="begins with sha256:abcdef"):
            targets_of(connection, "abcdef")
        with pytest.raises(RequestInvalid, match="not a digest"):
            targets_of(connection, "abc")
