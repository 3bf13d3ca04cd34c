"""Finding devices by the database: orders that are stable, signs that are signs, counts that end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fleet_rows import FleetRows
from sqlalchemy import insert, select

from edge_fleet import schema
from edge_fleet.standings import find
from edge_fleet.standings.condition import ORDER, Health
from edge_fleet.standings.find import SORTS, Wanted
from edge_fleet.store import Store, open_store

WORDS = "{}\narm-cpu\nsite=lab_{}\ndigits {}"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Thirty devices whose figures repeat, in each kind of database; the tests only read."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('found') / 'fleet.db'}"
    else:
        url = request.getfixturevalue("postgres").fresh()
    store = open_store(url)
    rows = FleetRows(store, lambda: 1)
    names = [f"cam-{n:02}" for n in range(30)]
    rows.enrol(*names)
    with store.write() as connection:
        for n, name in enumerate(names):
            health = ORDER[n % 3]
            connection.execute(
                insert(schema.standings).values(
                    device=name,
                    health=health,
                    rank=ORDER.index(health),
                    reason="",
                    since_ms=n // 7,
                    profile=f"p{n % 2}",
                    model=f"digits {n % 4}" if n % 4 else "",
                    bundle=f"sha256:{n % 4}",
                    degraded=int(n % 5 == 0),
                    fallback="",
                    words=WORDS.format(name, n % 3, n % 4),
                    inferences=n % 4,
                    faults=n % 6,
                    p95_ms=None if n % 3 == 0 else float(n % 5),
                    distance=None,
                    furthest="",
                    judged_ms=1,
                    due_ms=1,
                )
            )
    yield store
    store.close()


@pytest.mark.parametrize("few", [0, 500])
@pytest.mark.parametrize("sort", SORTS)
def test_pages_of_every_order_hold_each_device_exactly_once(
    stored: Store, sort: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "FEW", few)  # by both ways
    with stored.read() as connection:
        pages = [find.find(connection, Wanted(sort=sort, page=n, size=7)) for n in range(1, 6)]
    names = [row.device for page in pages for row in page.rows]
    assert sorted(names) == [f"cam-{n:02}" for n in range(30)]
    assert {(page.matching, page.pages) for page in pages} == {(30, 5)}


def test_orders_are_what_their_names_say(stored: Store) -> None:
    def of(sort: str, column: str) -> list[object]:
        with stored.read() as connection:
            return [getattr(row, column) for row in find.find(connection, Wanted(sort=sort)).rows]

    assert of("urgency", "rank") == sorted(of("urgency", "rank"))  # type: ignore[type-var]
    assert of("faults", "faults")[0] == 5
    assert of("p95", "p95_ms")[0] == 4.0 and of("p95", "p95_ms")[-1] is None
    assert of("longest", "since_ms")[0] == 0 and of("latest", "since_ms")[0] == 4
    assert of("name", "device")[0] == "cam-00"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("cam-1", 10),
        ("CAM-1  site=lab_2", 3),  # 11, 14 and 17
        ("lab_", 30),
        ("lab%", 0),  # signs that mean something to a database are signs here
        ("cam_1", 0),
        ("\\", 0),
        ("lab_0 digits", 10),
        ("' OR 1=1 --", 0),
    ],
)
def test_a_search_takes_every_word_as_it_stands(stored: Store, text: str, count: int) -> None:
    with stored.read() as connection:
        assert find.find(connection, Wanted(text=text)).matching == count


def test_counts_are_of_the_whole_fleet(stored: Store) -> None:
    with stored.read() as connection:
        assert find.by_health(connection) == {Health.FAILING: 10, Health.SILENT: 10, Health.DRIFTING: 10}
        assert find.by_model(connection) == {"": 8, "digits 1": 8, "digits 2": 7, "digits 3": 7}
        assert find.by_profile(connection) == {"p0": 15, "p1": 15}
        assert find.by_bundle(connection, ["sha256:1", "sha256:9"]) == {"sha256:1": 8}
        assert find.degraded(connection) == 6


def test_what_fits_is_counted_only_so_far(stored: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "COUNTED", 20)
    with stored.read() as connection:
        found = find.find(connection, Wanted(size=5, page=9))
    assert (found.matching, found.more, found.pages, found.page) == (20, True, 4, 4)
    monkeypatch.setattr(find, "COUNTED", 30)
    with stored.read() as connection:
        assert not find.find(connection, Wanted()).more


@pytest.mark.parametrize("sort", ["urgency", "name", "profile", "model"])
def test_the_usual_orders_are_read_from_an_index(stored: Store, sort: str) -> None:
    """Not from a sort of the whole fleet: SQLite says so by naming no temporary tree."""
    with stored.read() as connection:
        if connection.dialect.name != "sqlite":
            pytest.skip("PostgreSQL plans by statistics: thirty rows are sorted")
        own = schema.standings.c
        query = select(own.device).order_by(*SORTS[sort], own.device).limit(5)
        text = str(query.compile(connection.engine, compile_kwargs={"literal_binds": True}))
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()
    assert not any("TEMP B-TREE" in str(row) for row in plan), plan
