"""What `edge-agent doctor` makes of the certificate that the daemon serves HTTP with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import time

from edge_agent.device.finding import Finding, Grade
from edge_agent.device.home import Home
from edge_agent.device.reach import validity
from edge_agent.errors import ListenRefused

SUBJECT = "serving"


def examine(home: Home) -> Iterator[Finding]:
    """Look at the files, if there are any."""
    from edge_agent.serving.tls import open_context, read_served

    served = read_served(home)
    if served is None:
        return
    cert, key = Path(served.cert), Path(served.key)
    try:
        open_context(cert, key)
    except ListenRefused as error:
        advice = "put both right; a daemon that runs goes on with those that it has, and will not start again"
        yield Finding(SUBJECT, Grade.WRONG, str(error), advice)
        return
    starts_s, ends_s = _times(cert)
    now_s = time()
    if now_s < starts_s:
        advice = "see that the clock is right, or wait"
        yield Finding(SUBJECT, Grade.WRONG, f"the certificate in {cert} is not good yet", advice)
    elif now_s >= ends_s:
        advice = f"renew {cert}: clients that verify are not answered; the daemon takes it without a restart"
        yield Finding(SUBJECT, Grade.WRONG, "the certificate of --serve-cert has ended", advice)
    else:
        yield validity(SUBJECT, ends_s, now_s, f"renew {cert}; the daemon takes it without a restart")


def _times(cert: Path) -> tuple[float, float]:
    """From when to when the first certificate of a file is good, Unix seconds."""
    from cryptography import x509  # nobody but the doctor needs it, and it takes memory

    found = x509.load_pem_x509_certificates(cert.read_bytes())[0]
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
