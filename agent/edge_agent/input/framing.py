"""From a frame of any source to a sample of the model that is open now, by its contract.

A frame knows nothing of models: a camera goes on while one is replaced by another with other sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_agent.inference.source import BadFile, Frame, Sample
from edge_agent.input.prepare import Prepared, prepare, prepare_pixels, spec_of
from edge_contracts.errors import FormatInvalid, MissingExtra, NoMemory
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.processing import Picture


def framed(frame: Frame, manifest: Manifest) -> Sample | BadFile:
    """The tensors of a frame, or why there are none."""
    try:
        loaded = frame.load()
        made = (
            prepare(manifest, "", loaded, frame.media_type)
            if isinstance(loaded, bytes)
            else _from_array(loaded, manifest)
        )
    except InputRefused as error:
        frame.refused()
        return BadFile(frame.origin, str(error), error.code)
    except (FormatInvalid, MissingExtra) as error:
        frame.refused()
        return BadFile(frame.origin, str(error))
    except MemoryError:
        frame.refused()
        return BadFile(frame.origin, "there is no memory for it", NoMemory.code)
    return Sample(made.inputs, frame.origin, made.view)


def _from_array(array: NDArray[Any], manifest: Manifest) -> Prepared:
    """An array as it is, or as pixels where it can be nothing else."""
    spec = spec_of(manifest, "")
    if isinstance(spec.prepare, Picture) and _is_pixels(array, spec):
        return prepare_pixels(manifest, "", array)
    if array.ndim == len(spec.shape) - 1:
        array = array[np.newaxis]
    return Prepared({spec.name: array})


def _is_pixels(array: NDArray[Any], spec: TensorSpec) -> bool:
    """Whether an array is an RGB picture and not the tensor itself."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        return False
    return spec.dtype != "uint8" or array.shape != spec.shape[1:]
