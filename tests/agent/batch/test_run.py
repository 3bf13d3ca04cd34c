"""Large sets into one Parquet file: complete, in order, through kills; bad rows cost themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agent_bundles
import lineup_models
import numpy as np
import pytest
from click.testing import CliRunner, Result
from input_bundles import encoded, picture, picture_bundle

from edge_agent.batch.progress import Plan, assemble, part_path, progress_of, write_part
from edge_agent.batch.run import Batch, run_batch
from edge_agent.cli import main
from edge_agent.errors import AgentError, ChildFailed, HomeLocked, InputRefused, SourceMissing
from edge_contracts.arrays import write_npz
from edge_contracts.errors import FormatInvalid

pa = pytest.importorskip("pyarrow", reason="extra [batch]")
pq = pytest.importorskip("pyarrow.parquet", reason="extra [batch]")

X = np.random.default_rng(5).uniform(-2, 2, (60, 4)).astype(np.float32)


def silent(rows: int, resumed: int) -> Callable[[int], None]:
    return lambda count: None


def lines(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "tiny.bundle").write_bytes(agent_bundles.build("float32"))
    (tmp_path / "x.npz").write_bytes(write_npz({"x": X, "y": np.zeros(60)}))
    return tmp_path


def batch(place: Path, data: str = "x.npz", **changes: Any) -> Batch:
    fields = {"bundle": place / "tiny.bundle", "inputs": place / data, "output": place / "out.parquet"}
    return Batch(**fields | {"trusted": None, "part_rows": 7} | changes)


def check(found: list[dict[str, Any]], x: Any = X) -> None:
    expected = agent_bundles.reference(x)
    assert [line["row"] for line in found] == list(range(len(x)))
    assert np.allclose([line["output.scores"] for line in found], expected, atol=1e-5)
    assert [line["label"] for line in found] == [agent_bundles.LABELS[i] for i in expected.argmax(axis=1)]


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_row_is_answered_in_order_on_as_many_processes_as_given(place: Path, jobs: int) -> None:
    done = run_batch(batch(place, jobs=jobs), silent)
    assert (done.rows, done.resumed, done.refused) == (60, 0, {})
    check(lines(place / "out.parquet"))
    assert sorted(p.name for p in place.iterdir()) == ["out.parquet", "tiny.bundle", "x.npz"]


def test_bad_rows_are_refused_with_their_reason_and_the_others_answered(place: Path) -> None:
    bad = X.copy()
    bad[3, 1] = np.nan
    bad[40, 0] = 1e6
    (place / "x.npz").write_bytes(write_npz({"x": bad}))
    assert run_batch(batch(place), silent).refused == {"not-finite": 1}
    found = lines(place / "out.parquet")
    assert (found[3]["refused"], found[3]["label"], found[3]["output.scores"]) == ("not-finite", None, None)
    assert "NaN" in found[3]["detail"]
    assert found[40]["flagged"] == "out-of-range"
    assert found[40]["refused"] is None
    assert all(line["label"] for i, line in enumerate(found) if i != 3)


def test_a_bundle_with_a_calibration_says_of_each_row_how_sure_it_is(place: Path) -> None:
    (place / "tiny.bundle").write_bytes(lineup_models.bundle(below=0.5))
    bad = X.copy()
    bad[3, 1] = np.nan
    (place / "x.npz").write_bytes(write_npz({"x": bad}))
    run_batch(batch(place), silent)
    found = lines(place / "out.parquet")
    assert (found[3]["confidence"], found[3]["uncertain"]) == (None, None)
    best = agent_bundles.reference(X).max(axis=1)
    assert {best[i] < 0.5 for i in range(60)} == {True, False}
    for i in set(range(60)) - {3}:
        assert found[i]["confidence"] == pytest.approx(best[i], abs=1e-5)
        assert found[i]["uncertain"] == (best[i] < 0.5)


def test_a_folder_of_pictures_is_answered_file_by_file(place: Path) -> None:
    folder = place / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(encoded(picture(30, 20), "JPEG"))
    (folder / "b.png").write_bytes(b"nothing of the kind")
    (folder / "deep" / "c.PNG").write_bytes(encoded(picture(30, 20)))
    np.save(folder / "d.npy", np.zeros((12, 12, 3), np.float32))
    (folder / "notes.txt").write_text("not looked at")
    (place / "tiny.bundle").write_bytes(picture_bundle())
    run_batch(batch(place, "in"), silent)
    found = lines(place / "out.parquet")
    assert [line["input"] for line in found] == ["a.jpg", "b.png", "d.npy", "deep/c.PNG"]
    assert [line["refused"] for line in found] == [None, "damaged", None, None]
    assert len(found[0]["top"]) == 2
    assert found[0]["score"] == found[0]["top"][0]["score"]


@pytest.mark.parametrize("kind", ["lists", "table", "pictures"])
def test_columns_of_parquet_are_lists_a_table_or_bytes(place: Path, kind: str) -> None:
    if kind == "lists":
        content = {"id": list(range(60)), "x": [row.tolist() for row in X]}
    elif kind == "table":
        rules = {"kind": "table", "columns": [{"name": name} for name in "abcd"]}
        spec = {"name": "x", "shape": (1, 4), "prepare": rules}
        (place / "tiny.bundle").write_bytes(agent_bundles.build(manifest={"inputs": [spec]}))
        content = {name: X[:, i].tolist() for i, name in enumerate("dcba"[::-1])}
    else:
        (place / "tiny.bundle").write_bytes(picture_bundle())
        cells = [{"bytes": encoded(picture(30, 20, seed=i)), "path": "p"} for i in range(3)]
        content = {"image": [*cells, {"bytes": None, "path": "gone"}]}
    pq.write_table(pa.table(content), place / "in.parquet", row_group_size=11)
    done = run_batch(batch(place, "in.parquet"), silent)
    found = lines(place / "out.parquet")
    if kind == "pictures":
        assert [line["refused"] for line in found] == [None, None, None, "dtype"]
    else:
        assert done.refused == {}
        check(found)


def test_a_bad_cell_of_parquet_costs_its_row(place: Path) -> None:
    cells = [X[0].tolist(), None, [1.0, 2.0], [1.0, 2.0, 3.0, None], X[1].tolist()]
    pq.write_table(pa.table({"x": cells}), place / "in.parquet")
    run_batch(batch(place, "in.parquet"), silent)
    assert [line["refused"] for line in lines(place / "out.parquet")] == [
        None,
        "damaged",
        "shape",
        "not-finite",
        None,
    ]


def test_what_is_no_set_of_this_model_is_refused_before_anything_is_begun(place: Path) -> None:
    pq.write_table(pa.table({"z": [1, 2]}), place / "z.parquet")
    (place / "empty").mkdir()
    (place / "bad.parquet").write_bytes(b"PAR1 not")
    for data, error in (
        ("z.parquet", InputRefused),
        ("empty", SourceMissing),
        ("none.parquet", FormatInvalid),
        ("bad.parquet", FormatInvalid),
        ("tiny.bundle", SourceMissing),
    ):
        with pytest.raises(error):
            run_batch(batch(place, data), silent)
    assert not list(place.glob("out*"))


# --- interruptions


def command(place: Path) -> list[str]:
    script = "from edge_agent.cli import main; main()"
    arguments = ["infer", str(place / "tiny.bundle"), "--input", str(place / "x.npz"), "--home", str(place)]
    more = ["--output", str(place / "out.parquet"), "--part-rows", "1", "--jobs", "2"]
    return [sys.executable, "-c", script, *arguments, *more]


def test_a_kill_loses_only_what_was_being_worked_on(place: Path) -> None:
    many = np.tile(X, (4, 1))
    (place / "x.npz").write_bytes(write_npz({"x": many}))
    parts = place / "out.parquet.parts"
    there = 0
    for kill in range(2):
        process = subprocess.Popen(command(place), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 60
        while len(list(parts.glob("*.parquet"))) < there + 3:
            assert time.monotonic() < limit
            assert process.poll() is None, "it was through before it could be killed"
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (place / "out.parquet").exists()
        before, there = there, len(list(parts.glob("*.parquet")))
        assert there > before, kill
        for part in parts.glob("*.parquet"):
            assert pq.read_table(part).num_rows == 1  # whole, whatever was killed
    done = run_batch(batch(place, part_rows=1), silent)
    assert done.resumed >= there
    check(lines(place / "out.parquet"), many)
    assert not parts.exists()


def test_a_worker_that_dies_leaves_finished_parts_for_the_next_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a worker that does its work, and is killed when it has written its third part
    script = (
        "import os, signal\n"
        "from edge_agent.batch import progress, worker\n"
        "write = progress.write_part\n"
        "def write_and_die(folder, part, content):\n"
        "    write(folder, part, content)\n"
        "    if part == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "progress.write_part = write_and_die\n"
        "worker.main()\n"
    )
    with monkeypatch.context() as patched:
        patched.setattr("edge_agent.batch.run.COMMAND", (sys.executable, "-c", script))
        with pytest.raises(ChildFailed) as error:
            run_batch(batch(place), silent)
    assert error.value.code == "crash"
    assert len(list((place / "out.parquet.parts").glob("*.parquet"))) == 3
    assert not (place / "out.parquet").exists()
    assert run_batch(batch(place), silent).resumed == 3 * 7
    check(lines(place / "out.parquet"))


def test_finished_parts_are_not_answered_again(place: Path) -> None:
    seen = []

    def begin(rows: int, resumed: int) -> Callable[[int], None]:
        def advance(count: int) -> None:
            seen.append(count)
            if len(seen) == 3:
                raise KeyboardInterrupt

        return advance

    with pytest.raises(KeyboardInterrupt):
        run_batch(batch(place), begin)
    first = part_path(place / "out.parquet.parts", 0)
    marked = pq.read_table(first).to_pylist()
    marked[0]["detail"] = "of the first run"
    pq.write_table(pa.Table.from_pylist(marked, schema=pq.read_schema(first)), first)
    assert run_batch(batch(place), silent).resumed >= 3 * 7
    found = lines(place / "out.parquet")
    assert found[0]["detail"] == "of the first run"
    check(found)


def test_the_progress_of_another_batch_is_not_taken_over(place: Path) -> None:
    plan = Plan("sha256:1", "a", 10, "f", 5)
    with progress_of(place / "out.parquet", plan), pytest.raises(HomeLocked):
        run_batch(batch(place), silent)
    with pytest.raises(AgentError, match="progress of another run"):
        run_batch(batch(place), silent)
    with progress_of(place / "out.parquet", plan):
        pass  # one's own is


def test_an_output_that_cannot_be_written_leaves_the_parts(place: Path) -> None:
    plan = Plan("sha256:1", "a", 1, "f", 1)
    table = pa.table({"row": [0]})
    (place / "out.parquet").mkdir()
    with progress_of(place / "out.parquet", plan) as folder:
        write_part(folder, 0, table)
        with pytest.raises(AgentError, match="finished parts are kept"):
            assemble(folder, plan, place / "out.parquet", table.schema)
        assert part_path(folder, 0).exists()
    assert not (place / "out.parquet.part").exists()


# --- the command line


def run(place: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["infer", str(place / "tiny.bundle"), "--home", str(place / "h"), *arguments]
    )


def test_the_command_line_tells_what_it_did(place: Path) -> None:
    data, out = str(place / "x.npz"), str(place / "out.parquet")
    result = run(place, "--input", data, "--output", out, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["rows"], told["resumed"], told["refused"]) == (60, 0, 0)
    assert "signature not checked" in result.stderr
    assert "60 rows in" in run(place, "--input", data, "--output", out).stdout


def test_refusals_are_counted_by_reason_and_a_set_without_any_answer_fails(place: Path) -> None:
    bad = X.copy()
    bad[7:] = np.nan
    (place / "x.npz").write_bytes(write_npz({"x": bad}))
    data, out = str(place / "x.npz"), str(place / "out.parquet")
    some = run(place, "--input", data, "--output", out)
    assert some.exit_code == 0 and "53 refused (not-finite: 53)" in some.stdout
    again = run(place, "--input", data, "--output", out, "--json")
    assert json.loads(again.stdout)["reasons"] == {"not-finite": 53}, "those of an earlier run too"
    (place / "x.npz").write_bytes(write_npz({"x": np.full_like(X, np.nan)}))
    none = run(place, "--input", data, "--output", str(place / "none.parquet"))
    assert none.exit_code == 1 and "no row of" in none.stderr


def test_a_folder_without_a_parquet_output_is_wrong_usage(place: Path) -> None:
    result = run(place, "--input", str(place))
    assert result.exit_code == 2
    assert "give --output X.parquet" in result.stderr
