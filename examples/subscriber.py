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
keys = {d["id"]: base64.b64decode(d["public_key"]) for d in json.loads(Path(devices).read_text())}


def on_message(_client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
    """Verify one COSE_Sign1 (RFC 9052, section 4.4) with the key of the device that the topic names."""
    device = message.topic.split("/")[3]
    try:
        protected, _, payload, signature = cbor2.loads(message.payload).value
        assert cbor2.loads(protected)[1] == -8, "EdDSA and nothing else"
        signed = cbor2.dumps(["Signature1", protected, message.topic.encode(), payload])
        Ed25519PublicKey.from_public_bytes(keys[device]).verify(signature, signed)
        told = cbor2.loads(payload)
        assert isinstance(told, dict), "a message is a map"
    except (
        ArithmeticError,  # a decimal fraction that is out of all bounds
        InvalidSignature,
        cbor2.CBORError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ):
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
