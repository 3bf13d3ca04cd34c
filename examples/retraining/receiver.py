"""Train again when the fleet asks: a receiver of the webhook `retraining.requested`. Nothing to install.

    export WEBHOOK_SECRET=whsec_...        # edge-fleet webhook add URL --kind retraining.requested
    export EDGE_FLEET_TOKEN=operator-...   # edge-fleet token create --role operator
    python examples/retraining/receiver.py http://127.0.0.1:8080 9000 ./samples -- python train.py

checks the signature and that the message is fresh (Standard Webhooks 1.0), notes it on the disk and answers:
a delivery waits for ten seconds, a training takes hours. Then, one after the other, it fetches the reviewed
samples as .npz (x, y, and where each comes from) and runs the command with the file's name at its end and the
evidence in $EDGE_FLEET_EVIDENCE. What fails is tried again; a restart goes on where it was, and trains on
nothing twice. Beside it: airflow_dag.py, the same as a DAG.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

TOLERANCE_S = 300
MAX_BYTES = 1 << 20
AGAIN_S = 600.0  # after a training that failed, or samples that could not be fetched
split = sys.argv.index("--")
server, port, folder = sys.argv[1:split]
command = sys.argv[split + 1 :]
came = threading.Event()
key = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))


def is_ours(headers: dict[str, str], body: bytes) -> bool:
    """Whether the server has signed this, just now."""
    message, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return False
    digest = hmac.digest(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256)
    expected = "v1," + base64.b64encode(digest).decode()
    return any(hmac.compare_digest(expected, one) for one in headers.get("webhook-signature", "").split(" "))


def fetch(path: str, name: str) -> Path:
    """The reviewed samples; the path is the server's, the address is ours."""
    token = os.environ["EDGE_FLEET_TOKEN"]
    request = urllib.request.Request(server + path, headers={"Authorization": f"Bearer {token}"})
    target = Path(folder) / f"{name}.npz"
    target.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(request, timeout=60) as answer:
        target.write_bytes(answer.read())
    return target


def note(message: str, body: bytes) -> None:
    """Keep what is asked for, through a power cut, until it was trained on."""
    told = json.loads(body)
    asked, trained = (Path(folder) / f"{message}.{state}" for state in ("asked", "trained"))
    if told["type"] != "retraining.requested" or asked.exists() or trained.exists():
        return
    if not told["data"]["samples"]["labelled"]:
        print("nothing to train on: nobody has labelled a sample of this bundle", flush=True)
        return
    asked.parent.mkdir(parents=True, exist_ok=True)
    with asked.with_suffix(".new").open("wb") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(stream.name, asked)
    listing = os.open(folder, os.O_RDONLY)
    os.fsync(listing)  # the name too is on the disk before the answer is given
    os.close(listing)
    came.set()


def train(asked: Path) -> None:
    """Fetch the samples and run the command."""
    told = json.loads(asked.read_bytes())["data"]
    try:
        samples = fetch(told["samples"]["export"], asked.stem)
    except OSError as error:
        print(f"cannot fetch the samples, tried again in {AGAIN_S:g} s: {error}", file=sys.stderr, flush=True)
        return
    done = subprocess.run(
        [*command, samples], env={**os.environ, "EDGE_FLEET_EVIDENCE": json.dumps(told)}, check=False
    )
    if done.returncode == 0:
        os.replace(asked, asked.with_suffix(".trained"))
    else:
        print(
            f"the training failed ({done.returncode}), tried again in {AGAIN_S:g} s",
            file=sys.stderr,
            flush=True,
        )


def work() -> None:
    """Train on all that is asked for, the oldest first; a training is not run twice at once."""
    while True:
        for asked in sorted(Path(folder).glob("*.asked"), key=lambda one: one.stat().st_mtime):
            train(asked)
        came.wait(AGAIN_S)
        came.clear()


class Receiver(BaseHTTPRequestHandler):
    """Anything but 2xx is sent again later."""

    def do_POST(self) -> None:
        """Take a webhook."""
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(min(length, MAX_BYTES))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = 204 if is_ours(headers, body) else 401
        if status == 204:
            note(headers["webhook-id"], body)
        self.send_response(status)
        self.end_headers()


threading.Thread(target=work, daemon=True).start()
HTTPServer(("127.0.0.1", int(port)), Receiver).serve_forever()
