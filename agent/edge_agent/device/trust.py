"""Whom a device trusts, and how a statement changes it: values in, values out.

Three sources, the later with the last word: the enrolment (`config.json`), the fleet's signed statements,
and a person at the device. The last two lie in `trusted.json`; `config.py` reads and writes it. What came
by statements counts for the enrolment that it came under and for no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated, Any, Literal

from msgspec import Meta

from edge_agent.errors import KeyChangeRefused
from edge_contracts.keys import PublicKey, TrustedKeys
from edge_contracts.model import Frozen, later
from edge_contracts.trust import KeyName, KeyStatement, RawKey

FORMAT = "edgefleet.trust/1"
FORMER = 64  # a thief may name one director after the other; the file stays small


class Former(Frozen):
    """Who has directed before.

    Args:
        key: Raw, base64.
        counter: Of its last statement.
    """

    key: RawKey
    counter: Annotated[int, Meta(ge=-1)]


class FleetTrust(Frozen):
    """What the statements of one fleet came to.

    Args:
        scope: The director's key at the enrolment, raw, base64: which enrolment this is about.
        director: Who assigns now, "" for who did at the enrolment.
        publisher_counter, director_counter: Of the last statement of publishers, and of who directs now.
        former: Who has directed before, the last ones; counted on from there, should one be named again.
        muted: Publishers that only a director has retired or revoked, with the counter of their last
            statement since: they may still say who directs, and nothing else.
        era: How often a publisher has said who directs: numbers of assignments begin anew with each.
    """

    scope: RawKey
    keys: tuple[RawKey, ...] = ()
    retired: tuple[KeyName, ...] = ()
    revoked: tuple[KeyName, ...] = ()
    stopped: tuple[KeyName, ...] = ()
    director: str = ""
    publisher_counter: Annotated[int, Meta(ge=-1)] = -1
    director_counter: Annotated[int, Meta(ge=-1)] = -1
    former: tuple[Former, ...] = later(())
    muted: Mapping[KeyName, int] = later({})
    era: int = later(0)


class Trust(Frozen):
    """The file.

    Args:
        keys: Publishers whom a person at this device trusts: raw, base64.
        revoked: Those whom a person does not, whoever else does.
        fleet: What the fleet said, None for nothing.
    """

    format: Literal["edgefleet.trust/1"] = "edgefleet.trust/1"
    keys: tuple[str, ...] = ()
    revoked: tuple[RawKey, ...] = later(())
    fleet: FleetTrust | None = later(None)


@dataclass(frozen=True)
class Enrolled:
    """Whom the enrolment named: raw, base64; nobody on a device without a fleet."""

    fleet: str = ""
    director: str = ""
    publishers: tuple[str, ...] = ()


def publishers(enrolled: Enrolled, trust: Trust) -> TrustedKeys:
    """Whose bundles may be installed, and whose count no longer."""
    fleet = _fleet(enrolled, trust)
    known = {
        key.key_id: key
        for key in map(PublicKey.from_base64, (*enrolled.publishers, *fleet.keys, *trust.revoked))
    }
    by_hand = {key.key_id: key for key in map(PublicKey.from_base64, trust.keys)}
    against = {PublicKey.from_base64(text).key_id for text in trust.revoked}
    out = {name for name in fleet.revoked if name not in by_hand} | against
    former = {name for name in fleet.retired if name not in by_hand} - out
    every = known | by_hand
    return TrustedKeys(
        {name: key for name, key in every.items() if name not in out | former},
        {name: key for name, key in every.items() if name in former},
        {name: key for name, key in every.items() if name in out},
        frozenset(set(fleet.stopped) & out),
    )


def director(enrolled: Enrolled, trust: Trust) -> str:
    """Who assigns and acknowledges: raw, base64."""
    return _fleet(enrolled, trust).director or enrolled.director


def era(enrolled: Enrolled, trust: Trust) -> int:
    """How often a publisher has said who directs."""
    return _fleet(enrolled, trust).era


def signers(enrolled: Enrolled, trust: Trust) -> TrustedKeys:
    """Whose statements about keys are listened to: publishers that are neither retired nor revoked, or only
    by a director; and the director.
    """
    keys, fleet = publishers(enrolled, trust), _fleet(enrolled, trust)
    for key in {**keys.retired, **keys.revoked}.values():
        if _is_muted(fleet, trust, key.key_id):
            keys = keys.plus(key)
    found = director(enrolled, trust)
    return keys.plus(PublicKey.from_base64(found)) if found else keys


def added(trust: Trust, key: PublicKey) -> Trust:
    """A person trusts a publisher, whatever was said of it before."""
    keys = trust.keys if key.base64 in trust.keys else (*trust.keys, key.base64)
    revoked = tuple(text for text in trust.revoked if text != key.base64)
    return trust.model_copy(update={"keys": keys, "revoked": revoked})


def removed(trust: Trust, key: PublicKey) -> Trust:
    """A person trusts a publisher no longer, whoever else does."""
    keys = tuple(text for text in trust.keys if text != key.base64)
    revoked = trust.revoked if key.base64 in trust.revoked else (*trust.revoked, key.base64)
    return trust.model_copy(update={"keys": keys, "revoked": revoked})


def stated(enrolled: Enrolled, trust: Trust, statement: KeyStatement, signer: str) -> Trust | None:
    """What a statement makes of the trust; None when it is known already.

    Args:
        signer: Id of one of `signers`.

    Raises:
        KeyChangeRefused: It is for another fleet, says what its signer may not say, or leaves nobody.
    """
    if statement.fleet is not None and statement.fleet != enrolled.fleet:
        raise KeyChangeRefused(
            f"the statement is for fleet {statement.fleet}, this device is in {enrolled.fleet or 'none'}"
        )
    before, voice = _fleet(enrolled, trust), _voice(enrolled, trust, signer)
    if statement.counter <= _counter(before, signer, voice):
        return None
    _require_may_say(enrolled, statement, signer, voice)
    after = _after(enrolled, trust, statement, signer, voice)
    if statement.director:
        by_publisher = voice is not _Voice.DIRECTOR
        after = after.model_copy(update=_directed(enrolled, after, statement.director, by_publisher))
    kept = tuple(text for text in trust.keys if text not in _given_up(trust, statement))
    changed = trust.model_copy(update={"fleet": after, "keys": kept})
    if _against(statement) and not publishers(enrolled, changed).keys:
        raise KeyChangeRefused(
            "the statement would leave this device without any publisher; "
            "add the new one in the same statement"
        )
    return changed


class _Voice(Enum):
    """As what the signer of a statement speaks."""

    PUBLISHER = auto()
    MUTED = auto()  # a publisher that only a director is against: it may say who directs, and only that
    DIRECTOR = auto()


def _voice(enrolled: Enrolled, trust: Trust, signer: str) -> _Voice:
    if signer in publishers(enrolled, trust).keys:
        return _Voice.PUBLISHER
    return _Voice.MUTED if _is_muted(_fleet(enrolled, trust), trust, signer) else _Voice.DIRECTOR


def _counter(fleet: FleetTrust, signer: str, voice: _Voice) -> int:
    """Of the last statement that a signer is held to."""
    if voice is _Voice.MUTED:
        return fleet.muted[signer]
    return fleet.publisher_counter if voice is _Voice.PUBLISHER else fleet.director_counter


def _require_may_say(enrolled: Enrolled, statement: KeyStatement, signer: str, voice: _Voice) -> None:
    if voice is _Voice.MUTED and (statement.add or _against(statement) or not statement.director):
        raise KeyChangeRefused(
            f"publisher {signer} was retired or revoked by a director: it may say who directs, and only that"
        )
    if statement.add and voice is not _Voice.PUBLISHER:
        raise KeyChangeRefused("the director may not add publishers; a publisher's key must sign that")
    if not enrolled.director and (statement.director or voice is _Voice.DIRECTOR):
        raise KeyChangeRefused("this device has no fleet, and so no director that could change")


def _after(
    enrolled: Enrolled, trust: Trust, statement: KeyStatement, signer: str, voice: _Voice
) -> FleetTrust:
    """What a statement makes of what the fleet said, but for who directs."""
    before = _fleet(enrolled, trust)
    named = {_key_id(text) for text in statement.add}
    changed: dict[str, Any] = {
        "keys": _with(before.keys, (*statement.add, *_given_up(trust, statement))),
        "retired": tuple(n for n in _with(before.retired, statement.retire) if n not in named),
        # for ever: a stolen key does not come back by statement
        "revoked": _with(before.revoked, statement.revoke),
        "stopped": _with(before.stopped, statement.revoke if statement.stop else ()),
    }
    match voice:
        case _Voice.PUBLISHER:
            spoken_of = _against(statement) | named
            muted = {name: counter for name, counter in before.muted.items() if name not in spoken_of}
            changed |= {"muted": muted, "publisher_counter": statement.counter}
        case _Voice.MUTED:
            changed["muted"] = {**before.muted, signer: statement.counter}
        case _Voice.DIRECTOR:
            standing = publishers(enrolled, trust).keys
            silenced = {name: -1 for name in _against(statement) if name in standing}
            changed |= {"muted": {**before.muted, **silenced}, "director_counter": statement.counter}
    return before.model_copy(update=changed)


def _against(statement: KeyStatement) -> set[str]:
    """Whom a statement retires or revokes, by id."""
    return {*statement.retire, *statement.revoke}


def _given_up(trust: Trust, statement: KeyStatement) -> tuple[str, ...]:
    """Whom a person has trusted and a statement is against: that is the fleet's word now.

    A person may trust them again afterwards.
    """
    return tuple(text for text in trust.keys if _key_id(text) in _against(statement))


def _fleet(enrolled: Enrolled, trust: Trust) -> FleetTrust:
    found = trust.fleet
    scope = enrolled.director or NOBODY
    return found if found is not None and found.scope == scope else FleetTrust(scope=scope)


def _directed(enrolled: Enrolled, fleet: FleetTrust, key: str, by_publisher: bool) -> dict[str, Any]:
    """What changes with who directs.

    A director that hands over is believed to its last word, numbers of assignments too. Where a publisher
    says who directs, nothing that a director has counted holds.
    """
    now = fleet.director or enrolled.director
    changed: dict[str, Any] = {"era": fleet.era + 1} if by_publisher else {}
    if key != now:
        former = (*fleet.former, Former(key=now, counter=fleet.director_counter))
        counter = next((one.counter for one in former if one.key == key), -1)
        kept = tuple(one for one in former if one.key != key)[-FORMER:]
        changed |= {"director": key, "director_counter": counter, "former": kept}
    return changed


def _is_muted(fleet: FleetTrust, trust: Trust, name: str) -> bool:
    """Whether only a director is against a publisher; what a person is against is not listened to."""
    return name in fleet.muted and all(_key_id(text) != name for text in trust.revoked)


def _key_id(text: str) -> str:
    return PublicKey.from_base64(text).key_id if text else ""


def _with(before: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return (*before, *(one for one in dict.fromkeys(more) if one not in before))


NOBODY = "A" * 43 + "="  # 32 zero bytes: the scope of a device without a fleet
