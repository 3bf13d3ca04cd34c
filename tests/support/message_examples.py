"""One message of every kind, with every field filled: what the golden files hold."""

from __future__ import annotations

from edge_contracts.lineup import LineupCounts, ShadowCounts, ShadowTerms
from edge_contracts.messages import (
    Ack,
    ActiveModel,
    Assignment,
    DeviceState,
    Event,
    Gap,
    Phase,
    Progress,
    ScalarCounts,
    Telemetry,
    Window,
)
from edge_contracts.sketch import QuantileSketch
from edge_contracts.succession import NextKey
from edge_contracts.topics import Channel

BUNDLE = "sha256:" + "ab" * 32
EPOCH = "0123456789abcdef"

WINDOW = Window(
    bundle=BUNDLE,
    artifact="int8",
    runtime="litert 2.3.0",
    start_ms=1_700_000_000_000,
    end_ms=1_700_000_060_000,
    duration_ms=60_000,
    inferences=3,
    errors={"runtime": 1},
    refused={"shape": 2},
    flagged={"out-of-range": 1},
    latency_ms=QuantileSketch(bins={-3: 2, 7: 1}),
    scalars=(ScalarCounts(name="input:x:mean", counts=(1, 2)),),
    golden_total=4,
    golden_agree=4,
    cpu_s=0.5,
    rss_bytes=50_000_000,
    temperature_c=41.5,
    trial=True,
)
WINDOW_OF_ARM = WINDOW.model_copy(
    update={
        "lineup": LineupCounts(
            role="active",
            experiment="taste",
            sure=2,
            second=1,
            confidence=(0,) * 18 + (1, 2),
            labelled=3,
            correct=2,
            rated=2,
            rated_correct=1,
            rated_confidence=1.75,
            overstated=True,
            shadow=ShadowCounts(
                bundle=BUNDLE,
                state="stopped",
                reason="memory",
                compared=4,
                agreed=3,
                failed=1,
                skipped={"cpu": 2},
                latency_ms=QuantileSketch(bins={5: 4}),
                cpu_s=0.25,
                rss_bytes=60_000_000,
            ),
        )
    }
)
EXAMPLES: dict[str, tuple[Channel, DeviceState | Telemetry | Ack | Assignment]] = {
    "telemetry": (
        Channel.TELEMETRY,
        Telemetry(
            epoch=EPOCH,
            seq=7,
            prev=bytes(range(16)),
            recs=(
                WINDOW,
                Event(name="confirmed", time_ms=1, bundle=BUNDLE, assignment=4),
                Gap(first_seq=2, last_seq=5, records=9, reason="outbox full"),
            ),
        ),
    ),
    "downsampled": (
        Channel.TELEMETRY,
        Telemetry(
            epoch=EPOCH,
            seq=9,
            prev=bytes(range(16)),
            recs=(
                Gap(
                    first_seq=8,
                    last_seq=8,
                    records=9,
                    reason="outbox full",
                    kinds={"window": 7, "event": 2},
                    first_ms=1_700_000_000_000,
                    last_ms=1_700_000_600_000,
                ),
                WINDOW.model_copy(update={"merged": 3, "epsilon": 0.25}),
            ),
        ),
    ),
    "telemetry-lineup": (
        Channel.TELEMETRY,
        Telemetry(epoch=EPOCH, seq=8, prev=bytes(range(16)), recs=(WINDOW_OF_ARM,)),
    ),
    "hello": (
        Channel.HELLO,
        DeviceState(
            type="hello",
            device="d1",
            n=12,
            epoch=EPOCH,
            next_seq=8,
            agent="0.1.0",
            profile=("raspberry-pi-4", "arm-cpu"),
            counter=3,
            active=ActiveModel(
                bundle=BUNDLE, name="digits", version="1.0.0", artifact="int8", runtime="litert 2.3.0"
            ),
            progress=Progress(assignment=4, phase=Phase.ROLLED_BACK, code="crash", detail="died on trial"),
            time_ms=1_700_000_000_000,
        ),
    ),
    "ack": (Channel.ACK, Ack(device="d1", epoch=EPOCH, high=7, chain=bytes(range(16)))),
    "assignment": (
        Channel.ASSIGNMENT,
        Assignment(
            device="d1",
            number=4,
            bundle=BUNDLE,
            name="digits",
            version="1.0.0",
            archive=BUNDLE,
            archive_bytes=1000,
            url_path="/api/v1/archives/x",
            counter=3,
            permit_downgrade=True,
            expires_ms=1_800_000_000_000,
        ),
    ),
    "hello-shadow": (
        Channel.HELLO,
        DeviceState(
            type="hello",
            device="d1",
            n=13,
            epoch=EPOCH,
            next_seq=9,
            agent="0.1.0",
            profile=("arm-cpu",),
            counter=3,
            progress=Progress(assignment=5, phase=Phase.SHADOW, detail="runs beside what answers"),
            time_ms=1_700_000_000_000,
            knows=("shadow",),
        ),
    ),
    "assignment-shadow": (
        Channel.ASSIGNMENT,
        Assignment(
            device="d1",
            number=5,
            bundle=BUNDLE,
            name="digits",
            version="1.0.0",
            archive=BUNDLE,
            archive_bytes=1000,
            url_path="/api/v1/archives/x",
            counter=4,
            shadow=ShadowTerms(per_mille=50, cpu_share=0.25, memory_bytes=1 << 27, latency_ms=500),
        ),
    ),
    "status-next-key": (
        Channel.STATUS,
        DeviceState(
            type="status",
            device="d1",
            n=14,
            epoch=EPOCH,
            next_seq=9,
            agent="0.1.0",
            profile=("arm-cpu",),
            counter=3,
            time_ms=1_700_000_000_000,
            knows=("shadow", "keys"),
            next_key=NextKey(public_key=bytes(range(32)), proof=bytes(range(64))),
        ),
    ),
    "assignment-keys": (
        Channel.ASSIGNMENT,
        Assignment(device="d1", number=0, known_key="0" * 32, change_key="f" * 32),
    ),
    "hello-obeys": (
        Channel.HELLO,
        DeviceState(
            type="hello",
            device="d1",
            n=15,
            epoch=EPOCH,
            next_seq=9,
            agent="0.1.0",
            profile=("arm-cpu",),
            counter=3,
            time_ms=1_700_000_000_000,
            knows=("keys", "director"),
            obeys="0" * 31 + "1",
        ),
    ),
}
