"""An open model with its counts: what the inference thread asks, and what windows are cut from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from edge_agent.device.resources import now, read_resources
from edge_agent.doubt.part import Part
from edge_agent.errors import InferenceFailed, InputRefused
from edge_agent.guard.software import read_software
from edge_agent.guard.watch import Watch
from edge_agent.inference.request import Arrays
from edge_agent.inference.session import Answer, Session
from edge_agent.input.stuck import STUCK, StuckWatch
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
        watches: For clients that say the same again and again, where the contract asks for it.
        watch: Around the session.
        software: Versions that decide what it answers.
    """

    bundle: str
    session: Session
    counter: WindowCounter
    part: Part
    watch: Watch
    software: Mapping[str, str]
    totals: Totals = field(default_factory=Totals)
    watches: tuple[StuckWatch, ...] = ()

    @staticmethod
    def begin(
        bundle: str,
        session: Session,
        trial: bool,
        role: Role = "active",
        experiment: str = "",
        watch: Watch | None = None,
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
        session.monitor(counter.thinning)
        part = Part(session.manifest, session.artifact.id, role, experiment)
        option = session.choice.option
        software = read_software(option.runtime, option.device)
        watches = StuckWatch.of(session.manifest)
        return Serving(bundle, session, counter, part, watch or Watch(session), software, watches=watches)

    def infer(self, inputs: Arrays, client: str | None = None) -> Answer:
        """Answer a batch and count it.

        Args:
            client: Whose next input it is; None for one that is asked again.

        Raises:
            InputRefused: The contract does not allow an input.
            InferenceFailed: The runtime reported an error.
        """
        stuck = 0
        try:
            if client is not None:
                for watch in self.watches:
                    stuck = max(stuck, watch.see(client, inputs))
            answer = self.watch.infer(inputs)
        except InputRefused as error:
            self.counter.refused(error.code)
            self.totals.refused += 1
            raise
        except InferenceFailed as error:
            self.counter.failed(error.code)
            self.totals.failed += 1
            raise
        if stuck:
            answer = replace(answer, flagged={**answer.flagged, STUCK: stuck})
        self.counter.answered(answer)
        self.totals.answered += len(answer.took_ms)
        return answer

    def cut(self, trial: bool = False) -> Window:
        """Close the telemetry window and open the next; the part's counts are cut by the lineup."""
        window = self.counter.cut(now(), read_resources(), trial)
        child = self.session.child
        more = {"software": self.software, "child_rss_bytes": child.memory_bytes if child else 0}
        return window.model_copy(update=more)
