"""Answers that wait for labels, over restarts: HOME/answers/, a few files that are replaced one at a time.

Used from the agent's thread; no inference waits for it. Every STORE_S the pages of the book that have changed
are written, each a whole file or the one before: a kill or a power cut costs what was answered since, an end
in good order nothing. Like the inputs kept for review they are sealed under `review.key`, and forgotten with
it; where nothing is kept for review, nothing is stored here either.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from edge_agent.device.home import Home, write_durably
from edge_agent.doubt.feedback import REMEMBERED, SALT_BYTES, FeedbackBook
from edge_agent.doubt.remembered import ANSWER, PAGE, Answerer, Page
from edge_agent.doubt.vault import Vault
from edge_agent.errors import HomeInvalid, ReviewDamaged
from edge_contracts.errors import ContractError
from edge_contracts.model import Count, Frozen, canonical_json, matching, parse_json

log = logging.getLogger(__name__)

FORMAT = "edgefleet.answers/1"
STORE_S = 60.0  # what a kill or a power cut may cost; one file and two syncs each time at ordinary rates
SUFFIX = ".answers"
PAGES = -(-REMEMBERED // PAGE)
LENGTH = struct.Struct(">I")  # of the head, in front of everything that is sealed


class ModelRecord(Frozen):
    """A model that answered; the fields are those of Answerer."""

    bundle: str
    artifact: str
    runtime: str
    labels: tuple[str, ...]
    classes: Annotated[int, Meta(ge=1)]


class PageHead(Frozen):
    """What is stored in front of a page's answers.

    Args:
        salt: Of the names, in hex.
        number, total, models: As in Page.
    """

    format: Literal["edgefleet.answers/1"] = "edgefleet.answers/1"
    salt: Annotated[str, matching(f"^[0-9a-f]{{{2 * SALT_BYTES}}}$")]
    number: Annotated[int, Meta(ge=0, lt=PAGES)]
    total: Count
    models: Mapping[int, ModelRecord]


class Shelf:
    """The folder of one agent.

    Args:
        every_s: Between two times that pages are stored.
    """

    def __init__(self, home: Home, every_s: float = STORE_S) -> None:
        """Take the places; nothing is read or written yet."""
        self._folder, self._key = home.folder / "answers", home.folder / "review.key"
        self._every_s, self._next_s = every_s, 0.0
        self._sealed_with = ""
        self._keeps = True

    def load(self) -> FeedbackBook:
        """A book that remembers what was stored; what cannot be read is forgotten."""
        pages: list[tuple[str, Page]] = []
        paths = sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder.exists() else []
        if paths:
            try:
                vault = Vault.at(self._key, make=False)
            except HomeInvalid as error:
                log.warning("stored answers are forgotten", extra={"reason": str(error)})
                return FeedbackBook()
            self._sealed_with = self._identity()
            for path in paths:
                try:
                    pages.append(_opened(path, vault))
                except (OSError, ReviewDamaged, ContractError) as error:
                    log.warning("stored answers are damaged", extra={"file": path.name, "reason": str(error)})
        if not pages:
            return FeedbackBook()
        salt = max(pages, key=lambda page: page[1].total)[0]
        book = FeedbackBook(salt=bytes.fromhex(salt))
        book.restore([page for its_salt, page in pages if its_salt == salt])
        return book

    def tick(self, now_s: float, book: FeedbackBook, keeps: bool) -> None:
        """Store a page that has changed, if it is time to; one each call, so that no disk holds the agent up.

        Args:
            keeps: Whether anything may be kept on this device.
        """
        if keeps != self._keeps:
            self._keeps = keeps
            if keeps:
                book.put_back(range(PAGES))
            else:
                self.clear()
        if keeps and now_s >= self._next_s and not self._store(book, 1):
            self._next_s = now_s + self._every_s

    def store(self, book: FeedbackBook) -> None:
        """Store all pages that have changed; the agent stops."""
        if self._keeps:
            self._store(book, PAGES)

    def clear(self) -> None:
        """Remove what is stored; what cannot be removed cannot be read without its key."""
        with suppress(OSError):
            for path in self._folder.glob(f"*{SUFFIX}*"):
                path.unlink(missing_ok=True)

    def _store(self, book: FeedbackBook, most: int) -> bool:
        """Store some pages; whether there may be more."""
        if (
            self._sealed_with and self._identity() != self._sealed_with
        ):  # review clear: all is to be forgotten
            book.forget()
            self.clear()
            self._sealed_with = ""
        pages = book.take_changed(most)
        left = {page.number for page in pages}
        try:
            for page in pages:
                self._write(page, book.salt)
                left.discard(page.number)
        except (OSError, HomeInvalid) as error:
            log.warning("answers that wait for labels are not stored", extra={"reason": str(error)})
            book.put_back(left)
            return False
        return len(pages) == most

    def _write(self, page: Page, salt: bytes) -> None:
        self._folder.mkdir(exist_ok=True, mode=0o700)
        vault = Vault.at(self._key, make=True)
        self._sealed_with = self._identity()
        models = {number: ModelRecord(**vars(about)) for number, about in page.models.items()}
        head = canonical_json(PageHead(salt=salt.hex(), number=page.number, total=page.total, models=models))
        content = LENGTH.pack(len(head)) + head + page.answers.tobytes()
        write_durably(self._folder / _name(page.number), vault.seal(content, _context(page.number)))

    def _identity(self) -> str:
        """Which key it is; "" when there is none."""
        try:
            return hashlib.sha256(b"edgefleet.answers/1" + self._key.read_bytes()).hexdigest()
        except OSError:
            return ""


def _opened(path: Path, vault: Vault) -> tuple[str, Page]:
    """A stored page and its salt."""
    stem = path.name.removesuffix(SUFFIX)
    number = int(stem) if stem.isdigit() else -1
    content = vault.open(path.read_bytes(), _context(number))
    (length,) = LENGTH.unpack(content[: LENGTH.size].rjust(LENGTH.size, b"\0"))
    head = parse_json(PageHead, content[LENGTH.size : LENGTH.size + length], path.name, FORMAT)
    body = content[LENGTH.size + length :]
    if head.number != number or len(body) % ANSWER.itemsize or len(body) > PAGE * ANSWER.itemsize:
        raise ReviewDamaged(f"{path.name} holds page {head.number} in {len(body)} bytes")
    models = {at: Answerer(**record.model_dump()) for at, record in head.models.items()}
    return head.salt, Page(number, head.total, models, np.frombuffer(body, ANSWER))


def _name(number: int) -> str:
    return f"{number:02d}{SUFFIX}"


def _context(number: int) -> str:
    """Binds a sealed page to its place: one cannot be put where another was."""
    return f"answers {number}"
