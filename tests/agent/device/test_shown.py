"""What the doctor says of the certificate that the device shows to the broker."""

from __future__ import annotations

from pathlib import Path
from time import time

import pytest
from enrolled_device import device_config
from served_tls import Authority

from edge_agent.device import doctor, shown
from edge_agent.device.finding import Finding, Grade
from edge_agent.device.home import Home, write_durably
from edge_agent.device.shown import judge
from edge_agent.device.words import moment
from edge_contracts.model import canonical_json

DAY_MS = 86_400_000
CA = Authority("the fleet")


def looked_at(
    home: Home, starts_days: float, days: float, text: str = "Renew: {renew_ms}\n"
) -> list[Finding]:
    """At a certificate that is stored, to be renewed at two thirds of 90 days before its end."""
    home.make()
    CA.issue(home.folder / "c", home.folder / "k", starts_days, days)
    renew_ms = int(time() * 1000 + (days - 30) * DAY_MS)
    pem = (home.folder / "c").read_text()
    home.certificate.write_text(text.format(renew_ms=renew_ms) + pem)
    return list(shown.examine(home, device_config(mqtt_certificate=pem, mqtt_certificate_renew_ms=renew_ms)))


def test_where_the_broker_asks_for_none_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert list(shown.examine(Home(tmp_path), device_config())) == []


@pytest.mark.parametrize(
    ("starts_days", "days", "grade", "said", "advice"),
    [
        (-1, 89, Grade.GOOD, "until", ""),
        (-65, 25, Grade.GOOD, "until", ""),  # a connection has stood since the 60th day
        (-80, 10, Grade.NOTICE, "was to be renewed from", "restart the agent"),
        (-95, -5, Grade.WRONG, "not renewed since", "enroll --force"),
        (1, 91, Grade.WRONG, "takes it from", "date --set"),
    ],
)
@pytest.mark.parametrize("text", ["Renew: {renew_ms}\n", "", "damaged"])
def test_a_certificate_is_good_was_not_renewed_has_ended_or_is_not_good_yet(
    tmp_path: Path, starts_days: float, days: float, grade: Grade, said: str, advice: str, text: str
) -> None:
    (found,) = looked_at(Home(tmp_path), starts_days, days, text)
    assert found.grade is grade
    assert said in found.detail
    assert advice in found.advice


def test_the_dates_are_said() -> None:
    start, renew, end = (1_800_000_000_000 + days * DAY_MS for days in (0, 60, 90))
    assert judge(start, renew, end, end).detail == (
        f"ended {moment(end)}, not renewed since {moment(renew)}: the broker does not take it"
    )
    assert judge(start, renew, end, end - 1).grade is Grade.NOTICE
    assert judge(start, renew, end, start).grade is Grade.GOOD
    assert moment(start) in judge(start, renew, end, start - 1).detail


def test_a_damaged_one_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.certificate.write_text("Renew: 1\nnonsense")
    (found,) = shown.examine(home, device_config(mqtt_certificate="x"))
    assert found.is_wrong
    assert "is damaged" in found.detail


def test_the_doctor_looks_at_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    CA.issue(tmp_path / "c", tmp_path / "k", -95, -5)
    pem = (tmp_path / "c").read_text()
    config = device_config(mqtt_certificate=pem, mqtt_certificate_renew_ms=1)
    write_durably(home.config, canonical_json(config))
    (found,) = [f for f in doctor.examine(home) if f.subject == shown.SUBJECT]
    assert found.detail.startswith("ended ")
