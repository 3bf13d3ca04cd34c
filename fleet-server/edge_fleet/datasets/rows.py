"""Kept inputs as rows: each as it was signed, with the label that counts now."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, cast

from sqlalchemy import Connection, delete, func, select, update
from typing_extensions import TypedDict

from edge_contracts import cose
from edge_contracts.digest import digest_of
from edge_contracts.manifest import Manifest
from edge_fleet.audit import record
from edge_fleet.datasets.review import MAX_BYTES, Review
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.lineage.find import manifest_of
from edge_fleet.lineage.targets import targets_of
from edge_fleet.model import Instant
from edge_fleet.schema import bundles, review_samples
from edge_fleet.store import insert_new

PER_DEVICE = 1000  # the oldest go first: those without a label, with one of the device's, of a person's
COLUMNS = [column for column in review_samples.c if column.name != "raw"]
DEVICE = "device"  # who said a label that came with the input


class KeptSample(TypedDict):
    """An input that a device kept for review, without the input itself.

    Args:
        digest: Of the envelope that the device signed.
        number: The device's own.
        time_ms: Unix milliseconds of the device's clock.
        bundle: Digest of the manifest of the model that answered.
        reason: Why it was kept.
        confidence: Of the answer, 0 to 1; null where the model has none.
        answer: Number of the class that was answered; null where there are no classes.
        answer_name: "" where the class has no name.
        label: Number of the class that is right; null while nobody has said.
        labelled_by: "device", or who said it here; "" while nobody has.
    """

    id: int
    digest: str
    device: str
    number: int
    received_ms: Instant
    time_ms: int
    bundle: str
    artifact: str
    reason: str
    confidence: float | None
    answer: int | None
    answer_name: str
    label: int | None
    label_name: str
    labelled_by: str


def store(connection: Connection, envelope: bytes, review: Review, now_ms: int) -> None:
    """Keep an input; the same envelope twice changes nothing."""
    about = review.about
    row = {
        "digest": digest_of(envelope),
        "device": review.device,
        "number": review.number,
        "received_ms": now_ms,
        "time_ms": about.time_ms,
        "bundle": about.bundle,
        "artifact": about.artifact,
        "reason": about.reason,
        "confidence": about.confidence,
        "answer": about.answer,
        "answer_name": about.answer_name,
        "label": about.label,
        "label_name": about.label_name,
        "labelled_by": DEVICE if about.label is not None else "",
        "raw": envelope,
    }
    insert_new(connection, review_samples, [row], ("digest",))
    own = review_samples.c
    too_many = (
        select(own.id)
        .where(own.device == review.device)
        .order_by(own.labelled_by.not_in(("", DEVICE)).desc(), own.label.is_not(None).desc(), own.id.desc())
        .offset(PER_DEVICE)
    )
    connection.execute(delete(review_samples).where(own.id.in_(too_many)))


def label(connection: Connection, sample: int, wanted: str, actor: str, now_ms: int) -> None:
    """Say which class is right, by its number or its name in the bundle's labels.

    Raises:
        NotFound: There is no such sample.
        RequestInvalid: No such class.
    """
    row = connection.execute(select(*COLUMNS).where(review_samples.c.id == sample)).one_or_none()
    if row is None:
        raise NotFound(f"no kept input {sample}")
    number, name = class_of(*classes_of(connection, row.bundle), wanted)
    connection.execute(
        update(review_samples)
        .where(review_samples.c.id == sample)
        .values(label=number, label_name=name, labelled_by=actor[:64])
    )
    record(
        connection,
        actor,
        "sample labelled",
        f"{row.device} {row.number}",
        now_ms,
        sample=sample,
        label=number,
    )


def class_of(labels: tuple[str, ...], count: int | None, wanted: str) -> tuple[int, str]:
    """Number and name of a class.

    Args:
        count: How many the model has; None where that is not known here.

    Raises:
        RequestInvalid: There is none such.
    """
    if wanted in labels:
        return labels.index(wanted), wanted
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 9:
        number = int(wanted)
        if count is None or number < count:
            return number, labels[number] if number < len(labels) else ""
    numbers = "a number from 0 on" if count is None else f"a number from 0 to {count - 1}"
    known = f"one of {', '.join(labels[:20])}" if labels else numbers
    raise RequestInvalid(f"{wanted!r:.60} is no class of this model; give {known}")


def classes_of(connection: Connection, bundle: str) -> tuple[tuple[str, ...], int | None]:
    """The names of a bundle's classes, and how many there are; none of both for one not published here."""
    found = connection.execute(select(bundles.c.manifest).where(bundles.c.digest == bundle)).scalar()
    manifest: Manifest | None = manifest_of(found) if found else None
    if manifest is None:
        return (), None
    count = len(manifest.labels) or prod(manifest.outputs[0].shape[1:])
    return manifest.labels, count if count > 1 else None  # one number tells two classes apart


def listed(
    connection: Connection,
    what: str | None = None,
    labelled: bool | None = None,
    most: int = 200,
) -> list[KeptSample]:
    """Kept inputs, newest first, without the inputs themselves.

    Args:
        what: A release or a digest: of these bundles only.
        labelled: With or without a label; None for both.
    """
    rows = connection.execute(_where(connection, select(*COLUMNS), what, labelled, most)).mappings()
    return [cast("KeptSample", dict(row)) for row in rows]


def payloads(
    connection: Connection, what: str | None, labelled: bool | None, most: int, before: int | None = None
) -> Iterator[tuple[Any, bytes]]:
    """The rows, newest first, each with the payload that was signed; one after the other is read.

    Args:
        before: Those of smaller ids only.
    """
    query = _where(connection, select(review_samples.c.id), what, labelled, most)
    if before is not None:
        query = query.where(review_samples.c.id < before)
    for number in connection.execute(query).scalars().all():
        row = connection.execute(select(review_samples).where(review_samples.c.id == number)).one()
        yield row, cose.parse(row.raw, MAX_BYTES).payload


def counted(connection: Connection, bundle: str) -> dict[str, int]:
    """How many inputs were kept of a bundle, and how many of them have a label."""
    own = review_samples.c
    row = connection.execute(
        select(func.count().label("kept"), func.count(own.label).label("labelled")).where(
            own.bundle == bundle
        )
    ).one()
    return {"kept": row.kept, "labelled": row.labelled}


def _where(connection: Connection, query: Any, what: str | None, labelled: bool | None, most: int) -> Any:
    own = review_samples.c
    if what is not None:
        query = query.where(own.bundle.in_({target.bundle for target in targets_of(connection, what)}))
    if labelled is not None:
        query = query.where(own.label.is_not(None) if labelled else own.label.is_(None))
    return query.order_by(own.id.desc()).limit(most)
