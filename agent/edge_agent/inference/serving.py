"""An open model with its counts: what the inference thread asks, and what windows are cut from."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_agent.device.resources import now, read_resources
from edge_agent.doubt.part import Part
from edge_agent.errors import InferenceFailed, InputRefused
from edge_agent.inference.request import Arrays
from edge_agent.inference.session import Answer, Session
from edge_agent.telemetry.windows import WindowCounter
from edge_contracts.lineup import Role
from edge_contracts.messages import Window


@dataclass
class Totals:
    """What an open model did since it was switched on."""

    answered: int = 0
    failed: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Serving:
    """An open model with its counts.

    Args:
        bundle: Digest of the manifest.
        part: Its part among the models of the device, and how sure it is.
    """

    bundle: str
    session: Session
    counter: WindowCounter
    part: Part
    totals: Totals = field(default_factory=Totals)

    @staticmethod
    def begin(
        bundle: str, session: Session, trial: bool, role: Role = "active", experiment: str = ""
    ) -> Serving:
        """Start counting for a session."""
        counter = WindowCounter(
            session.manifest,
            bundle,
            session.artifact.id,
            session.runtime,
            now(),
            read_resources().cpu_s,
            trial,
        )
        return Serving(
            bundle, session, counter, Part(session.manifest, session.artifact.id, role, experiment)
        )

    def infer(self, inputs: Arrays) -> Answer:
        """Answer a batch and count it.

        Raises:
            InputRefused: The contract does not allow an input.
            InferenceFailed: The runtime reported an error.
        """
        try:
            answer = self.session.infer(inputs)
        except InputRefused as error:
            self.counter.refused(error.code)
            self.totals.refused += 1
            raise
        except InferenceFailed as error:
            self.counter.failed(error.code)
            self.totals.failed += 1
            raise
        self.counter.answered(answer)
        self.totals.answered += answer.samples
        return answer

    def cut(self, trial: bool = False) -> Window:
        """Close the telemetry window and open the next; the part's counts are cut by the lineup."""
        return self.counter.cut(now(), read_resources(), trial)
