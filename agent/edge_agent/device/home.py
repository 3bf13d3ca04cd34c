"""The agent's folder: where things lie in it, and the lock that keeps two agents apart.

    HOME/config.json   who this device is and whom it trusts (0600; `config.py`)
    HOME/device.key    its private key (0600); device.key.next while another is to follow (`succession.py`)
    HOME/trusted.json  whom statements and a person have named since (`config.py`)
    HOME/identity.copy  these once more, for when a file of them is damaged (0600; `identity_copy.py`)
    HOME/enrolment.json  an enrolment that is decided and not finished (`enrol.py`)
    HOME/state.json    the slots and what is under way (`store.py`), with state.previous.json
    HOME/outbox.db     telemetry that the server has not acknowledged (`outbox.py`)
    HOME/guard.json    what is in quarantine and where the ladder stands (`guard/quarantine.py`)
    HOME/slots/a, b    one extracted bundle each
    HOME/downloads/    archives on their way, and the room that is kept for them
    HOME/model.key     what models are encrypted with, where they are (0600; `sealed.py`)
    HOME/data.json     how much was downloaded this day and month (`budget.py`)
    HOME/orders/       what commands ask of the running daemon (`orders.py`)
    HOME/lineup.json   who stands beside the active model, HOME/lineup/ their bundles (`doubt/`)
    HOME/review/       inputs kept for review; review.json, review.sent.json, review.key (0600; `doubt/`)
    HOME/answers/      answers that wait for labels, sealed under review.key (`doubt/shelf.py`)
    HOME/serve.token   what applications show at the HTTP port (0600; `serving/token.py`)
    HOME/serve-tls.json  which certificate the HTTP port has (`serving/tls.py`)
    HOME/lock          held by the one process that may write here

What is in the files is the business of the modules that are named.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from edge_agent.errors import HomeInvalid, HomeLocked
from edge_contracts.on_disk import sync_folder

if TYPE_CHECKING:  # the command line must come up where numpy is not installed, and slots need it
    from edge_agent.updates.slots import Slot

log = logging.getLogger(__name__)

LOCK_ATTEMPTS, LOCK_PAUSE_S = 10, 0.02


@dataclass(frozen=True)
class Home:
    """The paths of one agent."""

    folder: Path

    @property
    def config(self) -> Path:
        """Who this device is and whom it trusts."""
        return self.folder / "config.json"

    @property
    def key(self) -> Path:
        """The device's private key."""
        return self.folder / "device.key"

    @property
    def next_key(self) -> Path:
        """The private key that is to follow, until it is in force."""
        return self.folder / "device.key.next"

    @property
    def trusted(self) -> Path:
        """Whom statements and a person at the device have named since the enrolment."""
        return self.folder / "trusted.json"

    @property
    def identity_copy(self) -> Path:
        """A second copy of the files that say who this device is."""
        return self.folder / "identity.copy"

    @property
    def certificate(self) -> Path:
        """What the broker knows the device by, for `key`: `certificate.py`; absent where none is asked."""
        return self.folder / "device.crt"

    @property
    def enrolment(self) -> Path:
        """An enrolment that is decided and not finished."""
        return self.folder / "enrolment.json"

    @property
    def state(self) -> Path:
        """The slots and what is under way."""
        return self.folder / "state.json"

    @property
    def outbox(self) -> Path:
        """Telemetry that is not acknowledged yet."""
        return self.folder / "outbox.db"

    @property
    def downloads(self) -> Path:
        """Archives on their way."""
        return self.folder / "downloads"

    @property
    def data_used(self) -> Path:
        """How much was downloaded this day and month."""
        return self.folder / "data.json"

    @property
    def orders(self) -> Path:
        """What commands ask of the running daemon."""
        return self.folder / "orders"

    @property
    def serve_token(self) -> Path:
        """What applications show at the HTTP port."""
        return self.folder / "serve.token"

    @property
    def serve_tls(self) -> Path:
        """Which certificate the HTTP port has."""
        return self.folder / "serve-tls.json"

    @property
    def drift(self) -> Path:
        """What the drift monitor has counted."""
        return self.folder / "drift.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that may write here."""
        return self.folder / "lock"

    def slot(self, slot: Slot) -> Path:
        """The folder of one slot; it is there when the slot holds something complete."""
        return self.folder / "slots" / slot

    def make(self) -> None:
        """Make the folders that are missing; only the owner may look inside.

        Raises:
            HomeInvalid: They cannot be made, or the folder is another program's home.
        """
        self.require_ours()
        try:
            _make_durably(self.folder)
            _make_durably(self.downloads)
            _make_durably(self.folder / "slots")
        except OSError as error:
            raise HomeInvalid(f"cannot make {error.filename}: {error.strerror}") from None

    def require_ours(self) -> None:
        """Refuse the home of another program, such as the server's: its settings have the same name.

        Raises:
            HomeInvalid: It is one.
        """
        try:
            stated = json.loads(self.config.read_bytes())
        except (OSError, ValueError, RecursionError):
            return  # none yet, or a damaged one, about which `config.read_config` has more to say
        found = stated.get("format") if isinstance(stated, dict) else None
        is_another = isinstance(found, str) and not found.startswith("edgefleet.device/")
        if is_another and not self.identity_copy.exists():  # with one it is ours, and the file damaged
            raise HomeInvalid(
                f"{self.config} has format {found!r:.80}: "
                f"{self.folder} is not an agent's home; choose another --home"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only agent in this folder; the system lets go of the lock however the process ends.

        Raises:
            HomeLocked: Another process is.
            HomeInvalid: The folder cannot be written.
        """
        self.make()
        handle = self._open_lock()
        try:
            if not _lock(handle):
                holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
                raise HomeLocked(
                    f"an agent (process {holder}) works in {self.folder} already; "
                    "stop it first, or choose another --home"
                ) from None
            with suppress(OSError):  # a full or read-only disk: who holds it is then not told by number
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            if self.enrolment.exists():  # the power went while the device changed its fleet
                from edge_agent.device.enrol import finish

                finish(self)
            yield
        finally:
            os.close(handle)

    def _open_lock(self) -> int:
        """The lock's file. On a read-only disk an old one does: a device must answer there too.

        Raises:
            HomeInvalid: It cannot be opened.
        """
        try:
            return os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno == errno.EROFS:
                with suppress(OSError):
                    return os.open(self.lock, os.O_RDONLY | os.O_CLOEXEC)
            raise HomeInvalid(f"cannot open {self.lock}: {error.strerror}") from None

    def holder(self) -> int | None:
        """Process id of the agent that works here now, or None."""
        try:
            handle = os.open(self.lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            text = os.pread(handle, 32, 0).decode(errors="replace").strip()
            return int(text) if text.isdigit() else 0
        finally:
            os.close(handle)
        return None


def _lock(handle: int) -> bool:
    """Take the lock; `holder` has it for a moment, and must not keep an agent from starting."""
    for attempt in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if attempt + 1 < LOCK_ATTEMPTS:
                sleep(LOCK_PAUSE_S)
        else:
            return True
    return False


def default_home() -> Home:
    """`$EDGE_AGENT_HOME`, or `~/.edgefleet/agent`."""
    return Home(Path(os.environ.get("EDGE_AGENT_HOME") or Path.home() / ".edgefleet" / "agent"))


def _make_durably(folder: Path) -> None:
    """Make a folder and those above it that are missing; a power cut does not take back their names."""
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        _make_durably(folder.parent)
    folder.mkdir(exist_ok=True, mode=0o700)
    sync_folder(folder.parent)


def discard(path: Path) -> None:
    """Remove a file that nobody needs any more; where the disk does not let it go, it stays."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("not removed", extra={"file": path.name, "reason": error.strerror})


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file so that a power cut leaves the old or the new content, readable by the owner only.

    Raises:
        HomeInvalid: The disk is full, read-only or gone; the old content is still there.
    """
    beside = path.with_name(path.name + ".new")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise HomeInvalid(f"cannot write {path}: {error.strerror}") from None
