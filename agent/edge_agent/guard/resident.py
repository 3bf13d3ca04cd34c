"""The job of a child that stays: it opens one artifact and answers its proxy until that goes away.

Whatever its runtime does (dies, hangs, eats memory), it does here. The files are read against their
digests at every start: between two starts lie months in which flash can rot.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent import sealed
from edge_agent.errors import AgentError, InferenceFailed
from edge_agent.guard import channel
from edge_agent.runtimes import registry
from edge_agent.runtimes.base import OpenModel
from edge_agent.runtimes.choice import Option
from edge_contracts.digest import digest_of, digest_of_file
from edge_contracts.errors import ContractError, DigestMismatch
from edge_contracts.manifest import Artifact
from edge_contracts.model import parse_object

MAX_SAID = 1 << 20  # bytes on stderr that are kept: drivers that complain do so at every inference
LOOK_EVERY = 256  # inferences between two looks at how much was said


def stay(job: Mapping[str, Any]) -> dict[str, Any]:
    """Open an artifact, then answer until the other end of the channel is closed.

    Args:
        job: folder, artifact (its part of the verified manifest), option, threads, channel (a socket).
    """
    with socket.socket(fileno=job["channel"]) as link:
        try:
            model = _open(job)
        except (AgentError, ContractError) as error:
            channel.refuse(link, error.code, str(error))
            return {}
        except MemoryError:
            channel.refuse(link, "too-large", "the model needs more memory than there is")
            return {}
        _answer(model, link)
        model.close()
    return {}


def _open(job: Mapping[str, Any]) -> OpenModel:
    folder, option = Path(job["folder"]), Option(**job["option"])
    artifact = parse_object(Artifact, job["artifact"], "the artifact's part of the manifest")
    for file in artifact.files:
        found = _digest(folder, file.path)
        if found != file.digest:
            raise DigestMismatch(f"{file.path} has digest {found}, the manifest says {file.digest}")
    return registry.load(option.runtime).open(folder, artifact, option.device, job["threads"])


def _digest(folder: Path, name: str) -> str:
    """Of the plain content, whether the file is encrypted or not.

    Raises:
        DigestMismatch: It cannot be read; that is no fault of the runtime's.
        BundleInvalid, HomeInvalid: It cannot be decrypted.
    """
    try:
        if sealed.is_sealed(folder, name):
            return digest_of(sealed.read(folder, name))
        return digest_of_file(folder / name)
    except OSError as error:
        raise DigestMismatch(f"{name} cannot be read: {error.strerror}") from None


def _answer(model: OpenModel, link: socket.socket) -> None:
    layout = channel.Layout.of(model.inputs, model.outputs)
    memory = channel.offer(link, layout)
    inputs, outputs = layout.views(memory)
    os.ftruncate(2, 0)  # what was said while it opened explains no later death
    count = 0
    while link.recv(1):
        count += 1
        if count % LOOK_EVERY == 0 and os.fstat(2).st_size > MAX_SAID:
            os.ftruncate(2, 0)
        try:
            found = model.run(inputs)
            for name, view in outputs.items():
                np.copyto(view, found[name], casting="no")
        except InferenceFailed as error:
            link.send(channel.FAILED + str(error).encode()[: channel.MAX_TEXT])
            continue
        except (ValueError, TypeError, KeyError) as error:
            # an answer of another shape than the opened file states
            link.send(channel.FAILED + repr(error).encode()[: channel.MAX_TEXT])
            continue
        link.send(channel.DONE)
