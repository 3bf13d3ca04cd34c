"""Enrolling: the device makes its own key, shows a one-time token, and learns whom to trust.

The private half never leaves the device. The key is on the disk before the server hears of it, so an
enrolment that breaks off (power, network) is repeated with the same key and token.
"""

from __future__ import annotations

import base64
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edge_agent.device.config import DeviceConfig, check_config, read_config
from edge_agent.device.home import Home, write_durably
from edge_agent.device.http import base_url, host_of, post_json
from edge_agent.device.identity_copy import keep_copy
from edge_agent.errors import AlreadyEnrolled, HomeInvalid, ServerRefused
from edge_agent.updates.slots import Slots
from edge_agent.updates.store import Store
from edge_contracts.enrolment import EnrolAnswer, EnrolRequest, enrol_proof
from edge_contracts.errors import ContractError, FormatInvalid
from edge_contracts.faults import ValidationError, first_fault
from edge_contracts.keys import PrivateKey, PublicKey, read_private, write_private
from edge_contracts.model import canonical_json, parse_json
from edge_contracts.on_disk import sync_folder
from edge_contracts.profile import lineage, load_profile

log = logging.getLogger(__name__)

PATH = "/api/v1/enrol"


def enrol(
    home: Home,
    server: str,
    token: str,
    profile: str,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    server_ca: str = "",
    force: bool = False,
) -> DeviceConfig:
    """Join a fleet; the caller holds the home's lock.

    Args:
        profile: Name of a device profile, or a `.toml` file.
        name: Device id to ask for; the server gives one otherwise.
        server_ca: PEM, for a server whose certificate the system does not know.
        force: Leave the fleet that the device belongs to: a new key, an empty outbox.

    Raises:
        AlreadyEnrolled: It belongs to a fleet and `force` is not set.
        ServerUnreachable, ServerRefused: See `http.opened`; nothing was changed.
        FormatInvalid, ProfileUnknown, ProfileInvalid: An argument that no server would take.
    """
    home.make()
    before = None if force else read_config(home)
    if before is not None:
        raise AlreadyEnrolled(
            f"{home.folder} is enrolled as {before.device} in {before.fleet}; "
            "use --force to leave that fleet, or another --home"
        )
    described, names = load_profile(profile), lineage(profile)
    server = base_url(server)
    key = _new_key(home)
    request = _request(token, key, names, name, dict(labels or {}))
    answer = _parse(post_json(server + PATH, canonical_json(request), server_ca))
    config = DeviceConfig(
        server=server,
        server_ca=server_ca,
        device=answer.device,
        fleet=answer.fleet,
        profile=described,
        lineage=names,
        mqtt_host=answer.mqtt_host or host_of(server),
        mqtt_port=answer.mqtt_port,
        mqtt_tls=answer.mqtt_tls,
        mqtt_ca=answer.mqtt_ca,
        mqtt_user=answer.mqtt_user,
        mqtt_password=answer.mqtt_password,
        client_id="edge-" + secrets.token_hex(16),
        public_key=key.public.base64,
        director_key=answer.director_key,
        publisher_keys=answer.publisher_keys,
        mqtt_certificate=answer.mqtt_certificate,
        mqtt_certificate_renew_ms=answer.mqtt_certificate_renew_ms,
    )
    write_durably(home.enrolment, canonical_json(config))
    finish(home)
    return config


def _new_key(home: Home) -> PrivateKey:
    """A key that no fleet knows yet; one that an enrolment broke off with is taken up again."""
    path = _fresh_key(home)
    if path.exists():
        try:
            return read_private(path)
        except ContractError:  # cut off while it was written: nobody has seen its public half
            path.unlink()
    key = PrivateKey.generate()
    write_private(key, path)
    sync_folder(path.parent)
    return key


def _request(
    token: str, key: PrivateKey, names: tuple[str, ...], name: str | None, labels: dict[str, str]
) -> EnrolRequest:
    try:
        return EnrolRequest(
            token=token,
            public_key=key.public.base64,
            proof=base64.b64encode(key.sign(enrol_proof(token, name))).decode(),
            profile=names,
            name=name,
            labels=labels,
        )
    except ValidationError as error:
        raise FormatInvalid(first_fault(error)) from None


def _parse(content: bytes) -> EnrolAnswer:
    """The answer, with every key in it usable."""
    try:
        answer = parse_json(EnrolAnswer, content, "the server's answer to the enrolment")
        for text in (answer.director_key, *answer.publisher_keys):
            PublicKey.from_base64(text)
    except ContractError as error:
        raise ServerRefused(f"{error}; is it an edge-fleet server of this version?") from None
    return answer


def finish(home: Home) -> None:
    """Finish an enrolment that was decided; harmless when there is none. The caller holds the home's lock.

    Decided is what lies in `enrolment.json`: before it the device is in its old fleet with all counters,
    after it in the new one, wherever the power went. Every step may be done twice.

    Raises:
        HomeInvalid: The disk failed; the next call goes on.
    """
    try:
        content = home.enrolment.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise HomeInvalid(f"cannot read {home.enrolment}: {error.strerror}") from None
    try:
        check_config(home)(content)
    except ContractError as error:  # damaged since: the device stays where its files say that it is
        log.error("enrolment given up", extra={"reason": str(error)})
        home.enrolment.replace(home.enrolment.with_name(home.enrolment.name + ".damaged"))
        return
    # what the old fleet counted means nothing to the new one, and its server cannot read our old outbox
    store = Store(home)
    store.save(_counted_anew(store.slots))
    fresh = _fresh_key(home)
    try:
        for suffix in ("", "-wal", "-shm"):
            home.outbox.with_name(home.outbox.name + suffix).unlink(missing_ok=True)
        if fresh.exists():
            os.replace(fresh, home.key)
        home.next_key.unlink(missing_ok=True)  # it was to follow the old one
        home.certificate.unlink(missing_ok=True)  # of the old fleet; `certificate.py` writes the new one
        sync_folder(home.folder)
        write_durably(home.config, content)
        keep_copy(home, home.config, home.key)
        home.enrolment.unlink()
        sync_folder(home.folder)
    except OSError as error:
        raise HomeInvalid(f"cannot write {error.filename}: {error.strerror}") from None


def _fresh_key(home: Home) -> Path:
    return home.key.with_name(home.key.name + ".new")


def _counted_anew(slots: Slots) -> Slots:
    """The same bundles, but no assignment and no counter of any fleet."""
    held = {slot: replace(what, counter=0, assignment=None) for slot, what in slots.held.items()}
    return replace(slots, held=held, floor=0, number=-1, progress=None, era=0)
