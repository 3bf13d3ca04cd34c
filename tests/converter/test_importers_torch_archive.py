"""What may not be in a .pt2 archive, told without PyTorch: archives made by hand."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest

from edge_convert.errors import SourceInvalid, UnsupportedFeature, UnsupportedOperator
from edge_convert.importers.torch_archive import clean

WEIGHT = {"path_name": "weight_0", "is_param": True, "use_pickle": False,
          "tensor_meta": {"sizes": [{"as_int": 2}]}}  # fmt: skip
SPEC = '[1, {"type": "builtins.tuple", "context": "null", "children_spec": []}]'


def node(**changes: Any) -> dict[str, Any]:
    return {
        "target": "torch.ops.aten.relu.default",
        "name": "relu",
        "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "x"}}, "kind": 1}],
        "outputs": [{"as_tensor": {"name": "relu"}}],
        "metadata": {"stack_trace": "/home/somebody/model.py"},
    } | changes


def program(*nodes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "graph_module": {
            "graph": {"nodes": list(nodes) or [node()], "inputs": [], "outputs": []},
            "module_call_graph": [{"fqn": "", "signature": {"in_spec": SPEC, "out_spec": SPEC}}],
        },
        "guards_code": ["L['x'].size()[0] == 1"],
        "range_constraints": {"s77": {"min_val": 0, "max_val": None}},
    } | changes


def archive(document: Any = None, weight: Any = None, **members: bytes) -> bytes:
    files = {
        "m/archive_version": b"0",
        "m/models/model.json": json.dumps(document or program()).encode(),
        "m/data/weights/weight_0": b"\0" * 8,
        "m/data/weights/model_weights_config.json": json.dumps({"config": {"w": weight or WEIGHT}}).encode(),
        "m/data/sample_inputs/model.pt": b"a pickle",
    } | members
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
    return stream.getvalue()


def test_sample_inputs_guards_and_stack_traces_are_left_out() -> None:
    with zipfile.ZipFile(io.BytesIO(clean(archive()))) as cleaned:
        document = json.loads(cleaned.read("model/models/model.json"))
        assert cleaned.read("model/data/sample_inputs/model.pt") == b""
        assert cleaned.read("model/data/weights/weight_0") == b"\0" * 8
    assert document["guards_code"] == []
    assert [n["metadata"] for n in document["graph_module"]["graph"]["nodes"]] == [{}]


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (WEIGHT | {"use_pickle": True}, "kept as a pickle"),
        ({k: v for k, v in WEIGHT.items() if k != "use_pickle"}, "kept as a pickle"),
        (WEIGHT | {"path_name": "custom_obj_0"}, "custom_obj_0"),
        (WEIGHT | {"path_name": "weight_7"}, "has no data"),
        ("weight_0", "kept as a pickle"),
    ],
)
def test_tensors_that_are_not_plain_bytes_are_refused(payload: Any, why: str) -> None:
    with pytest.raises(SourceInvalid, match=why):
        clean(archive(weight=payload))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("m/data/aotinductor/model/model.so", "compiled code"),
        ("m/data/weights/model.pt", "torch 2.9 or newer"),
        ("m/serialized_state_dict.pt", "torch 2.9 or newer"),
        ("m/data/constants/custom_obj_0", "custom class"),
        ("m/data/constants/opaque_obj_0", "custom class"),
        ("m/../../etc/passwd", "no place"),
    ],
)
def test_members_that_could_run_code_are_refused(path: str, why: str) -> None:
    with pytest.raises(SourceInvalid, match=why):
        clean(archive(**{path: b"x"}))


@pytest.mark.parametrize("size", ["__import__('os').system('id')", "9**9**9", "open('x')", "s0.free_symbols",
                                  "Symbol('x')", "Symbol('s0', cls=int)", "exec(1)"])  # fmt: skip
def test_a_size_that_python_would_evaluate_is_refused(size: str) -> None:
    document = program(sizes=[{"as_expr": {"expr_str": size}}])
    with pytest.raises(SourceInvalid, match="a size is given as"):
        clean(archive(document))


@pytest.mark.parametrize("size", ["2*s0 + 1", "Symbol('s77', positive=True, integer=True)", "Max(1, s0 - 3)"])
def test_a_size_that_is_arithmetic_is_taken(size: str) -> None:
    clean(archive(program(sizes=[{"as_expr": {"expr_str": size}}])))


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "math.sqrt",
        "torch.ops.mine.op.default",
        "torch.ops.higher_order.cond",
        "_operator.attrgetter",
        "#mine:op",
    ],
)
def test_an_operator_that_is_not_atens_is_named(target: str) -> None:
    with pytest.raises(UnsupportedOperator, match=f"operator {target} of node 'odd'"):
        clean(archive(program(node(), node(target=target, name="odd"))))


def test_a_text_argument_that_could_be_a_file_name_is_refused() -> None:
    wanted = [{"name": "filename", "arg": {"as_string": "/etc/passwd"}, "kind": 1}]
    with pytest.raises(SourceInvalid, match="text argument '/etc/passwd'"):
        clean(archive(program(node(target="torch.ops.aten.from_file.default", inputs=wanted))))


@pytest.mark.parametrize(
    "spec",
    [
        SPEC.replace("builtins.tuple", "mine.Point"),
        SPEC.replace('"null"', json.dumps('[{"__enum__": true, "fqn": "os:x", "name": "y"}]')),
        "not json",
    ],
)
def test_a_call_signature_that_would_import_is_refused(spec: str) -> None:
    document = program()
    document["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec
    with pytest.raises((SourceInvalid, UnsupportedFeature)):
        clean(archive(document))


def test_control_flow_and_custom_objects_are_refused() -> None:
    for kind, word in (("as_graph", "control flow"), ("as_custom_obj", "custom class")):
        with pytest.raises(UnsupportedFeature, match=word):
            clean(archive(program(node(inputs=[{"name": "x", "arg": {kind: {}}}]))))


@pytest.mark.parametrize(("operator", "argument"), [("dropout", "train"), ("batch_norm", "training")])
def test_a_model_in_training_mode_is_refused(operator: str, argument: str) -> None:
    target = f"torch.ops.aten.{operator}.default"
    for training in (True, False):
        made = node(target=target, inputs=[{"name": argument, "arg": {"as_bool": training}}])
        if not training:
            clean(archive(program(made)))
            continue
        with pytest.raises(UnsupportedFeature, match=r"call model\.eval\(\)"):
            clean(archive(program(made)))


def test_an_archive_that_unpacks_too_large_is_refused_before_it_is_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_convert.importers.torch_archive.MAX_UNPACKED_BYTES", 10)
    with pytest.raises(SourceInvalid, match="at most 10"):
        clean(archive())


def test_no_truncation_or_flipped_byte_does_more_than_refuse() -> None:
    whole = archive()
    for position in range(0, len(whole), 7):
        broken = bytearray(whole)
        broken[position] ^= 0x41
        for content in (bytes(broken), whole[:position]):
            try:
                clean(content)
            except SourceInvalid:
                continue


def test_absurd_documents_are_refused() -> None:
    documents: list[Any] = [[], 3, {"graph_module": 3}, {"graph_module": {"graph": {"nodes": [3]}}}]
    for document in documents:
        with pytest.raises(SourceInvalid):
            clean(archive(**{"m/models/model.json": json.dumps(document).encode()}))
    with pytest.raises(SourceInvalid, match="not JSON"):
        clean(archive(**{"m/models/model.json": b"[" * 100_000}))
