"""Write the golden files of format version 1. Run once per version; existing files are left alone."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

import samples  # noqa: E402
from message_examples import EXAMPLES  # noqa: E402

from edge_contracts.envelope import seal  # noqa: E402
from edge_contracts.topics import topic  # noqa: E402

TARGETS = {
    f"{name}.cose": seal(message, topic("f", "d1", channel), samples.KEY)
    for name, (channel, message) in EXAMPLES.items()
} | {"sample.bundle": samples.archive()}

for name, content in TARGETS.items():
    target = HERE / "v1" / name
    target.parent.mkdir(exist_ok=True)
    if not target.exists():
        target.write_bytes(content)
        print("wrote", target.name)
