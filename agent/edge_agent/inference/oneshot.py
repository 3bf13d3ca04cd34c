"""Answering one data file with one bundle: no server, no network, nothing kept.

The bundle's digests are always checked, its signature when there are keys to check it with. The
inference itself happens in a child process: a file that kills its runtime gives an error, not a crash.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.isolation import run_child
from edge_agent.input.files import require_readers
from edge_agent.input.view import View
from edge_agent.runtimes.choice import Choice, choose, options
from edge_contracts.arrays import read_npz
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import TrustedKeys
from edge_contracts.manifest import Manifest
from edge_contracts.signing import verify


@dataclass(frozen=True, eq=False)
class OneShot:
    """What a bundle answered to a data file.

    Args:
        digest: Of the manifest.
        signed_by: Id of the publisher's key, or None when the signature was not checked.
        runtime: Name, version and device.
        outputs: By tensor name, shape (n, ...), in the contract's space.
        latency_ms: Of each sample, shape (n,).
        flagged: Samples that look suspicious, by reason.
        view: Which part of the picture the model saw, when the file was one.
    """

    manifest: Manifest
    digest: str
    signed_by: str | None
    choice: Choice
    runtime: str
    outputs: Mapping[str, NDArray[Any]]
    latency_ms: NDArray[np.float64]
    flagged: Mapping[str, int]
    view: View | None = None


def answer_file(
    bundle: Path, inputs: Path, trusted: TrustedKeys | None, threads: int = 1, timeout_s: float = 600.0
) -> OneShot:
    """Answer every sample of a data file: .npz, or what the contract says how to prepare.

    Args:
        trusted: Keys that may have signed the bundle; None leaves the signature unchecked.

    Raises:
        ContractError: The bundle or the data file is not in order.
        MissingExtra: What reads the file is not installed.
        RuntimeUnavailable: Nothing here can run the bundle.
        ChildFailed: The runtime crashed or hung, or refused the model or the inputs.
    """
    require_readers(inputs)
    opened = open_bundle(bundle)
    signed_by = verify(opened, trusted).key_id if trusted is not None else None
    choice = choose(options(opened.manifest))
    with tempfile.TemporaryDirectory(prefix="edge-agent-") as scratch:
        folder, output = Path(scratch) / "bundle", Path(scratch) / "output.npz"
        opened.extract(folder)
        job = {
            "kind": "infer",
            "folder": str(folder),
            "option": asdict(choice.option),
            "threads": threads,
            "input": str(inputs),
            "output": str(output),
        }
        told = run_child(job, timeout_s)
        arrays = read_npz(output, "the child's answer")
    latency_ms = arrays.pop("latency_ms")
    return OneShot(
        opened.manifest,
        opened.digest,
        signed_by,
        choice,
        told["runtime"],
        {name.removeprefix("output/"): values for name, values in arrays.items()},
        latency_ms,
        told["flagged"],
        None if told["view"] is None else View(**told["view"]),
    )
