"""Syncs fail, processes are killed, and then the power goes: no number goes out twice, nothing kept is lost.

What the kernel could not write it takes for written, and shows the next process. The disk is modelled from
the log of the outbox's own operations.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import unsynced_outbox
from fault_disk import Disk, Operation, Tree, read_log, read_tree, write_tree
from fault_harness import build_shim, compiler

from edge_agent.telemetry.outbox import Outbox
from edge_contracts.envelope import chain_value
from edge_contracts.keys import PrivateKey, write_private
from edge_contracts.messages import Event

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")

LIVES, THINGS = 4, 25


def lived(folder: Path, seed: int) -> list[Operation]:
    """Several lives of one outbox, and what they did to the disk."""
    root, log, fault = folder / "root", folder / "log", folder / "no-sync"
    root.mkdir()
    write_private(PrivateKey.generate(), folder / "device.key")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")])),
        "FAULT_ROOT": str(root),
        "FAULT_LOG": str(log),
        "FAULT_MARK": str(folder / "mark"),
        "FAULT_SYNC": str(fault),
        "LD_PRELOAD": str(build_shim(folder)),
    }
    for life in range(LIVES):
        command = [
            sys.executable,
            unsynced_outbox.__file__,
            str(folder),
            str(seed * LIVES + life),
            str(THINGS),
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr[-2000:]
    operations = read_log(log, root)
    disk = Disk({})
    for operation in operations:
        disk.apply(operation)
    assert disk.everything() == read_tree(root), "the log does not explain the disk"
    return operations


class World:
    """What was promised to the world, and what the world has seen."""

    def __init__(self, folder: Path) -> None:
        self._who = unsynced_outbox.identity(folder)
        self.kept: set[str] = set()
        self.acked: set[str] = set()
        self.sent: dict[tuple[str, int], tuple[str, list[str]]] = {}

    def learn(self, mark: dict[str, Any]) -> None:
        """Take note of a mark."""
        if "kept" in mark:
            self.kept.update(mark["kept"])
        elif "acked" in mark:
            for (epoch, seq), (_, told) in self.sent.items():
                if epoch == mark["epoch"] and seq <= mark["acked"]:
                    self.acked.update(told)
        else:
            self.see(mark["epoch"], mark["seq"], mark["chain"], mark["told"])

    def see(self, epoch: str, seq: int, chain: str, told: list[str]) -> None:
        """An envelope comes."""
        before = self.sent.setdefault((epoch, seq), (chain, told))
        assert before == (chain, told), f"fork: {seq} was {before}, and is {(chain, told)}"

    def judge(self, tree: Tree, folder: Path) -> None:
        """Give a device this disk after a power cut, and listen to it."""
        write_tree(tree, folder)
        outbox = Outbox(folder / "outbox.db", self._who)
        outbox.put([Event(name="another", time_ms=1)])
        told, sent = set(), dict(self.sent)
        for seq, envelope in outbox.waiting(10_000, ()):
            names = unsynced_outbox.names(envelope, self._who)
            self.see(outbox.epoch, seq, chain_value(envelope).hex(), names)
            told.update(names)
        self.sent = sent
        assert outbox.lost == ""
        outbox.close()
        missing = self.kept - told - self.acked
        assert not missing, f"{len(missing)} of {len(self.kept)} are lost: {sorted(missing)[:5]}"


@pytest.mark.parametrize("seed", range(6))
def test_what_was_not_synced_is_not_told(tmp_path: Path, seed: int) -> None:
    operations = lived(tmp_path, seed)
    assert any(one.kind == "unsynced" for one in operations)
    disk, world, chance = Disk({}), World(tmp_path), Random(seed)
    for number, operation in enumerate(operations, start=1):
        disk.apply(operation)
        if operation.kind == "mark":
            world.learn(json.loads(operation.content))
        if operation.kind in ("mark", "sync", "unsynced"):  # here the power goes
            world.judge(disk.safe(), tmp_path / f"cut-{number}")
            world.judge(disk.survivor(chance), tmp_path / f"some-{number}")
