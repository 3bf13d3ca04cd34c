"""What the commands `lineup set|clear` and `review set` do: check, bring in, store, tidy up.

They need no order to a running daemon: it looks at the documents and reads what has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.device.config import read_config
from edge_agent.device.home import Home
from edge_agent.doubt import members, settings
from edge_agent.doubt.settings import (
    LAST_GOOD,
    ExperimentSettings,
    LineupSettings,
    ReviewSettings,
    ShadowSettings,
)
from edge_agent.errors import ContractDiffers, SettingRefused
from edge_agent.sealed import read_folder
from edge_agent.updates.store import Store
from edge_agent.updates.trial import Limits
from edge_contracts.errors import ContractError
from edge_contracts.faults import ValidationError, first_fault
from edge_contracts.manifest import Manifest


@dataclass(frozen=True)
class Wishes:
    """What `lineup set` was asked for; None where nothing was said.

    Args:
        second: Path of a bundle, or "last-good".
        shadow_fields: Of ShadowSettings.
    """

    second: str | None = None
    arm_b: Path | None = None
    per_mille: int | None = None
    experiment: str | None = None
    shadow: Path | None = None
    shadow_fields: Mapping[str, Any] | None = None

    @staticmethod
    def of(
        second: str | None = None,
        ab: str | None = None,
        experiment: str | None = None,
        shadow: Path | None = None,
        shadow_share: float | None = None,
        shadow_cpu: float | None = None,
        shadow_memory: int | None = None,
        shadow_latency: float | None = None,
    ) -> Wishes:
        """From the options of the command.

        Raises:
            SettingRefused: --ab is not BUNDLE:SHARE.
        """
        path, share = (None, None) if ab is None else _arm(ab)
        fields = {
            "per_mille": None if shadow_share is None else round(shadow_share * 1000),
            "cpu_share": shadow_cpu,
            "memory_bytes": None if shadow_memory is None else shadow_memory << 20,
            "latency_ms": shadow_latency,
        }
        said = {name: value for name, value in fields.items() if value is not None}
        return Wishes(second, path, share, experiment, shadow, said)


def arrange(home: Home, wishes: Wishes) -> LineupSettings:
    """Put bundles beside the active one.

    Returns:
        The lineup as it is stored now.

    Raises:
        SettingRefused: The wishes contradict each other or what is there.
        AgentError, ContractError: A bundle must not or does not run here; see `members.bring`.
    """
    home.make()
    with settings.alone(home):
        stored = settings.read_lineup(home)
        fields: dict[str, Any] = {"second": stored.second, "experiment": stored.experiment}
        fields |= {"shadow": stored.shadow, "choices": dict(stored.choices)}
        active = _active_manifest(home)
        if wishes.second == LAST_GOOD:
            fields["second"] = LAST_GOOD
        elif wishes.second is not None:
            brought = members.bring(home, Path(wishes.second), active)
            if not _has_threshold(brought):
                raise ContractDiffers(
                    "no-threshold",
                    f"{brought.manifest.name} {brought.manifest.version} states no confidence below which it "
                    "abstains, so it cannot tell whether it is sure; build it with an evaluation file",
                )
            fields["second"] = brought.digest
            fields["choices"][brought.digest] = members.as_settings(brought.choice)
        if wishes.arm_b is not None:
            brought = members.bring(home, wishes.arm_b, active)
            fields["experiment"] = ExperimentSettings(
                name=wishes.experiment or brought.manifest.name,
                bundle=brought.digest,
                per_mille=wishes.per_mille or 0,
            )
            fields["choices"][brought.digest] = members.as_settings(brought.choice)
        elif wishes.experiment is not None:
            raise SettingRefused("--experiment names an experiment: give --ab BUNDLE:SHARE with it")
        fields["shadow"] = _shadow(home, wishes, stored, active, fields["choices"])
        wanted = LineupSettings(**fields)
        named = wanted.bundles
        final = wanted.model_copy(
            update={"choices": {digest: c for digest, c in wanted.choices.items() if digest in named}}
        )
        members.note_starts(home, 0)  # whatever kept the agent down may be mended: try again
        settings.store_lineup(home, final)
        members.tidy(home, final)
    return final


def take_away(home: Home, which: str | None) -> LineupSettings:
    """Take members away: "second", "experiment", "shadow", or None for all; what is left.

    Raises:
        HomeInvalid: The document cannot be read or written.
    """
    home.make()
    with settings.alone(home):
        stored = settings.read_lineup(home)
        final = LineupSettings() if which is None else stored.model_copy(update={which: None})
        settings.store_lineup(home, final)
        members.tidy(home, final)
    return final


def settle_review(home: Home, changes: Mapping[str, Any]) -> ReviewSettings:
    """Store changed settings about reviews.

    Raises:
        SettingRefused: They cannot be.
        HomeInvalid: The document cannot be read or written.
    """
    if (address := str(changes.get("upload_to", ""))) and not settings.may_receive(address):
        raise SettingRefused(
            f"--upload-to {address!r:.200} is no address that inputs may leave to: it must be "
            "https://HOST/..., or http to this machine itself (127.0.0.1)"
        )
    home.make()
    with settings.alone(home):
        stored = settings.read_review(home)
        try:
            final = ReviewSettings.model_validate(stored.model_dump() | dict(changes))
        except ValidationError as error:
            raise SettingRefused(first_fault(error, ReviewSettings.__struct_fields__)) from None
        if final.upload_to and read_config(home) is None:
            raise SettingRefused("what is sent is signed with the device's key: enrol the device first")
        if changes:
            settings.store_review(home, final)
    return final


def as_text(found: LineupSettings | ReviewSettings) -> str:
    """As a person reads it."""
    if isinstance(found, ReviewSettings):
        lines = [
            f"kept        {'uncertain inputs' if found.keep else 'nothing'}, encrypted, "
            f"{found.max_bytes / (1 << 20):.3g} MB and {found.max_count} inputs at most, "
            f"{found.per_minute} a minute"
        ]
        where = f"to {found.upload_to}, {found.bytes_per_day / (1 << 20):.3g} MB a day at most"
        return "\n".join([*lines, f"uploaded    {where if found.upload_to else 'never'}"])
    return "\n".join(settings.described(found) or ["nobody stands beside the active model"])


def _shadow(
    home: Home,
    wishes: Wishes,
    stored: LineupSettings,
    active: Manifest | None,
    choices: dict[str, Any],
) -> ShadowSettings | None:
    said = dict(wishes.shadow_fields or {})
    if wishes.shadow is None:
        if not said or stored.shadow is None:
            if said:
                raise SettingRefused("there is no shadow whose budget could be set: give --shadow BUNDLE")
            return stored.shadow
        return stored.shadow.model_copy(update=said)
    budget = int(said.get("memory_bytes", settings.SHADOW_MEMORY_BYTES))
    brought = members.bring(home, wishes.shadow, active, Limits(memory_bytes=budget))
    choices[brought.digest] = members.as_settings(brought.choice)
    return ShadowSettings(bundle=brought.digest, **said)


def _has_threshold(brought: members.Brought) -> bool:
    stated = brought.manifest.confidence.get(brought.choice.option.artifact)
    return stated is not None and stated.abstain_below is not None


def _arm(text: str) -> tuple[Path, int]:
    path, colon, share = text.rpartition(":")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not colon or not path or not 0 <= value <= 1:
        raise SettingRefused(
            f"--ab {text!r:.200} is not BUNDLE:SHARE with a share of 0 to 1, such as b.bundle:0.2"
        )
    return Path(path), round(value * 1000)


def _active_manifest(home: Home) -> Manifest | None:
    slots = Store(home).slots
    if slots.active is None:
        return None
    try:
        return read_folder(home.slot(slots.active)).manifest
    except ContractError:
        return None  # damaged: the agent finds out and says so
