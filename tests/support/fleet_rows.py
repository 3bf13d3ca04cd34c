"""A fleet as rows: devices, releases, what devices say and report, without a broker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from sqlalchemy import insert, select, update

from edge_contracts.digest import digest_of
from edge_contracts.manifest import FORMAT, Manifest
from edge_contracts.messages import Phase as Told
from edge_contracts.messages import Progress
from edge_contracts.sketch import bin_index
from edge_fleet import orders, schema
from edge_fleet.store import Store

FITS, WRONG = [100, 200, 100], [390, 5, 5]  # live counts beside the baseline's 100, 200, 100


def manifest(version: str, profile: str) -> Manifest:
    file = {"path": "artifacts/m.tflite", "digest": digest_of(b"m"), "bytes": 1}
    tensor = {"name": "x", "dtype": "float32", "shape": (1, 4)}
    binding = {"name": "x", "tensor": "x", "dtype": "float32", "shape": (1, 4)}
    return Manifest.model_validate(
        {
            "format": FORMAT,
            "name": "digits",
            "version": version,
            "profile": profile,
            "task": "classification",
            "inputs": [tensor],
            "outputs": [tensor],
            "artifacts": [
                {
                    "id": "int8",
                    "format": "tflite",
                    "precision": "int8",
                    "runtimes": ["litert"],
                    "files": [file],
                    "inputs": [binding],
                    "outputs": [binding],
                }
            ],
            "golden": {
                "file": {**file, "path": "golden.npz"},
                "count": 10,
                "min_agreement": 0.9,
                "min_sqnr_db": 10,
            },
            "baseline": {
                "samples": 400,
                "scalars": [{"name": "input:x:mean", "edges": (0.0, 1.0), "counts": (100, 200, 100)}],
            },
            "evaluation": {},
            "gates": {"latency_p95_ms": 50},
            "provenance": {
                "source_name": "digits.onnx",
                "source_digest": digest_of(b"s"),
                "source_bytes": 1,
                "calibration": digest_of(b"c"),
                "recipe": "int8",
                "pruning": "none",
                "tools": {},
            },
        }
    )


def digest(version: str, profile: str = "arm-cpu") -> str:
    return digest_of(f"{version}/{profile}".encode())


class FleetRows:
    """What devices and publishers do, written where the server would have written it."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self.store, self.clock = store, clock

    def enrol(
        self,
        *names: str,
        profile: tuple[str, ...] = ("arm-cpu",),
        knows: tuple[str, ...] = (),
        runs: str = "",
        **labels: str,
    ) -> None:
        state: dict[str, Any] | None = None
        if knows or runs:
            active = {"bundle": digest(runs, profile[0])} if runs else None
            state = {"counter": 0, "active": active, "knows": list(knows)}
        with self.store.write() as connection:
            for name in names:
                connection.execute(
                    insert(schema.devices).values(
                        id=name,
                        public_key=hashlib.sha256(name.encode()).digest(),
                        profile=list(profile),
                        labels=labels,
                        credential="",
                        state=state,
                        enrolled_ms=self.clock(),
                        last_seen_ms=self.clock(),
                    )
                )

    def publish(self, version: str, *profiles: str) -> None:
        with self.store.write() as connection:
            counter = int(version)
            connection.execute(
                insert(schema.releases).values(
                    counter=counter, name="digits", version=version, created_ms=self.clock()
                )
            )
            for profile in profiles or ("arm-cpu",):
                connection.execute(
                    insert(schema.bundles).values(
                        digest=digest(version, profile),
                        counter=counter,
                        profile=profile,
                        archive=digest_of(f"archive/{version}/{profile}".encode()),
                        archive_bytes=1,
                        manifest=manifest(version, profile).model_dump_json(),
                        key_id="k",
                    )
                )

    def assigned(self, device: str) -> Any:
        with self.store.read() as connection:
            return orders.newest(connection, device)

    def say(self, device: str, phase: Told = Told.CONFIRMED, code: str = "") -> None:
        """The device answers its newest assignment; a confirmed one is what it runs."""
        row = self.assigned(device)
        with self.store.write() as connection:
            progress = Progress(assignment=row.number, phase=phase, code=code)
            orders.note_progress(connection, device, progress, self.clock())
            values: dict[str, Any] = {"last_seen_ms": self.clock()}
            if phase is Told.CONFIRMED and row.bundle:
                values["state"] = self.state(row.bundle)
            connection.execute(update(schema.devices).where(schema.devices.c.id == device).values(**values))

    def state(self, bundle: str) -> dict[str, Any]:
        """What a device says of itself while it runs a bundle."""
        return {"active": self.runs(bundle), "counter": 1, "agent": "0.1.0", "next_seq": 5}

    def runs(self, bundle: str) -> dict[str, Any]:
        """What a device says of a bundle that it runs."""
        with self.store.read() as connection:
            query = select(schema.bundles.c.manifest).where(schema.bundles.c.digest == bundle)
            found = Manifest.model_validate_json(connection.execute(query).scalar_one())
        active = {"bundle": bundle, "name": found.name, "version": found.version}
        return active | {"artifact": "int8", "runtime": "litert 2.3.0", "fallback": ""}

    def report(self, device: str, bundle: str, inferences: int = 400, **changes: Any) -> None:
        """A window of the device arrives."""
        with self.store.write() as connection:
            connection.execute(
                insert(schema.windows).values(
                    {
                        "device": device,
                        "epoch": "0" * 16,
                        "seq": 0,
                        "received_ms": self.clock(),
                        "bundle": bundle,
                        "artifact": "int8",
                        "runtime": "litert",
                        "start_ms": 0,
                        "end_ms": 0,
                        "duration_ms": 1000,
                        "inferences": inferences,
                        "errors": 0,
                        "refused": 0,
                        "reasons": {},
                        "latency": {str(bin_index(5.0)): inferences},
                        "scalars": {"input:x:mean": FITS},
                        "golden_total": 10,
                        "golden_agree": 10,
                        "cpu_s": 0.1,
                        "rss_bytes": 1,
                        "trial": False,
                        **changes,
                    }
                )
            )
