"""What edge-convert can refuse.

ConvertError                    every refusal; its text is one line, found and expected
 +- SourceInvalid               the file is not a model, is truncated, or holds NaN weights
 |   +- UnsupportedOperator     an operator outside the set, with its node
 |   +- UnsupportedFeature      an operator inside the set, used in a way that is not (dynamic shape ...)
 +- GraphInvalid                a graph that breaks the rules of graph.py
 +- DataInvalid                 calibration or evaluation data of the wrong shape, dtype or range
 +- VersionMismatch             a file that is not the version which its DVC file states
 +- RegistryFailed              MLflow has no such model, nothing to convert in it, or does not answer
 +- DoesNotFit                  the graph cannot run on this profile
 +- RecipeInvalid               a recipe file that does not parse
 +- DistillationRefused         no gradients for this graph, too few samples, or the extra is missing
 +- EmulationMissing            no aarch64 userland, or one that lacks what was asked of it
 +- EmulationFailed             a file does not run in the emulation, or answers otherwise there
 +- CompilerMissing             an accelerator's compiler that was named is not there
"""


class ConvertError(Exception):
    """Every refusal of the converter."""


class SourceInvalid(ConvertError):
    """The source file cannot be read as a model."""


class UnsupportedOperator(SourceInvalid):
    """An operator outside the set; the message names it and its node."""


class UnsupportedFeature(SourceInvalid):
    """A use of an operator that cannot be expressed; the message names the node and what it was."""


class GraphInvalid(ConvertError):
    """A graph that breaks the rules that passes and targets rely on."""


class DataInvalid(ConvertError):
    """Calibration or evaluation data that does not belong to the model."""


class VersionMismatch(ConvertError):
    """A file that is not the version which its keeper states."""


class RegistryFailed(ConvertError):
    """A model registry that has not what was asked for, or does not answer."""


class DoesNotFit(ConvertError):
    """The graph cannot run on the profile."""


class RecipeInvalid(ConvertError):
    """A recipe that does not parse or names something unknown."""


class DistillationRefused(ConvertError):
    """A graph that cannot be distilled here; the message says what stands in the way."""


class EmulationMissing(ConvertError):
    """There is nothing to emulate an ARM CPU with; the message says how to get it."""


class EmulationFailed(ConvertError):
    """A file does not run on an emulated ARM CPU."""


class CompilerMissing(ConvertError):
    """An accelerator's compiler that the environment names cannot be found."""
