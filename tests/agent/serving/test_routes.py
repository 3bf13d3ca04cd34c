"""Errors as responses: whose fault it is, and whether asking again is worth it."""

from __future__ import annotations

import pytest

from edge_agent.errors import AgentError, NoModel, QueueFull, RuntimeCrashed, RuntimeLost
from edge_agent.serving.routes import refusal


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (QueueFull("64 wait"), 503),
        (NoModel("none is installed"), 503),
        (RuntimeLost("it is started again in 4 s"), 503),
        (RuntimeCrashed("killed by SIGKILL"), 500),
    ],
)
def test_what_will_pass_by_itself_is_not_the_models_fault(error: AgentError, status: int) -> None:
    assert refusal(error).status == status
