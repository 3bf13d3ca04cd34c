"""At the start of the daemon: files of the identity that are damaged are put back from their copy.

What cannot be put back (a read-only disk) is read from the copy all the same: `config.py` does so at each
read. Modes that a power cut or a careless copy has changed are set right, where the files are ours.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edge_agent import sealed
from edge_agent.device import config as configured
from edge_agent.device.home import Home, write_durably
from edge_agent.device.identity_copy import Check, is_damaged, keep_copies, read_copy, sound
from edge_agent.errors import HomeInvalid, ListenRefused
from edge_contracts.errors import ContractError, FormatInvalid
from edge_contracts.keys import parse_private

_MODE = 0o600


def mend(home: Home) -> tuple[str, ...]:
    """Put back what is damaged and keep a copy of what is sound; what was wrong, a line each.

    The caller holds the home's lock. What has no sound copy is left as it is, for its reader to refuse.
    """
    said = [*_modes(home), *_pair(home)]
    written: list[Path] = []
    only_copied: list[Path] = []
    for path, check, comes_back in _files(home):
        try:
            found = sound(home, path, check, comes_back)
        except (ContractError, HomeInvalid):
            continue
        if found.content is None:
            continue
        if found.fault:
            said.append(_put_back(path, found.content, found.fault))
        (written if _holds(path, found.content) else only_copied).append(path)
    if is_damaged(home):
        said.append(f"{home.identity_copy} was damaged; made anew")
    keep_copies(home, written, only_copied)
    return tuple(said)


def faults(home: Home) -> Iterator[str]:
    """What is wrong with the files of the identity, though their copy serves; for people. Writes nothing."""
    for path, check, comes_back in _files(home):
        with suppress(ContractError, HomeInvalid):
            if fault := sound(home, path, check, comes_back).fault:
                yield fault


def _files(home: Home) -> Iterator[tuple[Path, Check, bool]]:
    """Files, what each must pass, and whether one that is gone comes back: a removed token does not.

    The key's check is asked for when config.json has been put back.
    """
    yield home.config, configured.check_config(home), True
    with suppress(HomeInvalid):
        config = configured.read_config(home)
        if config is not None:
            yield home.key, configured.check_key(home, config), True
    yield home.trusted, configured.check_trust(home), True
    yield home.folder / sealed.KEY_NAME, lambda content: _check_model_key(home, content), True
    yield home.serve_token, lambda content: _check_token(home, content), False


def _check_token(home: Home, content: bytes) -> None:
    from edge_agent.serving.token import parse_token  # a daemon that serves nobody needs none

    try:
        parse_token(content, home.serve_token)
    except ListenRefused as error:
        raise FormatInvalid(str(error)) from None


def _check_model_key(home: Home, content: bytes) -> None:
    if len(content) != sealed.KEY_BYTES or not any(content):
        raise FormatInvalid(
            f"{sealed.KEY_NAME} has {len(content)} bytes, expected {sealed.KEY_BYTES} that are not all zero"
        )
    if sealed.opens_nothing(home.folder / "slots", content):
        raise FormatInvalid(f"{sealed.KEY_NAME} opens none of the models that are encrypted here")


def _pair(home: Home) -> Iterator[str]:
    """Where a config.json that reads well and the key belong to two devices: what fits together counts.

    A change of key that a cut has interrupted is finished first; the copy then counts only as a pair.
    """
    copied = read_copy(home)
    if not {home.config.name, home.key.name} <= copied.keys():
        return
    try:
        config = configured.read_config(home)
        if config is None:
            return
        configured.finish_going_over(home, config)
        key = sound(home, home.key, lambda content: parse_private(content, home.key)).content
        if key is None or parse_private(key, home.key).public.base64 == config.public_key:
            return
        content, other = copied[home.config.name].plain, copied[home.key.name].plain
        before = configured.check_config(home)(content)
        configured.check_key(home, before)(other)
        if parse_private(other, home.key).public.base64 == config.public_key:
            return  # the key alone is another's
    except (ContractError, HomeInvalid):
        return
    fault = f"{home.config} and {home.key} are not of one device"
    yield _put_back(home.config, content, fault)
    if other != key:
        yield _put_back(home.key, other, fault)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _put_back(path: Path, content: bytes, fault: str) -> str:
    try:
        write_durably(path, content)
    except HomeInvalid as error:
        return f"{fault}; its copy counts ({error})"
    return f"{fault}; put back from its copy"


def _modes(home: Home) -> Iterator[str]:
    for path in (home.config, home.key, home.trusted, home.folder / sealed.KEY_NAME, home.identity_copy):
        with suppress(OSError):
            about = path.stat()
            mode = stat.S_IMODE(about.st_mode)
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
                continue
            if mode != _MODE and (mode & 0o077 or mode & _MODE != _MODE):
                path.chmod(_MODE)
                yield f"{path} had mode {mode:04o}; set to {_MODE:04o}"
