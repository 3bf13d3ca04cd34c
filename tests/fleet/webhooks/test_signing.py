"""Signatures as the Standard Webhooks specification has them, with its own example."""

from __future__ import annotations

import pytest

from edge_fleet.webhooks.retries import ATTEMPTS, FIRST_S, LARGEST_S, is_taken, next_wait_s
from edge_fleet.webhooks.signing import headers, secret_of, sign, verify

# the example of the specification's reference libraries
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'


def test_the_specifications_example_gives_the_specifications_signature() -> None:
    assert sign(SECRET, MESSAGE, TIMESTAMP, BODY) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_was_signed_is_believed_also_among_other_signatures() -> None:
    sent = headers(SECRET, MESSAGE, TIMESTAMP, BODY)
    assert verify(SECRET, sent, BODY, TIMESTAMP + 299) == ""
    both = {**sent, "webhook-signature": f"v1,AAAA {sent['webhook-signature']}"}
    assert verify(SECRET, both, BODY, TIMESTAMP) == ""


@pytest.mark.parametrize(
    ("changes", "body", "later_s", "why"),
    [
        ({}, BODY + b" ", 0, "another"),
        ({"webhook-id": "msg_other"}, BODY, 0, "another"),
        ({"webhook-timestamp": str(TIMESTAMP + 1)}, BODY, 0, "another"),
        ({"webhook-signature": "v1,"}, BODY, 0, "another"),
        ({"webhook-signature": ""}, BODY, 0, "another"),
        ({"webhook-timestamp": "soon"}, BODY, 0, "no timestamp"),
        ({"webhook-id": ""}, BODY, 0, "no id"),
        ({}, BODY, 301, "301 s away"),
        ({}, BODY, -301, "away from now"),
    ],
)
def test_anything_else_is_not(changes: dict[str, str], body: bytes, later_s: int, why: str) -> None:
    sent = {**headers(SECRET, MESSAGE, TIMESTAMP, BODY), **changes}
    assert why in verify(SECRET, sent, body, TIMESTAMP + later_s)
    assert verify(secret_of(b"x" * 32), headers(SECRET, MESSAGE, TIMESTAMP, BODY), BODY, TIMESTAMP)


def test_waits_grow_with_jitter_to_an_hour_and_end() -> None:
    assert [next_wait_s(n, 0.0) for n in (1, 5)] == [1.0, 1.0], "jitter is full"
    most = [next_wait_s(n, 1.0) for n in range(1, ATTEMPTS)]
    assert most[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S] and most[-1] == LARGEST_S
    assert next_wait_s(ATTEMPTS, 0.5) is None


def test_only_a_2xx_means_that_it_was_taken() -> None:
    assert [is_taken(s) for s in (199, 200, 204, 299, 301, 307, 400, 500)] == [False, True, True, True] + [
        False
    ] * 4
