"""Train again when the fleet asks: a receiver of the webhook `retraining.requested`. Nothing to install.

    export WEBHOOK_SECRET=whsec_...        # edge-fleet webhook add URL --kind retraining.requested
    export EDGE_FLEET_TOKEN=operator-...   # edge-fleet token create --role operator
    python examples/retraining/receiver.py http://127.0.0.1:8080 9000 ./samples -- python train.py

checks the signature and that the message is fresh (Standard Webhooks 1.0), leaves out what it has trained on
(a file says so: a restart does not train again), fetches the reviewed samples as .npz (x, y, and where each
comes from), and runs the command with the file's name at its end and the evidence in $EDGE_FLEET_EVIDENCE.
Beside it: airflow_dag.py, the same as a DAG.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

TOLERANCE_S = 300
MAX_BYTES = 1 << 20
split = sys.argv.index("--")
server, port, folder = sys.argv[1:split]
command = sys.argv[split + 1 :]
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


class Receiver(BaseHTTPRequestHandler):
    """One request at a time: a training is not run twice at once."""

    def do_POST(self) -> None:
        """Take a webhook; anything but 2xx is sent again later."""
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(min(length, MAX_BYTES))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = 401
        if is_ours(headers, body):
            status = self.train(headers["webhook-id"], json.loads(body))
        self.send_response(status)
        self.end_headers()

    def train(self, message: str, told: dict[str, Any]) -> int:
        """Fetch the samples and run the command."""
        trained = Path(folder) / f"{message}.trained"
        if told["type"] != "retraining.requested" or trained.exists():
            return 204
        if not told["data"]["samples"]["labelled"]:
            print("nothing to train on: nobody has labelled a sample of this bundle", flush=True)
            return 204
        try:
            samples = fetch(told["data"]["samples"]["export"], message)
        except OSError as error:
            print("cannot fetch the samples:", error, file=sys.stderr, flush=True)
            return 503
        evidence = json.dumps(told["data"])
        done = subprocess.run(
            [*command, samples], env={**os.environ, "EDGE_FLEET_EVIDENCE": evidence}, check=False
        )
        if done.returncode == 0:
            trained.touch()
        return 204 if done.returncode == 0 else 500


HTTPServer(("127.0.0.1", int(port)), Receiver).serve_forever()
