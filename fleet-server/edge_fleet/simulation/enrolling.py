"""Enrolling simulated devices as a person and a device would: a one-time token each, and a key made here."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from edge_contracts.enrolment import EnrolAnswer, EnrolRequest, enrol_proof
from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey
from edge_contracts.model import parse_object
from edge_contracts.profile import lineage
from edge_fleet.client import Client, Refused
from edge_fleet.errors import RequestInvalid
from edge_fleet.remote import API
from edge_fleet.simulation.memory import Identity, StateFolder

AT_ONCE = 32  # the server gives the broker all that ask together at once
LABEL = "simulated"


def enrol_missing(
    client: Client,
    folder: StateFolder,
    wanted: Mapping[str, int],
    profiles: Sequence[str],
    told: Callable[[int, int], None],
) -> list[Identity]:
    """Enrol what the folder has too few of, and give all that are wanted, of each kind the first.

    Args:
        wanted: How many of each kind.
        told: Called with how many are enrolled by now, and how many will be.

    Raises:
        RequestInvalid: An unknown profile, or devices that this server does not know.
        FleetError: The server does not enrol; those that it did are kept.
    """
    lineages = _lineages(profiles)
    known: dict[str, list[Identity]] = {}
    for identity in folder.identities():
        known.setdefault(identity.kind, []).append(identity)
    _require_known(client, [one for of_kind in known.values() for one in of_kind])
    tag = folder.tag()
    missing = [
        (kind, f"sim{tag}-{kind}-{number:05}", lineages[number % len(lineages)])
        for kind, count in wanted.items()
        for number in range(len(known.get(kind, [])), count)
    ]
    done = 0
    for batch in _batches(missing, AT_ONCE):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            enrolled = list(pool.map(lambda one: _enrol(client, *one), batch))
        folder.add(enrolled)
        for identity in enrolled:
            known.setdefault(identity.kind, []).append(identity)
        done += len(batch)
        told(done, len(missing))
    return [one for kind, count in wanted.items() for one in known[kind][:count]]


def _enrol(client: Client, kind: str, name: str, profile: tuple[str, ...]) -> Identity:
    seed = os.urandom(32)
    key = PrivateKey.from_seed(seed)
    token = client.post(f"{API}/tokens", {"role": "enrol", "label": "simulate"})["token"]
    request = EnrolRequest(
        token=token,
        public_key=key.public.base64,
        proof=base64.b64encode(key.sign(enrol_proof(token, name))).decode(),
        profile=profile,
        name=name,
        labels={LABEL: kind},
    )
    answer = parse_object(
        EnrolAnswer, client.post(f"{API}/enrol", request.model_dump(mode="json")), "enrolment"
    )
    return Identity(kind=kind, seed=base64.b64encode(seed).decode(), profile=profile, enrolled=answer)


def _require_known(client: Client, identities: Sequence[Identity]) -> None:
    """The folder may be of a server that is gone, or another one."""
    if not identities:
        return
    first = identities[0]
    try:
        found = client.get(f"{API}/devices/{first.device}")["public_key"]
    except Refused:  # no such device
        found = ""
    if found != first.key.public.base64:
        raise RequestInvalid(
            f"this server does not know {first.device}, which the folder of --state was made with; "
            "give --state another folder"
        )


def _lineages(profiles: Sequence[str]) -> list[tuple[str, ...]]:
    try:
        return [lineage(name) for name in profiles]
    except ContractError as error:
        raise RequestInvalid(str(error)) from None


def _batches(
    items: Iterable[tuple[str, str, tuple[str, ...]]], size: int
) -> Iterator[list[tuple[str, str, tuple[str, ...]]]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch
