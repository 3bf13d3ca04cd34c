"""Print the verified telemetry of a fleet.

    python examples/subscriber.py HOST PORT USER PASSWORD FLEET DEVICES.json [FOLDER]

USER and PASSWORD come from edge-fleet token create --role subscriber, DEVICES.json from
edge-fleet devices --json. Where the broker asks for certificates, FOLDER is what --certificate
was given, and PASSWORD any word.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import cbor2
import paho.mqtt.client as mqtt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

if len(sys.argv) < 7:
    sys.exit(__doc__)
host, port, user, password, fleet, devices, *folder = sys.argv[1:]
HEAD = bytes.fromhex("d284 5826 a2 01 27 04 5820")
keys = {d["id"]: base64.b64decode(d["public_key"]) for d in json.loads(Path(devices).read_text())}


def opened(envelope: bytes, topic: str, key: bytes) -> Any:
    """What a device has signed for a topic: COSE_Sign1 (RFC 9052, section 4.4), in our one spelling of it.

    Nothing is decoded before it is verified, and nothing that has a tag at all: a decimal fraction that takes
    a decoder half a minute can come from whoever may write to the broker, or a device that was taken over.
    """
    # tag 18, four parts: header {1: EdDSA, 4: 32 bytes of key id}, {}, payload, 64 bytes of signature
    if (envelope[:10], envelope[42:43], envelope[-66:-64]) != (HEAD, b"\xa0", b"\x58\x40"):
        raise ValueError("not such an envelope")
    payload = envelope[43:-66]  # with its length in front, as it was signed
    signed = b"\x84" + cbor2.dumps("Signature1") + envelope[2:42] + cbor2.dumps(topic.encode()) + payload
    Ed25519PublicKey.from_public_bytes(key).verify(envelope[-64:], signed)
    return decoded(decoded(payload))


def decoded(content: bytes) -> Any:
    """CBOR without tags. Heads follow one another flatly, whatever is inside what (RFC 8949, section 3)."""
    at = 0
    while at < len(content):
        major, info = divmod(content[at], 32)
        if major == 6 or info in (28, 29, 30):
            raise ValueError("a tag, or no CBOR")
        width = 1 << info - 24 if 24 <= info < 28 else 0
        length = int.from_bytes(content[at + 1 : at + 1 + width], "big") if width else info % 31
        at += 1 + width + (length if major in (2, 3) else 0)
    return cbor2.loads(content)


def on_message(_client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
    """Print what the device that the topic names has signed for it."""
    device = message.topic.split("/")[3]
    try:
        told = opened(message.payload, message.topic, keys[device])
        if not isinstance(told, dict):
            raise ValueError("a message is a map")
    except (InvalidSignature, cbor2.CBORError, LookupError, TypeError, ValueError):
        print(device, "REFUSED: not what this device has signed for this topic", file=sys.stderr, flush=True)
        return
    print(device, told, flush=True)


def on_connect(client: mqtt.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
    """Subscribe, or end with the reason why the broker does not let us in."""
    if reason.is_failure:
        sys.exit(f"{host}:{port} does not let {user} in: {reason}")
    client.subscribe(f"edge/v1/{fleet}/+/telemetry", qos=1)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.username_pw_set(user, None if folder else password)
if folder:
    names = ("broker-ca.pem", "subscriber.pem", "subscriber.key")
    client.tls_set(*(str(Path(folder[0]) / name) for name in names))
client.on_message = on_message
client.on_connect = on_connect
client.connect(host, int(port))
client.loop_forever()
