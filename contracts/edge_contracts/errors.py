"""What can be refused at a boundary.

ContractError                    every refusal; its text is one line: found, expected, what to do
 +- FormatInvalid                bytes that do not parse as what they should be
 |   +- FormatTooNew             a format version that this release does not know
 |   +- BundleInvalid            an archive that is damaged, unsafe or not ours
 +- NoMemory                     there is no memory for it: says nothing about what it is
 +- DigestMismatch               content that is not what its digest says
 +- SignatureInvalid             a signature that does not verify
 |   +- KeyUnknown               signed by a key that nobody here trusts
 +- KeyInvalid                   a key file that is not an Ed25519 key
 +- ProfileInvalid               a device profile with a fault; unknown keys are named with the nearest
 +- ProfileUnknown               no profile of that name
 +- TopicInvalid                 a topic or identifier outside the grammar
 +- MissingExtra                 an optional part of the distribution is not installed

Each class has a `code`, the short word that telemetry and HTTP answers carry.
"""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """What an error says, on one line of at most 300 characters; a library's may have many lines, or none."""
    told = getattr(error, "orig", None) or error  # a database's own words, without the statement
    return " ".join(str(told).split())[:300] or type(told).__name__


class ContractError(Exception):
    """Every refusal at a boundary."""

    code = "refused"


class FormatInvalid(ContractError):
    """Bytes that do not parse as what they should be."""

    code = "format-invalid"


class FormatTooNew(FormatInvalid):
    """A format version that this release does not know."""

    code = "format-unknown"


class BundleInvalid(FormatInvalid):
    """An archive that is damaged, unsafe or not one of ours."""

    code = "bundle-invalid"


class NoMemory(ContractError):
    """There is no memory for it; it may be well, and is not to be thrown away for that."""

    code = "no-memory"


class DigestMismatch(ContractError):
    """Content that is not what its digest says."""

    code = "digest-mismatch"


class SignatureInvalid(ContractError):
    """A signature that does not verify."""

    code = "signature-invalid"


class KeyUnknown(SignatureInvalid):
    """Signed by a key that is not trusted here."""

    code = "key-unknown"


class KeyInvalid(ContractError):
    """A file that does not hold an Ed25519 key."""

    code = "key-invalid"


class ProfileInvalid(ContractError):
    """A device profile with a fault."""

    code = "profile-invalid"


class ProfileUnknown(ContractError):
    """No device profile of that name."""

    code = "profile-unknown"


class TopicInvalid(ContractError):
    """A topic or an identifier outside the grammar."""

    code = "topic-invalid"


class MissingExtra(ContractError):
    """An optional part of the distribution is not installed."""

    code = "missing-extra"
