"""Who this device is and whom it trusts: `config.json` and the keys beside it.

`enrol.py` writes it once; every start reads it. Publishers whom a person at the device trusts
besides the fleet's own are in a file of their own, so that enrolling anew does not forget them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edge_agent.device import trust as trusting
from edge_agent.device.home import Home, write_durably
from edge_agent.device.identity_copy import keep_copy, sound
from edge_agent.device.trust import Trust
from edge_agent.errors import HomeInvalid
from edge_contracts.errors import ContractError, FormatInvalid, KeyInvalid
from edge_contracts.keys import PrivateKey, PublicKey, TrustedKeys, parse_private, read_private
from edge_contracts.model import Frozen, Identifier, canonical_json, later, parse_json
from edge_contracts.on_disk import sync_folder
from edge_contracts.profile import DeviceProfile
from edge_contracts.trust import KeyStatement, open_keys

FORMAT = "edgefleet.device/1"


class DeviceConfig(Frozen):
    """What a device keeps of its enrolment.

    Args:
        server: Base URL, without a slash at the end.
        server_ca: PEM of the CA that the server's certificate must come from, "" for the system's.
        profile, lineage: As they were when the device was enrolled; a profile file may be gone later.
        client_id: MQTT client id: random and secret, so that no other device can take the session over.
        mqtt_certificate, mqtt_certificate_renew_ms: The first one; `certificate.py` has those that follow.
        public_key: What the server knows the device by; `device.key` must be its other half.
        enrolled_director: Who was director at the enrolment, where a statement has named another since;
            never written.
        era: How often a publisher has said who directs; never written.
    """

    format: Literal["edgefleet.device/1"] = "edgefleet.device/1"
    server: str
    server_ca: str = ""
    device: Identifier
    fleet: Identifier
    profile: DeviceProfile
    lineage: Annotated[tuple[Identifier, ...], Meta(min_length=1)]
    mqtt_host: Annotated[str, Meta(min_length=1)]
    mqtt_port: Annotated[int, Meta(gt=0, lt=65_536)]
    mqtt_tls: bool
    mqtt_ca: str
    mqtt_user: str
    mqtt_password: str
    client_id: str
    public_key: str
    director_key: str
    publisher_keys: tuple[str, ...]
    mqtt_certificate: str = later("")
    mqtt_certificate_renew_ms: int = later(0)
    enrolled_director: str = later("")
    era: int = later(0)

    def __repr__(self) -> str:
        """Without what nobody must read in a log."""
        return f"DeviceConfig(device={self.device!r}, fleet={self.fleet!r}, server={self.server!r})"

    @property
    def director(self) -> PublicKey:
        """Whose assignments and acks count."""
        return PublicKey.from_base64(self.director_key)

    @property
    def obeys(self) -> str:
        """What a snapshot says of the director; "" as long as it is the one of the enrolment.

        A server of before never changes it, and would refuse a message that says so.
        """
        return self.director.key_id if self.enrolled_director else ""


def read_config(home: Home) -> DeviceConfig | None:
    """The enrolment, or None for a device that belongs to no fleet.

    A damaged one gives way to its copy.

    Raises:
        HomeInvalid: It is there but cannot be read, nor can a copy, or it is another program's.
    """
    home.require_ours()
    check = check_config(home)
    try:
        content = sound(home, home.config, check).content
    except ContractError as error:
        raise HomeInvalid(f"{error}; enrol again with edge-agent enroll --force") from None
    if content is None:
        return None
    config = check(content)
    enrolled, known = _enrolled(config), read_trust(home)
    config = config.model_copy(update={"era": trusting.era(enrolled, known)})
    now = trusting.director(enrolled, known)
    if now == config.director_key:
        return config
    return config.model_copy(update={"director_key": now, "enrolled_director": config.director_key})


def check_config(home: Home) -> Callable[[bytes], DeviceConfig]:
    """What reads the content of `config.json`, or refuses it with FormatInvalid."""

    def check(content: bytes) -> DeviceConfig:
        config = parse_json(DeviceConfig, content, str(home.config), FORMAT)
        _require_usable(config, home.config)
        return config

    return check


def check_key(home: Home, config: DeviceConfig) -> Callable[[bytes], PrivateKey]:
    """What reads the content of `device.key`, or refuses one that is not the one that the server knows."""

    def check(content: bytes) -> PrivateKey:
        key = parse_private(content, home.key)
        if key.public.base64 != config.public_key:
            raise KeyInvalid(f"{home.key} is key {key.public.key_id}, enrolled was another")
        return key

    return check


def check_trust(home: Home) -> Callable[[bytes], Trust]:
    """What reads the content of `trusted.json`, or refuses it with FormatInvalid."""
    return lambda content: parse_json(Trust, content, str(home.trusted), trusting.FORMAT)


def _require_usable(config: DeviceConfig, path: Path) -> None:
    """See that addresses and keys are such: whoever uses them expects it.

    Raises:
        FormatInvalid: One is none.
    """
    scheme, _, rest = config.server.partition("://")
    if scheme not in ("http", "https") or not _may_be_host(rest.split("/")[0]):
        raise FormatInvalid(
            f"{path}: server is {config.server!r:.80}, expected http:// or https:// and a host"
        )
    if not _may_be_host(config.mqtt_host):
        raise FormatInvalid(
            f"{path}: mqtt_host is {config.mqtt_host!r:.80}, expected a host's name or address"
        )
    for name, key in (
        ("director_key", config.director_key),
        *(("publisher_keys", k) for k in config.publisher_keys),
    ):
        try:
            PublicKey.from_base64(key)
        except ContractError as error:
            raise FormatInvalid(f"{path}: {name}: {error}") from None


def _may_be_host(text: str) -> bool:
    """Whether looking it up cannot fail for its form: RFC 1035 section 2.3.4."""
    labels = text.removesuffix(".").split(".")
    is_text = text.isprintable() and not any(one.isspace() or one in "/\\?#" for one in text)
    return is_text and all(1 <= len(label) <= 63 for label in labels)


def read_device_key(home: Home, config: DeviceConfig) -> PrivateKey:
    """The device's private key; a damaged file gives way to its copy.

    Raises:
        HomeInvalid: It is missing, or not the one that the server knows, and so is its copy.
    """
    finish_going_over(home, config)
    check = check_key(home, config)
    try:
        content = sound(home, home.key, check).content
    except ContractError as error:
        raise HomeInvalid(f"{error}; enrol anew with edge-agent enroll --force") from None
    if content is None:
        raise HomeInvalid(f"{home.key} is missing; enrol anew with edge-agent enroll --force")
    return check(content)


def go_over(home: Home, key: PrivateKey) -> None:
    """Be known by the next key from now on; it lies in `Home.next_key`. Durable when this returns.

    Raises:
        HomeInvalid: It cannot be stored; the key before is in force, or the next start finishes.
    """
    try:
        stored = parse_json(DeviceConfig, home.config.read_bytes(), str(home.config), FORMAT)
    except (OSError, ContractError) as error:
        raise HomeInvalid(f"cannot read {home.config}: {error}") from None
    changed = stored.model_copy(update={"public_key": key.public.base64})
    write_durably(home.config, canonical_json(changed))  # from here on it counts
    finish_going_over(home, changed)
    keep_copy(home, home.config, home.key)


def finish_going_over(home: Home, config: DeviceConfig) -> None:
    """Put the key that counts in its place, where a cut has left it beside."""
    try:
        if not home.next_key.exists() or read_private(home.next_key).public.base64 != config.public_key:
            return
        os.replace(home.next_key, home.key)
        sync_folder(home.folder)
    except ContractError:
        return  # cut off while it was written: it never counted
    except OSError as error:
        raise HomeInvalid(f"cannot write {home.key}: {error.strerror}") from None


def trusted_publishers(home: Home, config: DeviceConfig | None) -> TrustedKeys:
    """Whose bundles may be installed: the fleet's publishers and those trusted at the device."""
    return trusting.publishers(_enrolled(config), read_trust(home))


def trust(home: Home, key: PublicKey) -> bool:
    """Trust a publisher on this device from now on; False when it was trusted already."""
    home.make()
    known = read_trust(home)
    if (changed := trusting.added(known, key)) == known:
        return False
    _store(home, changed)
    return True


def distrust(home: Home, key: PublicKey) -> bool:
    """Trust a publisher no longer on this device; False when it was so already."""
    known = read_trust(home)
    if (changed := trusting.removed(known, key)) == known:
        return False
    _store(home, changed)
    return True


def follow(home: Home, config: DeviceConfig | None, envelope: bytes) -> KeyStatement | None:
    """Follow a signed statement about keys; durable when this returns. None when it is known already.

    Raises:
        KeyUnknown, SignatureInvalid, FormatInvalid: Nobody who may has signed it, or it is none.
        KeyChangeRefused: It is signed and must not be followed.
        HomeInvalid: It cannot be stored; nothing has changed.
    """
    enrolled, known = _enrolled(config), read_trust(home)
    statement, signer = open_keys(envelope, trusting.signers(enrolled, known))
    changed = trusting.stated(enrolled, known, statement, signer)
    if changed is None:
        return None
    _store(home, changed)
    return statement


def _enrolled(config: DeviceConfig | None) -> trusting.Enrolled:
    if config is None:
        return trusting.Enrolled()
    first = config.enrolled_director or config.director_key
    return trusting.Enrolled(config.fleet, first, config.publisher_keys)


def read_trust(home: Home) -> Trust:
    """What statements and persons have said about keys.

    Raises:
        HomeInvalid: The file cannot be read.
    """
    check = check_trust(home)
    try:
        content = sound(home, home.trusted, check).content
    except ContractError as error:
        raise HomeInvalid(
            f"{error}; move it away: what the fleet says of keys comes again with its next assignment, "
            "whom a person trusted is to be trusted anew (edge-agent trust add)"
        ) from None
    return Trust() if content is None else check(content)


def _store(home: Home, trust: Trust) -> None:
    write_durably(home.trusted, canonical_json(trust))
    keep_copy(home, home.trusted)
