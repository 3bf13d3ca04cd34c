"""What edge-agent can refuse.

AgentError                       every refusal; its text is one line: found, expected, what to do
 +- RuntimeUnavailable           no runtime here can open any artifact of the bundle; says what is missing
 |   +- RuntimeUnknown           the manifest names a runtime that this release does not have
 +- ModelInvalid                 the runtime cannot open an artifact, or it is not what the manifest says
 +- InputRefused                 an input that the tensor contract does not allow (`code` says which rule)
 +- CallRefused                  bytes of a client that are not a request (`status` as HTTP has it, `code`)
 +- ListenRefused                an address, socket or certificate that cannot be served on
 +- RequestRefused               a request that is not run, though nothing is wrong with its inputs
 |   +- QueueFull                as many requests wait as may; says how many
 |   +- RateLimited              a client asks faster than it may
 |   +- DeadlinePassed           its deadline came before its turn
 |   +- NoModel                  nothing is open that could answer
 +- InferenceFailed              the runtime failed on an input that the contract allows
 |   +- RuntimeLost              the process that holds the runtime is gone, and its model with it
 |       +- RuntimeCrashed       it died while it answered
 |       +- RuntimeHung          it did not answer in time and was killed
 +- FeedbackRefused              a label that fits no answer (`code` says why)
 +- SettingRefused               settings that contradict each other or cannot be
 +- ReviewDamaged                an input kept for review that cannot be read (any more)
 +- NoiseFailed                  no noise for differential privacy: what it was for may not leave
 +- ChildFailed                  a child process died, hung, answered nonsense or refused its job
 +- ModelHung                    a model does not end an inference; the process must end
 +- TrialFailed                  a new model did not pass its trial (`code` says which question)
 +- SourceMissing                the folder, video or pipe that inputs should come from is not there
 +- NothingAnswered              a run over given inputs that could answer none of them
 +- StreamLost                   a camera, video or pipe that cannot be opened, or breaks off
 +- NotQuarantined               what should be lifted is not in quarantine
 +- AddressSpaceTooSmall         a limit of this process leaves no room for a model
 +- HomeInvalid                  the agent's folder, or a file in it, cannot be read or written
 |   +- NotEnrolled              the device belongs to no fleet yet
 |   +- AlreadyEnrolled          it belongs to one already
 |   +- HomeLocked               another agent works in this folder
 |   +- OutboxUnwritable         telemetry cannot be kept (disk full, disk failed)
 |       +- OutboxDamaged        what waited for the server is lost, and an empty outbox was begun
 +- ServerUnreachable            nobody answers at the server's address
 |   +- ServerBusy               it answers that it cannot now (429, 503), and perhaps when
 +- ServerRefused                the server answered, and said no
 +- DownloadWaits                a download that must wait: data budget, hours of the day
 +- InstallRefused               a bundle that must not be installed here
     +- WrongProfile             made for another class of device
     +- Downgrade                a release older than one that was confirmed here, without permission
     +- NoSpace                  the disk cannot hold it
     |   +- RanFull              it could when this was begun
     +- ContractDiffers          it cannot stand beside the active model: other inputs, other outputs
     +- NoLastGood               there is nothing to go back to
     +- KeyChangeRefused         a signed statement about keys that must not be followed

Each error has a `code`, the short word that telemetry carries.
"""

from __future__ import annotations


class AgentError(Exception):
    """Every refusal of the agent."""

    code = "refused"


class RuntimeUnavailable(AgentError):
    """No runtime on this device can open any artifact of the bundle."""

    code = "runtime-unavailable"


class RuntimeUnknown(RuntimeUnavailable):
    """A runtime that this release does not have."""

    code = "runtime-unknown"


class ModelInvalid(AgentError):
    """An artifact that its runtime cannot open, or that is not what the manifest says."""

    code = "model-invalid"


class InputRefused(AgentError):
    """An input that the tensor contract does not allow.

    Args:
        code: The rule: "names", "shape", "dtype" or "not-finite"; of bytes those of `input.prepare`; of
            what the contract's own checks refuse those of `input.checks`.
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep the rule beside the text."""
        super().__init__(message)
        self.code = code


class CallRefused(AgentError):
    """Bytes of a client that are not a request to this server.

    Args:
        status: As HTTP numbers it, from 400 to 499; 503 and 505 for what is no fault of the client.
        code: The short word: "bad-request", "unauthorized", "not-found", "too-large", ...
        allow: Methods that the path has, for 405 (RFC 9110, 15.5.6).
    """

    def __init__(self, status: int, code: str, message: str, allow: str = "") -> None:
        """Keep what the client is told beside the text."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.allow = allow


def no_memory() -> CallRefused:
    """What a client is told whose request there is no memory for: its own error, and no one else's."""
    return CallRefused(503, "no-memory", "there is no memory for this request now")


class ListenRefused(AgentError):
    """An address, a socket or a certificate that cannot be served on."""

    code = "cannot-listen"


class RequestRefused(AgentError):
    """A request that is not run, though nothing is wrong with its inputs."""

    code = "request-refused"


class QueueFull(RequestRefused):
    """As many requests wait as may."""

    code = "queue-full"


class RateLimited(RequestRefused):
    """A client asks faster than it may."""

    code = "rate-limited"


class DeadlinePassed(RequestRefused):
    """Its deadline came before its turn."""

    code = "deadline"


class NoModel(RequestRefused):
    """Nothing is open that could answer."""

    code = "no-model"


class InferenceFailed(AgentError):
    """The runtime failed on an input that the contract allows."""

    code = "inference-failed"


class RuntimeLost(InferenceFailed):
    """The process that holds the runtime is gone, and its model with it."""

    code = "runtime-lost"


class RuntimeCrashed(RuntimeLost):
    """The process that holds the runtime died while it answered."""

    code = "runtime-crashed"


class RuntimeHung(RuntimeLost):
    """The process that holds the runtime did not answer in time and was killed."""

    code = "runtime-hung"


class FeedbackRefused(AgentError):
    """A label that fits no answer.

    Args:
        code: "unknown-request" or "bad-label".
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep the reason beside the text."""
        super().__init__(message)
        self.code = code


class SettingRefused(AgentError):
    """Settings that contradict each other, or what is there, or cannot be."""

    code = "setting-refused"


class ReviewDamaged(AgentError):
    """An input kept for review that cannot be read: cut off, changed, or sealed with another key."""

    code = "review-damaged"


class NoiseFailed(AgentError):
    """No noise for differential privacy was made: what it was for may not leave the device."""

    code = "noise-failed"


class ChildFailed(AgentError):
    """A child process died, hung, answered nonsense or refused its job.

    Args:
        code: "crash", "hang", "no-answer", or the code of the error with which the child gave up.
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep the kind of death beside the text."""
        super().__init__(message)
        self.code = code


class ModelHung(AgentError):
    """A model does not end an inference, and nothing but a new process gets rid of it."""

    code = "hang"


class TrialFailed(AgentError):
    """A new model did not pass its trial; nothing was switched.

    Args:
        code: "crash", "hang", "no-answer", "golden-mismatch", "too-slow", "too-large", or the code of
            the error with which the child gave up ("model-invalid", "runtime-unavailable", ...).
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep the question that was failed beside the text."""
        super().__init__(message)
        self.code = code


class NotQuarantined(AgentError):
    """What should be lifted is not in quarantine."""

    code = "not-quarantined"


class SourceMissing(AgentError):
    """The folder, video or pipe that inputs should come from is not there."""

    code = "source-missing"


class NothingAnswered(AgentError):
    """A run over given inputs that could answer none of them."""

    code = "nothing-answered"


class StreamLost(AgentError):
    """A camera, a video or a pipe that cannot be opened, or breaks off."""

    code = "stream-lost"


class AddressSpaceTooSmall(AgentError):
    """A limit of this process leaves no room for a model."""

    code = "address-space"


class HomeInvalid(AgentError):
    """The agent's folder, or a file in it, cannot be read or written."""

    code = "home-invalid"


class NotEnrolled(HomeInvalid):
    """The device belongs to no fleet yet."""

    code = "not-enrolled"


class AlreadyEnrolled(HomeInvalid):
    """The device belongs to a fleet already."""

    code = "already-enrolled"


class HomeLocked(HomeInvalid):
    """Another agent works in this folder."""

    code = "home-locked"


class OutboxUnwritable(HomeInvalid):
    """Telemetry cannot be kept: the disk is full or has failed."""

    code = "outbox-unwritable"


class OutboxDamaged(OutboxUnwritable):
    """The outbox was damaged: what waited in it is lost, and an empty one was begun."""

    code = "outbox-damaged"


class ServerUnreachable(AgentError):
    """Nobody answers at the server's address, or the answer broke off."""

    code = "server-unreachable"


class ServerBusy(ServerUnreachable):
    """The server sheds load (429, 503): not a failure, and no attempt that counts.

    Args:
        after_s: When it wants to be asked again; None when it does not say.
    """

    code = "server-busy"

    def __init__(self, message: str, after_s: float | None) -> None:
        """Keep the time beside the text."""
        super().__init__(message)
        self.after_s = after_s


class DownloadWaits(AgentError):
    """A download must wait, which is no failure of it.

    Args:
        code: "data-budget" or "hours".
        wait_s: For how long, by the clock now.
    """

    def __init__(self, code: str, message: str, wait_s: float) -> None:
        """Keep the reason and the time beside the text."""
        super().__init__(message)
        self.code, self.wait_s = code, wait_s


class ServerRefused(AgentError):
    """The server answered, and said no."""

    code = "server-refused"


class InstallRefused(AgentError):
    """A bundle that must not be installed here."""

    code = "install-refused"


class WrongProfile(InstallRefused):
    """A bundle made for another class of device."""

    code = "wrong-profile"


class Downgrade(InstallRefused):
    """A release older than one that was confirmed here, without a signed permission."""

    code = "downgrade"


class NoSpace(InstallRefused):
    """A bundle that the disk cannot hold."""

    code = "no-space"


class RanFull(NoSpace):
    """The disk ran full in the middle: what was begun goes on when there is room again."""


class ContractDiffers(InstallRefused):
    """A model that cannot stand beside the active one.

    Args:
        code: "contract-differs" (other inputs or outputs) or "golden-mismatch".
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep the reason beside the text."""
        super().__init__(message)
        self.code = code


class NoLastGood(InstallRefused):
    """A rollback with nothing to go back to."""

    code = "no-last-good"


class KeyChangeRefused(InstallRefused):
    """A statement about keys that is signed and must not be followed all the same."""

    code = "key-change-refused"
