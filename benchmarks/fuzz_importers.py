"""Damaged model files, thousands of them, through every importer: what must never happen is counted.

    python benchmarks/fuzz_importers.py --seconds 60

A file is good, or is refused by an error of ours on one line. Anything else is a fault: another exception, a
crash of the process, more than 10 seconds, more than 2 GB. Seeds are small models made here, and those of
../shared/data where that folder is; damage is truncation, flipped bits, runs of bytes cut out, doubled or
overwritten, and absurd numbers in the places where dimensions, indices and attributes stand. Every case can
be repeated: `--case NUMBER` runs one and prints what it said.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from conversion_cases import SHARED
from fuzz_seeds import seeds

from edge_contracts.errors import ContractError
from edge_convert.errors import ConvertError
from edge_convert.source import read_source

MEMORY_BYTES = 2 * 10**9  # above what the process has before it reads anything
FILE_SECONDS = 10
BATCH = 250
ABSURD = (0, 1, -1, 2, 127, 255, 65535, 2**20, 2**24, 2**31 - 1, -(2**31), 2**32, 2**40, 2**62, -(2**62))


class TooSlow(Exception):
    """A file took longer than it may."""


def damaged(content: bytes, rng: np.random.RandomState) -> bytes:
    """A file with one to four kinds of damage done to it."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 5)):
        if not data:
            break
        start = rng.randint(len(data))
        length = min(int(2 ** rng.uniform(0, 10)), len(data) - start)
        kind = rng.randint(7)
        if kind == 0 and rng.randint(4) == 0:
            del data[start:]
        elif kind == 1:
            data[start] ^= 1 << rng.randint(8)
        elif kind == 2:
            del data[start : start + length]
        elif kind == 3:
            data[start:start] = data[start : start + length]
        elif kind == 4:
            data[start : start + length] = rng.bytes(length)
        elif kind == 5:  # a 32-bit number of a flatbuffer
            place = start & ~3
            data[place : place + 4] = (ABSURD[rng.randint(len(ABSURD))] & 0xFFFFFFFF).to_bytes(4, "little")
        else:  # a number of a protobuf
            data[start : start + 1] = _varint(ABSURD[rng.randint(len(ABSURD))])
    return bytes(data)


def _varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def absurd_onnx(content: bytes, rng: np.random.RandomState) -> bytes:
    """A sound protobuf with absurd numbers in it: dimensions, lists of integers, element types."""
    import onnx

    model = onnx.load_model_from_string(content)
    places: list[Any] = [t for t in model.graph.initializer]
    places += [v.type.tensor_type for v in model.graph.input]
    places += [a for node in model.graph.node for a in node.attribute if a.ints or a.HasField("i")]
    for _ in range(rng.randint(1, 4)):
        place, number = places[rng.randint(len(places))], ABSURD[rng.randint(len(ABSURD))]
        if isinstance(place, onnx.TensorProto):
            if place.data_type == onnx.TensorProto.INT64 and rng.randint(2):  # a shape, axes, pads
                elements = onnx.numpy_helper.to_array(place).copy().ravel()
                if elements.size:
                    elements[rng.randint(elements.size)] = number
                    place.CopyFrom(onnx.numpy_helper.from_array(elements, place.name))
            elif place.dims:
                place.dims[rng.randint(len(place.dims))] = number
        elif isinstance(place, onnx.AttributeProto):
            if place.ints:
                place.ints[rng.randint(len(place.ints))] = number
            else:
                place.i = number
        elif len(place.shape.dim):
            place.shape.dim[rng.randint(len(place.shape.dim))].dim_value = number
    return bytes(model.SerializeToString())


def absurd_tflite(content: bytes, rng: np.random.RandomState) -> bytes:
    """A sound flatbuffer with absurd numbers in it: shapes, constants, options."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    graph = model.subgraphs[0]
    for _ in range(rng.randint(1, 4)):
        number = int(np.clip(ABSURD[rng.randint(len(ABSURD))], -(2**31), 2**31 - 1))
        kind = rng.randint(3)
        tensor = graph.tensors[rng.randint(len(graph.tensors))]
        if kind == 0 and tensor.shape is not None and len(tensor.shape):
            shape = np.array(tensor.shape, np.int32)
            shape[rng.randint(len(shape))] = number
            tensor.shape = shape
        elif kind == 1 and tensor.type == schema.TensorType.INT32:
            stored = model.buffers[tensor.buffer].data
            if stored is not None and len(stored) >= 4:
                numbers = np.frombuffer(bytes(bytearray(stored)), np.int32).copy()
                numbers[rng.randint(len(numbers))] = number
                model.buffers[tensor.buffer].data = np.frombuffer(numbers.tobytes(), np.uint8)
        else:
            options = graph.operators[rng.randint(len(graph.operators))].builtinOptions
            fields = [name for name, value in vars(options or object).items() if type(value) is int]
            if fields:
                setattr(options, fields[rng.randint(len(fields))], int(np.clip(number, -128, 127)))
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def case(number: int, known: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """The file of a number: a name with its suffix, and the bytes."""
    rng = np.random.RandomState(number)
    name, content = known[number % len(known)]
    if rng.randint(3) == 0:
        try:
            absurd = absurd_onnx if name.endswith(".onnx") else absurd_tflite
            return name, absurd(content, rng)
        except (ValueError, TypeError, OverflowError, AttributeError):
            pass  # a number that the format cannot hold; damage it otherwise
    return name, damaged(content, rng)


def _ring(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def read(name: str, content: bytes, folder: Path) -> str:
    """Read one file; "" when it is sound, ours when refused, else what went wrong."""
    path = folder / name
    path.write_bytes(content)
    signal.alarm(FILE_SECONDS)
    try:
        read_source(path)
    except (ConvertError, ContractError) as error:
        return "" if "\n" not in str(error).strip() and str(error) else "FAULT: not one line"
    except TooSlow:
        return f"FAULT: more than {FILE_SECONDS} s"
    except MemoryError:
        return "FAULT: more than 2 GB"
    except Exception as error:  # whatever it is, it is what we look for
        return f"FAULT: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    finally:
        signal.alarm(0)
    return ""


def run_batch(first: int, count: int) -> None:
    """Read some files in this process, telling before and after each."""
    known = all_seeds()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    signal.signal(signal.SIGALRM, _ring)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            print(json.dumps({"case": number}), flush=True)
            said = read(*case(number, known), Path(folder))
            print(json.dumps({"case": number, "said": said}), flush=True)


def all_seeds() -> list[tuple[str, bytes]]:
    """What is damaged, small files only."""
    known = seeds()
    for path in sorted((SHARED / "models").glob("*")) if SHARED.is_dir() else ():
        if path.suffix in (".onnx", ".tflite") and path.stat().st_size < 120_000:
            known.append((path.name, path.read_bytes()))
    return known


def faults(first: int, seconds: float) -> Iterator[tuple[int, str]]:
    """Run batches in children until the time is over; give (case, what happened), "" when all was well."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        command = [sys.executable, __file__, "--batch", str(first), "--count", str(BATCH)]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        began = -1
        for line in child.stdout.splitlines():
            report = json.loads(line)
            began = report["case"]
            if "said" in report:
                yield began, report["said"]
                began = -1
        if child.returncode or began >= 0:
            yield began, f"FAULT: the process died ({child.returncode}): {child.stderr[-200:]!r}"
        first += BATCH


def main() -> None:
    """Fuzz for a while and print the faults; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="run this one alone and show its trace")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.batch is not None:
        run_batch(asked.batch, asked.count)
        return
    if asked.case is not None:
        with tempfile.TemporaryDirectory() as folder:
            name, content = case(asked.case, all_seeds())
            (Path(folder) / name).write_bytes(content)
            read_source(Path(folder) / name)
        return
    total, kinds = 0, Counter[str]()
    examples: dict[str, int] = {}
    for number, said in faults(asked.first, asked.seconds):
        total += 1
        if said:
            kinds[said[:120]] += 1
            examples.setdefault(said[:120], number)
    print(f"{total} damaged files in {asked.seconds:.0f} s, {sum(kinds.values())} faults")
    for kind, count in kinds.most_common():
        print(f"  {count:5}  case {examples[kind]}: {kind}")
    sys.exit(1 if kinds else 0)


if __name__ == "__main__":
    main()
