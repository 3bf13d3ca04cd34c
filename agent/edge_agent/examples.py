"""What `--help` shows under the options: commands as they are typed. A test holds each to the command line.

Here and not beside the commands, so that somebody who reads them sees one way through all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "": (
        "edge-agent infer digits.bundle --input x.npz --trust keys/public.pem",
        "edge-agent install digits.bundle --trust keys/public.pem",
        "edge-agent run --serve 127.0.0.1:8080",
        "edge-agent enroll --server https://fleet.example --token TOKEN --profile raspberry-pi-5",
        "edge-agent status",
        "edge-agent doctor",
    ),
    "doctor": ("edge-agent doctor", "edge-agent doctor --home /var/lib/edge-agent --json"),
    "enroll": (
        "edge-agent enroll --server https://fleet.example --token TOKEN --profile raspberry-pi-5",
        "edge-agent enroll --server https://10.0.0.5:8443 --ca ca.pem --token TOKEN \\",
        "    --profile coral-usb --name gate-7 --label site=harbour --label floor=2",
    ),
    "explain": (
        "edge-agent explain cats.bundle --input photo.jpg --output why.png",
        "edge-agent explain loans.bundle --input rows.csv --row 3",
    ),
    "feedback": ("edge-agent feedback 7 cat", "edge-agent feedback camera.npz:204 3"),
    "infer": (
        "edge-agent infer digits.bundle --input x.npz --trust keys/public.pem",
        "edge-agent infer cats.bundle --input photo.jpg --json",
        "edge-agent infer cats.bundle --input photos/ --output answers.parquet --jobs 4",
    ),
    "install": (
        "edge-agent install digits.bundle --trust keys/public.pem",
        "edge-agent install digits-2.bundle",
    ),
    "keys rotate": ("edge-agent keys rotate",),
    "keys show": ("edge-agent keys show",),
    "lineup clear": ("edge-agent lineup clear", "edge-agent lineup clear --shadow"),
    "lineup set": (
        "edge-agent lineup set --second larger.bundle",
        "edge-agent lineup set --ab candidate.bundle:0.2 --experiment taste",
        "edge-agent lineup set --shadow candidate.bundle --shadow-share 0.1 --shadow-cpu 0.1",
    ),
    "lineup show": ("edge-agent lineup show",),
    "quarantine lift": ("edge-agent quarantine lift edgetpu/EDGETPU", "edge-agent quarantine lift all"),
    "quarantine list": ("edge-agent quarantine list",),
    "review clear": ("edge-agent review clear",),
    "review export": ("edge-agent review export --labelled --output pairs.npz",),
    "review list": ("edge-agent review list",),
    "review set": (
        "edge-agent review set --max-mb 8 --per-minute 1",
        "edge-agent review set --upload-to https://fleet.example/api/v1/review --mb-per-day 1",
        "edge-agent review set --no-upload",
    ),
    "review show": ("edge-agent review show 17",),
    "rollback": ("edge-agent rollback",),
    "run": (
        "edge-agent run --serve 127.0.0.1:8080 --socket /run/edge-agent/infer.sock",
        "edge-agent run --source /dev/video0 --rate 2",
        "edge-agent run --input photos/ --once --answers answers.jsonl",
        "my-scanner --npy | edge-agent run --source - --answers answers.jsonl",
        "edge-agent run --download-hours 01:30-05:00 --download-per-month 200 --metrics 127.0.0.1:9105",
    ),
    "status": ("edge-agent status", "edge-agent status --json"),
    "trust add": ("edge-agent trust add keys/public.pem",),
    "trust apply": ("edge-agent trust apply rotate.keys",),
    "trust list": ("edge-agent trust list",),
    "trust revoke": ("edge-agent trust revoke old/public.pem",),
}


def taught(command: click.Command, path: str) -> click.Command:
    """The command with its examples at the end of its help, and those below it with theirs."""
    lines = EXAMPLES.get(path)
    if lines is not None:
        command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            taught(below, f"{path} {name}".strip())
    return command
