"""Directors in a life, for the harness of faults: one that hands over, one that is stolen and replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.device.config import follow, read_config
from edge_contracts.keys import PrivateKey
from edge_contracts.trust import KeyStatement, sign_keys

if TYPE_CHECKING:
    from fault_device import Device

HIGHEST = 1 << 62


def redirected(device: Device) -> None:
    """The director names the next, whose thief gives the highest number; a publisher names a third."""
    from fault_device import HEALTHY

    second, third = device.life.key("second"), device.life.key("third")
    name = device.another()
    _follow(device, device.life.key("director"), second)
    device.keep_what_it_has(HIGHEST)
    _follow(device, device.life.key("publisher"), third)
    device.assign(30, name, 30)
    device.updater.judged(HEALTHY)
    assert device.updater.slots.number == 30, "the thief's number holds up the owner"


def _follow(device: Device, signer: PrivateKey, director: PrivateKey) -> None:
    from fault_device import remark

    statement = KeyStatement(fleet="plant", counter=0, director=director.public.base64)
    assert follow(device.life.home, read_config(device.life.home), sign_keys(statement, signer)) is not None
    remark(obeys=director.public.key_id)
    device.trust()
