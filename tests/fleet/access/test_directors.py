"""The director's keys as rows and files: which is in force, which seals for whom, and after a crash."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from edge_contracts.enrolment import EnrolRequest, enrol_proof
from edge_contracts.keys import PrivateKey, PublicKey, TrustedKeys
from edge_contracts.trust import KeyStatement, open_keys, sign_keys
from edge_fleet.access import director_changes, key_statements
from edge_fleet.access.directors import Directors, begin, present
from edge_fleet.access.two_people import set_rule
from edge_fleet.auth import Role, make_token
from edge_fleet.config import ServerConfig
from edge_fleet.enrol import enrol
from edge_fleet.errors import Conflict, Forbidden, NotFound
from edge_fleet.home import Home, load_home
from edge_fleet.keys import make_keys, read_keys
from edge_fleet.migrations.upgrade import found_revision
from edge_fleet.registry import trust
from edge_fleet.schema import devices, directors
from edge_fleet.schema import key_statements as statements
from edge_fleet.serve import initialise
from edge_fleet.services import Server
from edge_fleet.storage import backup
from edge_fleet.storage.restore import restore
from edge_fleet.store import Store, open_store

OLD, OTHER = (PrivateKey.from_seed(bytes([n] * 32)) for n in (1, 2))


@dataclass
class World:
    """What a change of the director needs of a server."""

    store: Store
    home: Home
    directors: Directors
    now: int = 100

    def now_ms(self) -> int:
        """A clock that goes on."""
        self.now += 1
        return self.now

    @property
    def config(self) -> Any:
        """Settings, as far as they are read."""
        return SimpleNamespace(fleet="f")

    @property
    def server(self) -> Server:
        """As the functions take it."""
        return cast("Server", self)

    def restarted(self) -> World:
        """The same after a start."""
        return World(self.store, self.home, begin(self.store, self.home.keys, self.now_ms()), self.now)

    def make(self, actor: str = "ada") -> str:
        """Make the next key."""
        return str(director_changes.make(self.server, actor)["key_id"])

    def rotate(self, actor: str = "ada") -> str:
        """Have another key in force."""
        made = self.make(actor)
        director_changes.rotate(self.server, made, actor, "every year")
        return made

    def enrol(self, name: str, tells: bool = True, obeys: str | None = None) -> None:
        """A device that was told to obey the one in force."""
        key = PrivateKey.generate()
        with self.store.write() as connection:
            token = make_token(connection, Role.ENROL, "x", self.now_ms()).secret
            director = present(connection, self.directors).public.key_id
            proof = base64.b64encode(key.sign(enrol_proof(token, name))).decode()
            request = EnrolRequest(
                token=token, public_key=key.public.base64, proof=proof, profile=("x86-cpu",), name=name
            )
            enrol(connection, request, self.now_ms(), director)
            said = {"tells_director": tells, **({"director": obeys} if obeys else {})}
            connection.execute(update(devices).where(devices.c.id == name).values(**said))

    def signers(self, *names: str) -> dict[str, list[str]]:
        """Who seals for whom."""
        with self.store.read() as connection:
            found = self.directors.signers(connection, names)
        return {name: [key.public.key_id for key in keys] for name, keys in found.items()}

    def states(self) -> dict[str, str]:
        """Of every key."""
        return {one["key_id"]: one["state"] for one in director_changes.listed(self.server)}

    @property
    def current(self) -> str:
        """Id of the one in force."""
        return self.directors.current.public.key_id


def _world(tmp_path: Path, url: str) -> Iterator[World]:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    make_keys(home.keys)
    store = open_store(url)
    with store.write() as connection:
        trust(connection, OLD.public, "old", "x", 0)
        trust(connection, OTHER.public, "other", "x", 0)
    yield World(store, home, begin(store, home.keys, 50))
    store.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield from _world(tmp_path, f"sqlite:///{tmp_path / 'fleet.db'}")


@pytest.fixture
def either(tmp_path: Path, database_url: str) -> Iterator[World]:
    """The same with a database of each kind."""
    yield from _world(tmp_path, database_url)


def test_the_key_of_a_home_directs_a_new_database_and_stays(world: World) -> None:
    first = read_keys(world.home.keys).director.public.key_id
    assert world.current == first
    assert world.states() == {first: "in force"}
    assert world.restarted().current == first


def test_the_present_one_names_the_next_and_both_are_kept(world: World) -> None:
    first = world.directors.current
    second = world.rotate()
    assert world.states() == {first.public.key_id: "former", second: "in force"}
    with world.store.read() as connection:
        (envelope,) = connection.execute(select(statements.c.envelope)).scalars()
    statement, signer = open_keys(envelope, TrustedKeys.of([first.public]))
    assert signer == first.public.key_id
    assert PublicKey.from_base64(statement.director).key_id == second
    keys = read_keys(world.home.keys)
    assert keys.director.public.key_id == second, "other programs of this machine do not find it"
    assert set(keys.directors) == {first.public.key_id, second}
    assert world.restarted().current == second


def test_counters_of_directors_go_on_for_agents_of_before(world: World) -> None:
    for _ in range(3):
        world.rotate()
    counters = []
    with world.store.read() as connection:
        counters = [row["counter"] for row in key_statements.listed(connection)]
    assert counters == [0, 1, 2]


def test_each_device_is_told_by_whom_it_obeys(either: World) -> None:
    first = either.current
    either.enrol("new")
    either.enrol("before", tells=False)
    second = either.rotate()
    either.enrol("led", obeys=second)
    either.enrol("young", tells=False)
    third = either.rotate()
    either.enrol("lost", obeys="f" * 32)
    told = either.signers("new", "before", "led", "young", "lost")
    assert told == {
        "new": [first],
        "before": [first, second, third],
        "led": [second],
        "young": [second, third],
        "lost": [third],
    }


def test_a_key_is_retired_when_nobody_depends_on_it_or_by_force(either: World) -> None:
    first = either.current
    either.enrol("new")
    either.enrol("before", tells=False)
    either.rotate()
    with pytest.raises(Conflict, match=r"1 devices obey .*, and 1 with an agent of before may"):
        director_changes.retire(either.server, first, "ada", force=False)
    assert first in read_keys(either.home.keys).directors
    assert director_changes.retire(either.server, first, "ada", force=True) == 2
    assert first not in read_keys(either.home.keys).directors
    assert either.states()[first] == "retired"
    assert either.signers("new") == {"new": [either.current]}, "an agent of today is led all the same"
    assert either.restarted().states()[first] == "retired"


def test_the_one_in_force_and_unknown_ones_are_not_retired(world: World) -> None:
    with pytest.raises(Conflict, match="is in force"):
        director_changes.retire(world.server, world.current, "ada", force=True)
    with pytest.raises(NotFound):
        director_changes.retire(world.server, "0" * 32, "ada", force=True)
    with pytest.raises(Conflict, match="is in force"):
        director_changes.rotate(world.server, world.current, "ada", "")


def test_where_two_people_are_wanted_another_puts_it_in_force(world: World) -> None:
    with world.store.write() as connection:
        set_rule(connection, 50, "ada", 1)
    made = world.make("ada")
    with pytest.raises(Forbidden, match="wants two people"):
        director_changes.rotate(world.server, made, "ada", "")
    assert world.make("bob") == made, "another is made beside the one that waits"
    director_changes.rotate(world.server, made, "bob", "")
    assert world.current == made


def test_where_two_people_are_wanted_one_alone_retires_no_key(world: World) -> None:
    first = world.current
    world.enrol("new")
    world.rotate()
    with world.store.write() as connection:
        set_rule(connection, 50, "ada", 1)
    for _ in range(2):  # the same person twice is not two
        with pytest.raises(Forbidden, match="wants two people: within a day somebody else"):
            director_changes.retire(world.server, first, "ada", force=True)
    assert world.states()[first] == "former"
    assert first in read_keys(world.home.keys).directors
    with pytest.raises(Conflict, match="1 devices obey"):
        director_changes.retire(world.server, first, "bob", force=False)
    assert director_changes.retire(world.server, first, "bob", force=True) == 1
    assert world.states()[first] == "retired"
    assert first not in read_keys(world.home.keys).directors


def test_who_asked_that_an_idle_key_is_retired_has_not_asked_to_force_it_and_not_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.current
    world.rotate()
    with world.store.write() as connection:
        set_rule(connection, 50, "ada", 1)
    with pytest.raises(Forbidden):
        director_changes.retire(world.server, first, "ada", force=False)
    with pytest.raises(Forbidden):
        director_changes.retire(world.server, first, "bob", force=True)
    with world.store.write() as connection:
        late = world.server.now_ms() + director_changes.DAY_MS
        assert not director_changes._asked_by_another(connection, first, "eve", False, late)
    assert director_changes.retire(world.server, first, "ada", force=False) == 0, "bob has asked for more"


def test_a_key_that_waits_is_put_away_by_one(world: World) -> None:
    with world.store.write() as connection:
        set_rule(connection, 50, "ada", 1)
    made = world.make("ada")
    assert director_changes.retire(world.server, made, "ada", force=False) == 0


def _by(publisher: PrivateKey, counter: int, director: str, **said: Any) -> bytes:
    return sign_keys(KeyStatement(counter=counter, director=director, **said), publisher)


def _public(world: World, key_id: str) -> str:
    found = {one["key_id"]: str(one["public_key"]) for one in director_changes.listed(world.server)}
    return found[key_id]


def _take_in(world: World, envelope: bytes) -> None:
    with world.store.write() as connection:
        director = present(connection, world.directors).public
        key_statements.take_in(connection, envelope, director, "f", "ada", world.now_ms())
    director_changes.follow(world.server)


def test_a_publisher_puts_the_key_that_waits_in_force(world: World) -> None:
    stolen, made = world.current, world.make()
    _take_in(world, _by(OLD, 1, _public(world, made)))
    assert world.states() == {stolen: "former", made: "in force"}
    with pytest.raises(Forbidden, match="does not wait here"):
        _take_in(world, _by(OLD, 2, _public(world, stolen)))
    with pytest.raises(Forbidden, match="does not wait here"):
        _take_in(world, _by(OLD, 2, PrivateKey.generate().public.base64))


def test_a_publisher_that_a_stolen_director_has_revoked_may_still_name_the_next(either: World) -> None:
    with either.store.write() as connection:
        key_statements.say(connection, either.directors.current, "f", "thief", 5, revoke=[OLD.public.key_id])
    made = either.make()
    with pytest.raises(Forbidden, match="who directs, and only that"):
        _take_in(either, _by(OLD, 1, _public(either, made), retire=(OTHER.public.key_id,)))
    _take_in(either, _by(OLD, 1, _public(either, made)))
    assert either.current == made


def test_one_that_a_publisher_has_revoked_may_not(world: World) -> None:
    _take_in(world, sign_keys(KeyStatement(counter=1, revoke=(OLD.public.key_id,)), OTHER))
    made = world.make()
    with pytest.raises(Exception, match=r"not trusted here|revoked"):
        _take_in(world, _by(OLD, 2, _public(world, made)))
    assert world.current != made


def test_a_crash_before_the_row_leaves_a_key_that_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.current

    def dies(*_: object, **__: object) -> None:
        raise OperationalError("", {}, Exception("the power is gone"))

    with monkeypatch.context() as patched:
        patched.setattr(director_changes, "add", dies)
        with pytest.raises(OperationalError):
            world.make()
    again = world.restarted()
    assert again.current == first
    (waiting,) = [name for name, state in again.states().items() if state == "waiting"]
    director_changes.rotate(again.server, waiting, "ada", "")
    assert again.restarted().current == waiting


def test_a_crash_after_the_statement_is_finished_at_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, made = world.current, world.make()

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(director_changes, "follow", dies)
        with pytest.raises(KeyboardInterrupt):
            director_changes.rotate(world.server, made, "ada", "")
    assert read_keys(world.home.keys).director.public.key_id == first
    again = world.restarted()
    assert again.current == made
    assert read_keys(world.home.keys).director.public.key_id == made
    assert first in again.directors.standing, "those that still obey it are not reached"


def test_a_crash_in_a_retirement_is_finished_at_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.current
    world.rotate()

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(director_changes, "forget_director", dies)
        with pytest.raises(KeyboardInterrupt):
            director_changes.retire(world.server, first, "ada", force=False)
    assert first in read_keys(world.home.keys).directors
    again = world.restarted()
    assert first not in again.directors.standing
    assert first not in read_keys(world.home.keys).directors


def test_a_database_whose_director_is_elsewhere_is_directed_by_this_home_and_says_so(
    world: World, tmp_path: Path
) -> None:
    lost = world.current
    other = Home(tmp_path / "other")
    other.root.mkdir()
    make_keys(other.keys)
    found = begin(world.store, other.keys, 500)
    assert found.current.public == read_keys(other.keys).director.public
    with world.store.read() as connection:
        assert connection.execute(select(directors.c.until_ms).where(directors.c.key_id == lost)).scalar_one()


def test_a_backup_has_every_key_that_its_rows_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "old")
    initialise(home, ServerConfig())
    url = home.database_url(load_home(home))
    store = open_store(url)
    made = World(store, home, begin(store, home.keys, 50))
    first, second = made.current, made.rotate()

    def meanwhile(connection: Any) -> Any:
        """The files of the home have been read, the rows have not."""
        made.rotate()
        return found_revision(connection)

    with monkeypatch.context() as patched:
        patched.setattr(backup, "found_revision", meanwhile)
        backup.back_up(home, url, "f", tmp_path / "backup.tar", 1)
    store.close()
    third = made.current
    again = Home(tmp_path / "new")
    restore(tmp_path / "backup.tar", again, 1)
    store = open_store(again.database_url(load_home(again)))
    begun = begin(store, again.keys, 500)
    assert begun.current.public.key_id == third
    assert set(begun.standing) == {first, second, third}
    store.close()
