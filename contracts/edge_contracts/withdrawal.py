"""Which bundles a fleet has withdrawn: the word by which a model is switched off where it answers.

It is a standing word, not an order: it travels with every assignment to a device that has not taken it yet,
so a device that was away hears it whatever was assigned to it since. A device that takes it stores it first,
then answers with none of these bundles, keeps none, and takes none until a later word leaves them out.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edge_contracts.digest import Digest
from edge_contracts.model import Frozen

MOST = 256  # bundles of the lineage of one device; the latest count


class Withdrawn(Frozen):
    """All that is withdrawn, as far as it concerns one device.

    Args:
        n: Grows with every change; one that is not larger than the last is an old word.
        bundles: Digests of manifests, the latest last.
        reason: Why the latest is, one line for a person at the device.
    """

    n: Annotated[int, Meta(ge=1)]
    bundles: Annotated[tuple[Digest, ...], Meta(max_length=MOST)] = ()
    reason: Annotated[str, Meta(max_length=300)] = ""
