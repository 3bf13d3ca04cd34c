"""Where an agent stands, for the tests of what it shows of itself."""

from __future__ import annotations

from message_examples import BUNDLE

from edge_agent.telemetry.standing import Standing
from edge_contracts.messages import ActiveModel

MODEL = ActiveModel(
    bundle=BUNDLE, name="digits", version="1.0", artifact="int8", runtime='litert "2" \\ x\ny'
)
STANDING = Standing(
    time_ms=2000,
    started_ms=1500,
    agent="0.1.0",
    device="cam-1",
    fleet="plant",
    model=MODEL,
    link_up=True,
    heard_ms=1700,
    waiting=3,
    temperature_c=41.5,
    drifting=("data-drift",),
)
