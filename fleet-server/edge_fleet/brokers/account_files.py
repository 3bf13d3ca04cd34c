"""A mosquitto's accounts as the two files that it reads: who may connect, and what each may do.

Written for the mosquitto that we run (`mosquitto.py`), and for one that runs beside the server and shares a
folder with it (`external.py`), which reads them again at SIGHUP (`deploy/mosquitto/run.sh`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from edge_fleet.brokers.base import Account, is_device, is_name_of_device
from edge_fleet.errors import BrokerFailed
from edge_fleet.keys import write_secret

PASSWORDS, RIGHTS = "passwords", "acl"
_Rights: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]  # filters to publish and to subscribe, with %u
# the passwords are 256 random bits, which no number of rounds could improve; and at every change of
# accounts mosquitto, in its only thread, computes the hash of every client that is connected again
_ROUNDS = 1


class AccountFiles:
    """The files of one broker.

    Args:
        folder: Where they are; made when it is written to.
        by_pattern: Whether devices may share their rights; see `rights`.
    """

    def __init__(self, folder: Path, by_pattern: bool) -> None:
        """Describe the files."""
        self.folder, self._by_pattern = folder, by_pattern
        self._lines: dict[tuple[str, str], str] = {}  # by user and password
        self._shared: _Rights | None = None  # of every device, by the file that was written

    def write(self, accounts: Sequence[Account]) -> None:
        """Replace both, each all or nothing.

        Raises:
            BrokerFailed: The folder cannot be written.
        """
        # a changed hash disconnects its user on reload, so an account keeps the line it had
        if not self._lines:
            before = _lines_of(self.folder / PASSWORDS)
            self._lines = {(a.user, a.password): before[a.user] for a in accounts if _is_of(a, before)}
        users = [(account.user, account.password) for account in accounts]
        self._lines = {one: self._lines.get(one) or password_line(*one) for one in users}
        self._shared = shared_rights(accounts) if self._by_pattern else None
        with self._writing():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_secret(self.folder / RIGHTS, rights(accounts, self._by_pattern).encode())
            self._write_passwords()

    def change(self, added: Sequence[Account], removed: Collection[str]) -> bool:
        """Add devices that share the rights of all, or take some away: the passwords are all that changes.

        Returns:
            False when it is not such a change; nothing was written.

        Raises:
            BrokerFailed: The folder cannot be written.
        """
        if self._shared is None or any(not is_name_of_device(user) for user in removed):
            return False
        if any(not is_device(account) or _pattern(account) != self._shared for account in added):
            return False
        new = {(account.user, account.password) for account in added} - self._lines.keys()
        lines = {one: password_line(*one) for one in sorted(new)}
        gone = set(removed)
        with self._writing():
            if gone:
                kept = {one: line for one, line in self._lines.items() if one[0] not in gone}
                self._lines = {**kept, **{one: line for one, line in lines.items() if one[0] not in gone}}
                self._write_passwords()
            elif lines:
                # in one write; who reads it in between is told to read again
                with (self.folder / PASSWORDS).open("ab", buffering=0) as stream:
                    stream.write("".join(lines.values()).encode())
                    os.fsync(stream.fileno())
                self._lines.update(lines)
        return True

    def _write_passwords(self) -> None:
        write_secret(self.folder / PASSWORDS, "".join(self._lines.values()).encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BrokerFailed(
                f"cannot write the broker's accounts in {self.folder}: {error.strerror}"
            ) from None


def _lines_of(path: Path) -> dict[str, str]:
    """The lines of a password file by user; of one that is damaged those that look like lines."""
    try:
        lines = path.read_text(errors="replace").splitlines(keepends=True)
    except OSError:
        return {}
    return {line.partition(":")[0]: line for line in lines if line.endswith("\n")}


def _is_of(account: Account, lines: Mapping[str, str]) -> bool:
    """Whether there is a line for this user with this password."""
    line = lines.get(account.user, "")
    try:
        salt = base64.b64decode(line.split("$")[3], validate=True)
    except (IndexError, ValueError):
        return False
    return hmac.compare_digest(line.encode(), password_line(account.user, account.password, salt).encode())


def password_line(user: str, password: str, salt: bytes | None = None) -> str:
    """A line as mosquitto_passwd writes it: PBKDF2-HMAC-SHA512, `$7$rounds$salt$hash`."""
    salt = salt or os.urandom(12)
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"{user}:$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(hashed).decode()}\n"


def rights(accounts: Sequence[Account], by_pattern: bool) -> str:
    """The file of who may read and write what.

    Args:
        by_pattern: Whether devices may share theirs. Not where certificates let a client in: one that was
            revoked must have no rights left, and the list of passwords does not keep it out.
    """
    shared = shared_rights(accounts) if by_pattern else None
    if shared is None:
        return "\n".join(_lines(account, ()) for account in accounts)
    publish, subscribe = shared
    others = (_lines(a, (*publish, *subscribe)) for a in accounts if not is_device(a))
    patterns = [f"pattern write {one}" for one in publish] + [f"pattern read {one}" for one in subscribe]
    return "\n".join([*others, *patterns, ""])


def shared_rights(accounts: Sequence[Account]) -> _Rights | None:
    """What all devices may, each under its own name; None when that differs, or there is none."""
    found = {_pattern(account) for account in accounts if is_device(account)}
    return found.pop() if len(found) == 1 else None


def _pattern(account: Account) -> _Rights:
    """A device's rights with its name left open: mosquitto puts the user's in."""
    name = f"/{account.user}/"
    publish, subscribe = (
        tuple(one.replace(name, "/%u/") for one in filters)
        for filters in (account.publish, account.subscribe)
    )
    return publish, subscribe


def _lines(account: Account, denied: Sequence[str]) -> str:
    """What one account may; `denied` are patterns that are not for it."""
    lines = [f"user {account.user}"]
    lines += [f"topic deny {one.replace('%u', account.user)}" for one in denied]
    lines += [f"topic write {mqtt_filter}" for mqtt_filter in account.publish]
    lines += [f"topic read {mqtt_filter}" for mqtt_filter in account.subscribe]
    return "\n".join([*lines, ""])
