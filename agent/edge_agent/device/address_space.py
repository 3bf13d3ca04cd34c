"""Whether this process may take the address space that a model needs, asked before anything is loaded.

Without it Python fails at any line, its own included, and says what it happens to say. A control group's
limit (systemd's MemoryMax) is another matter: there the kernel ends the process, which is a power cut to us.
"""

from __future__ import annotations

import resource

from edge_agent.errors import AddressSpaceTooSmall

AT_LEAST = 256 << 20  # `edge-agent run` takes 230 MiB with a model of 0.3 MB, of which 70 are resident


def require_address_space() -> None:
    """Refuse to begin what cannot end well.

    Raises:
        AddressSpaceTooSmall: A limit was set below what Python, numpy and LiteRT take.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < AT_LEAST:
        raise AddressSpaceTooSmall(
            f"{limit >> 20} MiB of address space are allowed here, at least {AT_LEAST >> 20} are needed; "
            "raise the limit (ulimit -v)"
        )
