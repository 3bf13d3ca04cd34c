"""Commands about who belongs to the fleet: token, devices, trust."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_contracts.digest import short
from edge_contracts.keys import read_public
from edge_fleet.errors import FleetError
from edge_fleet.finite import Finite
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import ago, ahead, table
from edge_fleet.standings.cli import devices_find

if TYPE_CHECKING:
    from edge_fleet.client import Client


@click.group()
def token() -> None:
    """Who may knock: devices once, people and programs by role."""


@token.command("create")
@remote
@click.option(
    "--role",
    type=click.Choice(["enrol", "viewer", "operator", "publisher", "approver", "admin", "subscriber"]),
    default="enrol",
    help="Default: enrol, for one device.",
)
@click.option("--label", default="", help="To know it by later.")
@click.option("--expires", "expires_h", type=Finite(min=0, min_open=True), metavar="HOURS")
@click.option("--device-label", "labels", multiple=True, metavar="KEY=VALUE", help="For the device.")
@click.option("--scope", "scopes", multiple=True, metavar="AREA:read|write", help="Narrower than the role.")
@click.option("--user", help="Whose it is: it may no more than that user.")
@click.option(
    "--certificate",
    "folder",
    type=click.Path(path_type=Path),
    help="For a subscriber: a folder for a new key and its certificate.",
)
@as_json
def token_create(
    home_path: Path | None,
    url: str | None,
    token: str | None,
    role: str,
    label: str,
    expires_h: float | None,
    labels: Sequence[str],
    scopes: Sequence[str],
    user: str | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Make a token and print it: the only time that it is shown."""
    if folder is not None and role != "subscriber":
        raise click.UsageError("--certificate is for --role subscriber")
    body = {
        "role": role,
        "label": label,
        "expires_s": max(1, round(expires_h * 3600)) if expires_h else None,
        "device_labels": dict(_pair(text) for text in labels),
        "scopes": list(scopes) or None,
        "user": user,
    }
    client = connect(home_path, url, token)
    if folder is not None:
        from edge_fleet.access.subscriber_files import CA, CERTIFICATE, KEY, make_request, write_answer

        body["certificate_request"] = make_request(folder)
        try:
            answer = client.post(f"{API}/tokens", body)
        except FleetError:
            (folder / KEY).unlink()  # of no use, and it would be in the way of the next try
            raise
        write_answer(folder, answer)
        answer |= {"key": str(folder / KEY), "certificate": str(folder / CERTIFICATE), "ca": str(folder / CA)}
    else:
        answer = client.post(f"{API}/tokens", body)
    if as_json:
        click.echo(json.dumps(answer))
    elif role == "subscriber":
        for name in ("user", "password", "key", "certificate", "ca", "host", "port", "topic"):
            if name in answer:
                click.echo(f"{name:12}{answer[name]}")
    else:
        click.echo(answer["token"])


@token.command("list")
@remote
@as_json
def token_list(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """List the tokens that somebody could use: not expired, used up or revoked."""
    found = connect(home_path, url, token).get(f"{API}/tokens", valid=True)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (
            t["id"],
            t["role"],
            t["label"] or "-",
            t["owner"] or "-",
            " ".join(t["scopes"] or ["all"]),
            ago(t["created_ms"]),
            ahead(t["expires_ms"]),
        )
        for t in found
    ]
    table(("token", "role", "label", "user", "scopes", "made", "expires"), rows)


@token.command("revoke")
@click.argument("token_id")
@remote
def token_revoke(token_id: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Make a token, and every session that was opened with it, worthless at once."""
    connect(home_path, url, token).post(f"{API}/tokens/{token_id}/revoke")
    click.echo(f"revoked {token_id}")


@click.group(invoke_without_command=True)
@remote
@as_json
@click.pass_context
def devices(
    context: click.Context, home_path: Path | None, url: str | None, token: str | None, as_json: bool
) -> None:
    """List the devices; `find` searches, `show ID` for one, `revoke ID` to put one out."""
    context.obj = (home_path, url, token)
    if context.invoked_subcommand is not None:
        return
    found = connect(home_path, url, token).get(f"{API}/devices")
    if as_json:
        click.echo(json.dumps(found))
        return
    table(
        ("device", "profile", "runs", "assigned", "phase", "telemetry", "seen"),
        [
            (
                device["id"],
                device["profile"][0],
                _model(device["active"]),
                (device["assignment"] or {}).get("release") or "-",
                "revoked" if device["revoked_ms"] else (device["assignment"] or {}).get("phase", "-"),
                _position(device["telemetry"]),
                ago(device["last_seen_ms"]),
            )
            for device in found
        ],
    )


@devices.command("show")
@click.argument("device")
@remote
@as_json
@click.pass_obj
def devices_show(
    outer: tuple[Any, Any, Any],
    device: str,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Show one device: what it is, runs, was assigned, and what it lost."""
    found = _inner(outer, home_path, url, token).get(f"{API}/devices/{device}")
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in (
        ("device", found["id"]),
        ("public key", found["public_key"]),
        *(("before", _former(key)) for key in found["former_keys"]),
        ("profile", " < ".join(found["profile"])),
        ("labels", ", ".join(f"{k}={v}" for k, v in found["labels"].items()) or "-"),
        ("agent", found["agent"] or "-"),
        ("runs", _model(found["active"])),
        ("seen", ago(found["last_seen_ms"])),
        ("telemetry", _position(found["telemetry"])),
        ("state", f"revoked {ago(found['revoked_ms'])}" if found["revoked_ms"] else "enrolled"),
    ):
        click.echo(f"{name:12}{value}")
    for stream in found["streams"]:
        click.echo(f"  epoch {stream['epoch']}: {stream['stored']} stored, complete to {stream['high']}")
    for gap in found["gaps"]:
        click.echo(f"  lost {gap['first_seq']}-{gap['last_seq']} ({gap['records']} records): {gap['reason']}")
    for row in found["assignments"]:
        reason = " ".join(filter(None, (row["code"], row["detail"])))
        bundle = short(row["bundle"]) if row["bundle"] else "-"
        click.echo(f"  assignment {row['number']}: {bundle} {row['phase']} {reason}".rstrip())
    for event in found["events"]:
        click.echo(f"  event {event['name']} {event['code']} {event['detail']}".rstrip())


devices.add_command(devices_find)


@devices.command("revoke")
@click.argument("device")
@remote
@click.pass_obj
def devices_revoke(
    outer: tuple[Any, Any, Any], device: str, home_path: Path | None, url: str | None, token: str | None
) -> None:
    """Put a device out of the fleet."""
    _inner(outer, home_path, url, token).post(f"{API}/devices/{device}/revoke")
    click.echo(f"revoked {device}")


@devices.command("rotate")
@click.argument("device", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Every device whose agent knows how.")
@remote
@click.pass_obj
def devices_rotate(
    outer: tuple[Any, Any, Any],
    device: tuple[str, ...],
    everybody: bool,
    home_path: Path | None,
    url: str | None,
    token: str | None,
) -> None:
    """Have devices make another key; each goes over to it by itself, also one that is away now."""
    if everybody == bool(device):
        raise click.UsageError("name devices, or give --all")
    client = _inner(outer, home_path, url, token)
    chosen = device
    if everybody:
        found = client.get(f"{API}/devices")
        chosen = tuple(d["id"] for d in found if not d["revoked_ms"] and "keys" in d["knows"])
    for one in chosen:
        answer = client.post(f"{API}/devices/{one}/rotate-key")
        click.echo(f"{one}: key {answer['key']} is to be changed")
    if everybody and len(chosen) < len(found):
        click.echo(
            f"{len(found) - len(chosen)} devices do not know how: out of the fleet, or of an older agent"
        )


@devices.command("revoke-key")
@click.argument("device")
@click.argument("key")
@remote
@click.pass_obj
def devices_revoke_key(
    outer: tuple[Any, Any, Any],
    device: str,
    key: str,
    home_path: Path | None,
    url: str | None,
    token: str | None,
) -> None:
    """Let a KEY that a device had before count for nothing (its id: `devices show`)."""
    _inner(outer, home_path, url, token).post(f"{API}/devices/{device}/keys/{key}/revoke")
    click.echo(f"key {key} of {device} counts for nothing any more")


def _former(key: Mapping[str, Any]) -> str:
    revoked = ", revoked" if key["revoked_ms"] else ""
    return f"key {key['key_id']} until {ago(key['until_ms'])}{revoked}"


@click.command()
@remote
@as_json
def refusals(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """Show which messages of devices were not believed: forged, replayed, of revoked devices ..."""
    found = connect(home_path, url, token).get(f"{API}/refusals")
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [(r["reason"], r["device"] or "-", r["count"], ago(r["last_ms"]), r["detail"]) for r in found]
    table(("reason", "device", "count", "last", "last case"), rows)


@click.group()
def trust() -> None:
    """Publishers whose bundles may be published."""


@trust.command("add")
@click.argument("key", type=click.Path(path_type=Path))
@click.option("--label", default="")
@remote
def trust_add(key: Path, label: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Trust a publisher's public key (public.pem)."""
    body = {"public_key": read_public(key).base64, "label": label}
    answer = connect(home_path, url, token).post(f"{API}/publishers", body)
    click.echo(f"{'trusted' if answer['added'] else 'trusted already'}: {answer['key_id']}")


@trust.command("list")
@remote
@as_json
def trust_list(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """List the trusted publishers."""
    found = connect(home_path, url, token).get(f"{API}/publishers")
    if as_json:
        click.echo(json.dumps(found))
    else:
        rows = [(p["key_id"], p["label"] or "-", p["state"], ago(p["added_ms"])) for p in found]
        table(("key", "label", "state", "added"), rows)


def _inner(outer: tuple[Any, Any, Any], *own: Any) -> Client:
    """Options may stand before or after a sub-command's name."""
    return connect(*(mine if mine is not None else theirs for mine, theirs in zip(own, outer, strict=True)))


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise click.UsageError(f"--device-label {text!r} is not KEY=VALUE")
    return key, value


def _model(active: Mapping[str, Any] | None) -> str:
    return f"{active['name']} {active['version']} ({active['runtime']})" if active else "-"


def _position(telemetry: Mapping[str, Any]) -> str:
    if telemetry["high"] is None:
        return "-"
    complete, given = telemetry["high"] + 1, telemetry["next_seq"] or 0
    return f"{complete} of {given}" if given > complete else f"{complete}"
