"""Agent, broker and ingest killed again and again: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from agent_fleet import find_nats
from kill_harness import Trial, rounds

pytestmark = pytest.mark.skipif(find_nats() is None, reason="nats-server is not installed")


def test_nothing_is_lost_and_nothing_is_there_twice(tmp_path: Path) -> None:
    with Trial(tmp_path, rate=500) as trial:
        rounds(trial, count=1, records=200)
        result = trial.finish()
    assert result.kills == {"agent": 2, "broker": 1, "server": 1}
    assert result.kept >= 1000
    assert (result.lost, result.twice, result.gaps, result.refused) == (0, 0, 0, 0)


def test_a_loss_would_be_noticed(tmp_path: Path) -> None:
    with Trial(tmp_path, rate=500) as trial:
        trial.put(100)
        trial.kill_agent()
        trial.put(100)
        trial.finish()
        db = sqlite3.connect(next((tmp_path / "server").rglob("*.db")))
        (seq,) = db.execute("SELECT max(seq) FROM envelopes").fetchone()
        db.execute("DELETE FROM envelopes WHERE seq = ?", (seq,))
        db.commit()
        db.close()
        assert trial._count().lost > 0
