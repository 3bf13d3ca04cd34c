"""A model in a child process: whatever its runtime does there, one inference is lost and no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import agent_bundles
import chaos
import numpy as np
import pytest
from agent_fleet import until

from edge_agent.errors import (
    ChildFailed,
    InferenceFailed,
    ModelInvalid,
    RuntimeCrashed,
    RuntimeHung,
    RuntimeLost,
    RuntimeUnavailable,
)
from edge_agent.guard.isolated import IsolatedModel, Patience
from edge_agent.guard.restarts import Restarts
from edge_agent.inference.golden import read_golden, run_golden
from edge_agent.inference.session import Session
from edge_agent.runtimes.choice import Choice, Option
from edge_contracts.bundle import open_bundle
from edge_contracts.manifest import Manifest

Command = Callable[[str], None]
TPU = Option("float32", "chaos", "TPU")
ROW = {"x": agent_bundles.GOLDEN_X[:1]}
NO_PAUSE = Restarts(limit=50, first_pause_s=0.0)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    return chaos.install(tmp_path, monkeypatch)


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[Path, Manifest]:
    opened = open_bundle(chaos.bundle())
    opened.extract(tmp_path / "bundle")
    return tmp_path / "bundle", opened.manifest


@pytest.fixture
def models(bundle: tuple[Path, Manifest]) -> Iterator[Callable[..., IsolatedModel]]:
    made: list[IsolatedModel] = []

    def make(option: Option = TPU, **more: Any) -> IsolatedModel:
        folder, manifest = bundle
        made.append(IsolatedModel(folder, manifest.artifact(option.artifact), option, **more))
        return made[-1]

    yield make
    for model in made:
        model.close()


Models = Callable[..., IsolatedModel]


@pytest.mark.usefixtures("command")
def test_a_signal_that_goes_to_the_whole_group_is_not_taken_for_a_crash(models: Models) -> None:
    """A service manager may stop the agent so, and a terminal does."""
    model = models()
    model.run(ROW)
    assert model.pid is not None
    for sent in (signal.SIGTERM, signal.SIGINT):
        os.kill(model.pid, sent)
    before = model.pid
    model.run(ROW)
    assert (model.pid, model.starts) == (before, 1)


def is_gone(pid: int) -> bool:
    """Whether there is no such process, not even a dead one that nobody has asked about."""
    return not Path(f"/proc/{pid}").exists()


def right(model: IsolatedModel, row: int = 0) -> bool:
    x = agent_bundles.GOLDEN_X[row : row + 1]
    return bool(np.allclose(model.run({"x": x})["scores"], agent_bundles.reference(x), atol=1e-5))


@pytest.mark.usefixtures("command")
def test_answers_are_those_of_the_runtime_and_the_callers_to_keep(models: Models) -> None:
    model = models()
    first = model.run({"x": agent_bundles.GOLDEN_X[:1]})["scores"]
    kept = first.copy()
    assert all(right(model, row) for row in range(16))
    assert np.array_equal(first, kept)


@pytest.mark.usefixtures("command")
def test_a_wrong_dtype_shape_or_name_is_an_error_and_the_model_lives_on(models: Models) -> None:
    model = models()
    pid = model.pid
    for wrong in ({"x": np.zeros((1, 4))}, {"x": np.zeros((1, 3), np.float32)}, {}):
        with pytest.raises(InferenceFailed):
            model.run(wrong)
    assert right(model)
    assert model.pid == pid


def test_a_crash_costs_one_inference_and_says_what_the_driver_said(command: Command, models: Models) -> None:
    model = models()
    assert right(model)
    before = model.pid
    command("crash 1")
    with pytest.raises(RuntimeCrashed, match=r"SIGSEGV: the accelerator is gone") as refusal:
        model.run(ROW)
    assert refusal.value.code == "runtime-crashed"
    assert before is not None
    assert is_gone(before)
    assert right(model)
    assert (model.starts, model.pid == before) == (2, False)


def test_a_hang_that_keeps_the_interpreters_lock_costs_one_inference(
    command: Command, models: Models
) -> None:
    model = models(patience=Patience(0.3, 0.3), restarts=NO_PAUSE)
    before = model.pid
    command("hang 1")
    with pytest.raises(RuntimeHung, match=r"no answer in 0.3 s, killed") as refusal:
        model.run(ROW)
    assert refusal.value.code == "runtime-hung"
    assert before is not None
    assert is_gone(before)
    model._patience = Patience(20, 20)  # the next start may be slow on a slow machine
    assert right(model)


def test_the_first_inference_after_a_start_may_take_longer(command: Command, models: Models) -> None:
    model = models(patience=Patience(0.05, 20), restarts=NO_PAUSE)
    command("slow 1")
    assert right(model)
    command("slow 1")
    with pytest.raises(RuntimeHung):
        model.run(ROW)


def test_an_error_of_the_runtime_is_told_and_the_child_stays(command: Command, models: Models) -> None:
    model = models()
    before = model.pid
    command("error 1")
    with pytest.raises(InferenceFailed, match="the accelerator says no") as refusal:
        model.run(ROW)
    assert not isinstance(refusal.value, RuntimeLost)
    assert right(model)
    assert model.pid == before


def test_restarts_come_to_an_end(command: Command, models: Models) -> None:
    model = models(restarts=Restarts(limit=2, first_pause_s=0.0))
    command("crash")
    for _ in range(3):
        with pytest.raises(RuntimeCrashed):
            model.run(ROW)
    with pytest.raises(RuntimeLost, match=r"started again in 3\.\d+e\+03 s"):
        model.run(ROW)
    assert model.starts == 3


def test_a_device_that_does_not_open_again_is_lost_until_it_does(command: Command, models: Models) -> None:
    model = models(restarts=NO_PAUSE)
    command("crash 1")
    with pytest.raises(RuntimeCrashed):
        model.run(ROW)
    command("refuse")
    with pytest.raises(RuntimeLost, match="cannot be started again: the accelerator does not open"):
        model.run(ROW)
    command("open-crash 1")
    with pytest.raises(RuntimeLost, match=r"cannot be started again.*SIGSEGV"):
        model.run(ROW)
    command("")
    assert right(model)


@pytest.mark.parametrize(
    ("words", "error", "code", "text"),
    [
        ("refuse", RuntimeUnavailable, "runtime-unavailable", "does not open"),
        ("open-crash", ChildFailed, "crash", "SIGSEGV"),
        ("open-hang", ChildFailed, "hang", "not open in 1 s"),
    ],
)
def test_what_cannot_be_opened_says_why_and_leaves_no_process(
    words: str, error: type[Exception], code: str, text: str, command: Command, models: Models
) -> None:
    before = set(children())
    command(words)
    with pytest.raises(error, match=text) as refusal:
        models(patience=Patience(open_s=1.0) if words == "open-hang" else None)
    assert getattr(refusal.value, "code", "") == code
    assert set(children()) <= before


@pytest.mark.usefixtures("command")
def test_a_file_that_has_rotted_since_it_was_verified_is_not_opened(
    models: Models, bundle: tuple[Path, Manifest]
) -> None:
    path = bundle[0] / "artifacts" / "float32.tflite"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ChildFailed, match=r"float32\.tflite has digest") as refusal:
        models()
    assert refusal.value.code == "digest-mismatch"


@pytest.mark.usefixtures("command")
def test_a_file_that_is_not_a_model_is_refused_in_the_runtimes_words(tmp_path: Path) -> None:
    opened = open_bundle(chaos.bundle(files={"artifacts/float32.tflite": b"not a model"}))
    opened.extract(tmp_path / "other")
    with pytest.raises(ModelInvalid, match=r"float32\.tflite cannot be opened"):
        IsolatedModel(tmp_path / "other", opened.manifest.artifacts[0], TPU)


def test_closing_ends_the_child_and_twice_is_harmless(command: Command, models: Models) -> None:
    model = models()
    pid = model.pid
    assert pid is not None
    assert model.memory_bytes > 1 << 20
    model.close()
    model.close()
    assert is_gone(pid)
    assert model.memory_bytes == 0
    with pytest.raises(InferenceFailed, match="closed"):
        model.run(ROW)


def test_a_driver_that_says_much_fills_no_memory(command: Command, models: Models) -> None:
    model = models()
    command("chatter 256")
    for _ in range(256):
        model.run(ROW)
    assert Path(f"/proc/{model.pid}/fd/2").stat().st_size < 1 << 20


def test_another_answer_of_the_child_is_no_model(models: Models) -> None:
    talk = (
        "import json, socket, sys; job = json.load(sys.stdin);"
        "socket.socket(fileno=job['channel']).send(b'hello')"
    )
    with pytest.raises(ChildFailed, match="hello") as refusal:
        models(command=(sys.executable, "-c", talk))
    assert refusal.value.code == "no-answer"


def test_crash_after_crash_leaves_no_handle_no_memory_and_no_process(
    command: Command, models: Models
) -> None:
    model = models(restarts=NO_PAUSE)

    def held() -> tuple[int, int, int]:
        maps = Path("/proc/self/maps").read_text().count("edge-agent-tensors")
        return len(list(Path("/proc/self/fd").iterdir())), maps, len(children())

    assert right(model)
    before = held()
    for _ in range(3):
        command("crash 1")
        with pytest.raises(RuntimeCrashed):
            model.run(ROW)
        assert right(model)
    assert held() == before


def test_a_runtime_that_leaks_shows_in_the_childs_memory(command: Command, models: Models) -> None:
    model = models()
    assert right(model)
    before = model.memory_bytes
    command("leak 8")
    for _ in range(8):
        model.run(ROW)
    assert model.memory_bytes - before > 32 << 20


# --- neither side outlives the other

PARENT = """
import sys, threading, time
from pathlib import Path
from edge_agent.guard.isolated import IsolatedModel
from edge_agent.runtimes.choice import Option
from edge_contracts.bundle import open_folder
folder = Path(sys.argv[1])
made = []
def make():
    artifact = open_folder(folder).manifest.artifacts[0]
    made.append(IsolatedModel(folder, artifact, Option("float32", "chaos", "TPU")))
thread = threading.Thread(target=make)  # which ends: the child must not
thread.start()
thread.join()
import numpy as np
made[0].run({"x": np.zeros((1, 4), np.float32)})
print(made[0].pid, flush=True)
if sys.argv[2] == "hang":
    made[0].run({"x": np.zeros((1, 4), np.float32)})
time.sleep(600)
"""


@pytest.mark.parametrize("state", ["waits", "hang"])
def test_the_child_dies_with_its_parent_whatever_it_does(
    state: str, command: Command, bundle: tuple[Path, Manifest]
) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(bundle[0]), state], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        if state == "hang":
            command("")
        child = int(parent.stdout.readline())
        if state == "hang":
            command("hang")
        assert not is_gone(child)
        maps = Path(f"/proc/{child}/maps").read_text()
        assert "memfd:edge-agent-tensors (deleted)" in maps, "the shared memory has a name that could stay"
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(10)
        parent.stdout.close()  # type: ignore[union-attr]
    until(lambda: is_gone(child) or state_of(child) == "Z", "the child is dead too")


def state_of(pid: int) -> str:
    """The kernel's letter for a process; init may take a moment to ask about one that is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def children() -> list[int]:
    """Processes that this one has started and that are still there, dead ones too."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


# --- in a session


@pytest.mark.usefixtures("command")
def test_a_session_puts_an_accelerator_into_a_child_and_a_cpu_not(bundle: tuple[Path, Manifest]) -> None:
    folder, manifest = bundle
    tpu = Session.open(folder, manifest, Choice(TPU))
    cpu = Session.open(folder, manifest, Choice(Option("float32", "litert", "CPU")))
    asked = Session.open(folder, manifest, Choice(Option("float32", "litert", "CPU")), isolate=True)
    assert tpu.child is not None
    assert cpu.child is None
    assert asked.child is not None
    golden = read_golden(folder, manifest, "float32")
    for session in (tpu, cpu, asked):
        assert run_golden(session, golden).passed
        session.close()


def test_golden_inputs_find_an_accelerator_that_answers_something_else(
    command: Command, bundle: tuple[Path, Manifest]
) -> None:
    folder, manifest = bundle
    session = Session.open(folder, manifest, Choice(TPU))
    command("wrong")
    result = run_golden(session, read_golden(folder, manifest, "float32"))
    session.close()
    assert "golden answers agree, needed" in result.reason


def test_how_long_to_wait_follows_from_the_trial() -> None:
    assert Patience.of(500.0, 1000.0).run_s == 10.0
    assert Patience.of(0.5, 1000.0).run_s == 2.0
    assert Patience.of(1e6, 1e6).run_s == 30.0
    assert Patience.of(None, 200.0).run_s == 4.0
