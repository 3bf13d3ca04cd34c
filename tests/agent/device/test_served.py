"""What the doctor says of the certificate that the daemon serves with."""

from __future__ import annotations

from pathlib import Path

import pytest
from served_tls import Authority

from edge_agent.device import doctor, served
from edge_agent.device.finding import Finding, Grade
from edge_agent.device.home import Home
from edge_agent.serving.tls import note_served

CA = Authority("a ca")


def looked_at(home: Home, starts_days: float = -1, days: float = 90) -> list[Finding]:
    cert, key = home.folder / "cert.pem", home.folder / "key.pem"
    CA.issue(cert, key, starts_days, days)
    note_served(home, cert, key)
    return list(served.examine(home))


def test_where_nothing_is_served_with_tls_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert list(served.examine(Home(tmp_path))) == []


@pytest.mark.parametrize(
    ("starts_days", "days", "grade", "said", "advice"),
    [
        (-1, 90, Grade.GOOD, "good for 90 days", ""),
        (-1, 10, Grade.NOTICE, "ends in 10 days", "renew"),
        (-9, -1, Grade.WRONG, "has ended", "renew"),
        (1, 90, Grade.WRONG, "not good yet", "clock"),
    ],
)
def test_a_certificate_is_good_ends_soon_has_ended_or_is_not_good_yet(
    tmp_path: Path, starts_days: float, days: float, grade: Grade, said: str, advice: str
) -> None:
    (found,) = looked_at(Home(tmp_path), starts_days, days)
    assert found.grade is grade
    assert said in found.detail
    assert advice in found.advice


def test_a_key_of_another_certificate_is_found(tmp_path: Path) -> None:
    home = Home(tmp_path)
    looked_at(home)
    CA.issue(tmp_path / "other.pem", tmp_path / "key.pem")
    (found,) = served.examine(home)
    assert found.is_wrong
    assert "no certificate with its key" in found.detail


def test_the_doctor_looks_at_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    looked_at(home, -9, -1)
    assert [f.detail for f in doctor.examine(home) if f.subject == served.SUBJECT] == [
        "the certificate of --serve-cert has ended"
    ]
