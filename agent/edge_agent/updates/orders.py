"""Orders: how a command at the device reaches the daemon that holds the home's lock.

Files, not a socket: they need no protocol, the folder's mode (0700) says who may give orders, and one
that is given in the moment the daemon restarts is not lost. The command writes `<id>.order`, the
daemon answers with `<id>.answer`; what it does about it is `agent.py`'s business.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

from edge_agent.device.home import Home, discard, write_durably
from edge_agent.errors import FeedbackRefused, HomeInvalid, InstallRefused, NoLastGood
from edge_contracts.errors import ContractError
from edge_contracts.model import Frozen, canonical_json, later, parse_json

FORMAT = "edgefleet.order/1"
ANSWER_FORMAT = "edgefleet.answer/1"
Kind = Literal["install", "rollback", "trust", "distrust", "follow", "feedback", "lift", "rotate"]
POLL_S = 0.1
WAIT_S = 180.0  # a check on a slow board, and then some


class Order(Frozen):
    """What the daemon is asked to do.

    Args:
        archive: Name of the bundle beside the order (install).
        keys: Publishers to trust from now on, or no longer: raw, base64 (install, trust, distrust).
        statement: A signed statement about keys (follow).
        request, label: Right answer to a request (feedback).
        subject: What to take out of quarantine (lift).
    """

    format: Literal["edgefleet.order/1"] = "edgefleet.order/1"
    kind: Kind
    archive: str = ""
    keys: tuple[str, ...] = ()
    request: str = ""
    label: str = ""
    statement: str = later("")
    subject: str = later("")


class Answer(Frozen):
    """What became of it.

    Args:
        code: Of the refusal, "" when it was done.
        detail: One line for a person.
    """

    format: Literal["edgefleet.answer/1"] = "edgefleet.answer/1"
    code: str = ""
    detail: str = ""


def give(
    home: Home,
    kind: Kind,
    archive: Path | None = None,
    keys: tuple[str, ...] = (),
    request: str = "",
    label: str = "",
    statement: str = "",
    subject: str = "",
) -> str:
    """Give the running daemon an order and wait for its answer.

    Returns:
        What the daemon says, one line.

    Raises:
        InstallRefused, FeedbackRefused: It said no, with its reason.
        HomeInvalid: It does not answer, or the order cannot be written.
    """
    folder, name = home.orders, secrets.token_hex(8)
    beside = ""
    try:
        folder.mkdir(exist_ok=True, mode=0o700)
        if archive is not None:
            beside = f"{name}.bundle"
            shutil.copyfile(archive, folder / beside)
    except OSError as error:
        raise HomeInvalid(f"cannot write {folder}: {error.strerror}") from None
    order, answer = folder / f"{name}.order", folder / f"{name}.answer"
    asked = Order(
        kind=kind,
        archive=beside,
        keys=keys,
        request=request,
        label=label,
        statement=statement,
        subject=subject,
    )
    write_durably(order, canonical_json(asked))
    deadline_s = monotonic() + WAIT_S
    try:
        while not answer.exists():
            if monotonic() > deadline_s or home.holder() is None:
                raise HomeInvalid(f"the agent in {home.folder} did not answer; is it running?")
            if not order.exists() and not answer.exists():
                raise HomeInvalid(
                    f"the disk takes no answer of the agent in {home.folder}; see edge-agent status"
                )
            sleep(POLL_S)
        found = parse_json(Answer, answer.read_bytes(), "the agent's answer", ANSWER_FORMAT)
    finally:
        for path in (order, answer, folder / f"{name}.bundle"):
            path.unlink(missing_ok=True)
    if found.code == NoLastGood.code:
        raise NoLastGood(found.detail)
    if found.code and kind == "feedback":
        raise FeedbackRefused(found.code, found.detail)
    if found.code:
        raise InstallRefused(found.detail)
    return found.detail


def take(home: Home, known: set[str]) -> list[tuple[str, Order]]:
    """Orders that are not answered yet, by name; what is not an order is removed.

    Args:
        known: Names of those that were carried out: a disk that has failed takes no answer, and nothing can
            be removed from it. What is no order is added, what is not there any more taken out.
    """
    found = []
    paths = sorted(home.orders.glob("*.order"))
    known.intersection_update([path.stem for path in paths])
    for path in paths:
        if path.stem in known or path.with_suffix(".answer").exists():
            continue
        try:
            found.append((path.stem, parse_json(Order, path.read_bytes(), path.name, FORMAT)))
        except (ContractError, OSError):
            known.add(path.stem)
            discard(path)
    return found


def archive_of(home: Home, order: Order) -> Path:
    """The bundle of an order; never a file outside the folder of orders."""
    return home.orders / Path(order.archive).name


def answer(home: Home, name: str, code: str, detail: str) -> None:
    """Answer an order; if the disk does not take the answer, the command gives up waiting by itself."""
    try:
        write_durably(home.orders / f"{name}.answer", canonical_json(Answer(code=code, detail=detail)))
    except HomeInvalid:
        discard(home.orders / f"{name}.order")
