"""The device's next key: made, told to the server, and gone over to when the server says that it knows it.

    HOME/device.key        the key in force
    HOME/device.key.next   the one that is to follow, from when it is made until it is in force

Which counts stands in one place, the `public_key` of config.json: it is replaced as a whole. Until then the
old key signs and both are kept; a cut after it finds the new one beside and finishes (`config.py`). Used
from the agent's thread.
"""

from __future__ import annotations

import logging

from edge_agent.device.config import DeviceConfig, go_over, read_config
from edge_agent.device.home import Home
from edge_agent.errors import HomeInvalid
from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey, read_private, write_private
from edge_contracts.messages import Assignment
from edge_contracts.on_disk import sync_folder
from edge_contracts.succession import NextKey, propose

log = logging.getLogger(__name__)

SAY_S = 30.0  # between two words about the next key, until the server has heard


class Succession:
    """One enrolled device's keys."""

    def __init__(self, home: Home, config: DeviceConfig, key: PrivateKey) -> None:
        """Take up what was begun before."""
        self._home, self._config, self.key = home, config, key
        self._next = _read_next(home, key)
        self._say_at_s = 0.0

    def told(self) -> NextKey | None:
        """What a status says of the next key; None while there is none."""
        if self._next is None:
            return None
        return propose(self._config.fleet, self._config.device, self.key.public, self._next)

    def begin(self) -> str:
        """Make the next key, durably; one that was begun goes on. What to tell a person.

        Raises:
            HomeInvalid: It cannot be written; nothing has changed.
        """
        if self._next is None:
            self._next = make_next(self._home)
        self._say_at_s = 0.0
        return f"the next key is {self._next.public.key_id}; it counts when the server has said so"

    def is_due(self, now_s: float) -> bool:
        """Whether it is time to tell the server of the next key (again)."""
        if self._next is None or now_s < self._say_at_s:
            return False
        self._say_at_s = now_s + SAY_S
        return True

    def heard(self, assignment: Assignment) -> PrivateKey | None:
        """Take note of what the director says of keys; the new key once it is in force.

        An order to change names the key that is to go, so that one that comes again changes nothing.
        """
        try:
            if assignment.change_key == self.key.public.key_id and self._next is None:
                log.info("key change ordered", extra={"told": self.begin()})
            if self._next is None or assignment.known_key != self._next.public.key_id:
                return None
            go_over(self._home, self._next)
        except HomeInvalid as error:
            log.error("key not changed", extra={"reason": str(error)})  # it is said again
            return None
        self.key, self._next = self._next, None
        return self.key


def make_next(home: Home) -> PrivateKey:
    """A next key on the disk: a new one, or the one that lies there.

    Raises:
        HomeInvalid: It cannot be written.
    """
    config = read_config(home)
    if config is None:
        raise HomeInvalid(f"no device is enrolled in {home.folder}: there is no key that could change")
    if home.next_key.exists():
        try:
            return read_private(home.next_key)
        except ContractError:
            home.next_key.unlink()  # cut off while it was written: nobody has seen its public half
    key = PrivateKey.generate()
    try:
        write_private(key, home.next_key)
        sync_folder(home.folder)
    except OSError as error:
        raise HomeInvalid(f"cannot write {home.next_key}: {error.strerror}") from None
    return key


def _read_next(home: Home, key: PrivateKey) -> PrivateKey | None:
    if not home.next_key.exists():
        return None
    try:
        found = read_private(home.next_key)
    except ContractError as error:
        log.warning("the next key was cut off; the next order makes another", extra={"reason": str(error)})
        return None
    return None if found.public == key.public else found
