// Print the verified telemetry of a fleet: node, and nothing to install.
//
//   mosquitto_sub -h HOST -p PORT -u USER -P PASSWORD -q 1 -t 'edge/v1/FLEET/+/telemetry' -F '%t %x' |
//     node examples/subscriber.mjs DEVICES.json
//
// USER and PASSWORD come from edge-fleet token create --role subscriber, DEVICES.json from
// edge-fleet devices --json; it is read again when it has changed and something does not verify, so that
// devices that came later and keys that have changed are known too. Each line of the input is a topic and an envelope in hex. What is not signed
// by the device that its topic names is refused; so is another history under a number that is taken, and
// an envelope that does not follow from the one before. Holes in the numbers are told.
// The messages are described by contracts/edge_contracts/schemas/messages.cddl.

import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { createInterface } from "node:readline";

const SIGN1 = 0xd2; // tag 18, the only one
const EDDSA = -8n;
const DEPTH = 16; // ours are 6 deep; what is deeper would only use the stack up
const REMEMBERED = 10000; // numbers of one device; a week at one envelope a minute

/** One CBOR item (RFC 8949) of those that our envelopes are made of, and where it ends. */
function decode(bytes, start = 0, depth = 0) {
  if (start >= bytes.length) throw new Error("cut short");
  if (depth > DEPTH) throw new Error("too deep");
  const major = bytes[start] >> 5;
  const info = bytes[start] & 31;
  let at = start + 1;
  let value = BigInt(info);
  if (info >= 24 && info <= 27) {
    const width = 1 << (info - 24);
    if (at + width > bytes.length) throw new Error("cut short");
    value = BigInt("0x" + bytes.subarray(at, at + width).toString("hex"));
    at += width;
  } else if (info > 27) throw new Error("not in the one spelling");
  const take = (count) => {
    if (at + count > bytes.length) throw new Error("cut short");
    at += count;
    return bytes.subarray(at - count, at);
  };
  switch (major) {
    case 0: return [value, at];
    case 1: return [-1n - value, at];
    case 2: return [take(Number(value)), at];
    case 3: return [take(Number(value)).toString("utf8"), at];
    case 4: {
      const items = [];
      for (let n = 0; n < value; n++) { const [item, next] = decode(bytes, at, depth + 1); items.push(item); at = next; }
      return [items, at];
    }
    case 5: {
      const map = new Map();
      for (let n = 0; n < value; n++) {
        const [key, next] = decode(bytes, at, depth + 1);
        const [item, end] = decode(bytes, next, depth + 1);
        map.set(key, item);
        at = end;
      }
      return [map, at];
    }
    case 6: throw new Error("a tag inside, which no message has");
    default:
      if (info === 20 || info === 21) return [info === 21, at];
      if (info === 22) return [null, at];
      if (info === 26) return [bytes.readFloatBE(at - 4), at];
      if (info === 27) return [bytes.readDoubleBE(at - 8), at];
      throw new Error("an item that no message has");
  }
}

function head(major, length) {
  if (length < 24) return Buffer.from([(major << 5) | length]);
  const width = length < 256 ? 1 : length < 65536 ? 2 : 4;
  const bytes = Buffer.alloc(1 + width);
  bytes[0] = (major << 5) | (23 + (width === 4 ? 3 : width));
  bytes.writeUIntBE(length, 1, width);
  return bytes;
}
const bstr = (bytes) => Buffer.concat([head(2, bytes.length), bytes]);
const tstr = (text) => { const bytes = Buffer.from(text); return Buffer.concat([head(3, bytes.length), bytes]); };

/** The payload of an envelope that this key signed for this topic (RFC 9052, section 4.4). */
function open(envelope, topic, rawKey) {
  if (envelope[0] !== SIGN1) throw new Error("not a COSE_Sign1");
  const [parts, end] = decode(envelope, 1);
  if (end !== envelope.length || !Array.isArray(parts) || parts.length !== 4) throw new Error("not a COSE_Sign1");
  const [protectedHeader, unprotected, payload, signature] = parts;
  const [header] = decode(protectedHeader);
  if (header.get(1n) !== EDDSA) throw new Error("not EdDSA");
  if (unprotected.size !== 0) throw new Error("an unprotected header: not in the one spelling");
  const signed = Buffer.concat([head(4, 4), tstr("Signature1"), bstr(protectedHeader), bstr(Buffer.from(topic)), bstr(payload)]);
  const key = createPublicKey({
    key: { kty: "OKP", crv: "Ed25519", x: rawKey.toString("base64url") }, format: "jwk",
  });
  if (!verify(null, signed, key, signature)) throw new Error("the signature does not verify");
  return decode(payload)[0];
}

const plain = (item) =>
  typeof item === "bigint" ? Number(item)
  : Buffer.isBuffer(item) ? item.toString("hex")
  : Array.isArray(item) ? item.map(plain)
  : item instanceof Map ? Object.fromEntries([...item].map(([key, value]) => [String(key), plain(value)]))
  : item;

const file = process.argv[2];
if (file === undefined) {
  console.error("usage: node subscriber.mjs DEVICES.json, with topics and envelopes in hex on the standard input");
  process.exit(2);
}
let keys = new Map();
let readAt = NaN;

/** Whether the file of the devices has changed since it was read; then it is read. */
function readAgain() {
  const changed = statSync(file).mtimeMs;
  if (changed === readAt) return false;
  keys = new Map(JSON.parse(readFileSync(file)).map((d) => [d.id, Buffer.from(d.public_key, "base64")]));
  readAt = changed;
  return true;
}
readAgain();

function opened(envelope, topic, device) {
  if (!keys.has(device)) throw new Error("nobody knows this device");
  return open(envelope, topic, keys.get(device));
}
const streams = new Map(); // device and epoch -> chain value by number, and the numbers owned up to

function judge(device, message, chain) {
  const name = `${device} ${message.get("epoch")}`;
  const seen = streams.get(name) ?? new Map();
  streams.set(name, seen);
  const seq = message.get("seq");
  const prev = message.get("prev").toString("hex");
  if (seen.size === REMEMBERED && seq < seen.keys().next().value) return "older than what is remembered";
  if (seen.has(seq)) return seen.get(seq) === chain ? "duplicate" : "REFUSED: another history under this number";
  const before = seq === 0n ? "0".repeat(32) : seen.get(seq - 1n);
  if (before !== undefined && before !== prev) return "REFUSED: does not follow from the one before";
  const hole = seen.size > 0 && before === undefined;
  seen.set(seq, chain);
  if (seen.size > REMEMBERED) seen.delete(seen.keys().next().value);
  return hole ? "after a hole" : "ok";
}

for await (const line of createInterface({ input: process.stdin })) {
  const [topic, hex] = line.split(" ");
  const device = topic.split("/")[3];
  try {
    const envelope = Buffer.from(hex ?? "", "hex");
    let message;
    try { message = opened(envelope, topic, device); }
    catch (error) {
      if (!readAgain()) throw error;
      message = opened(envelope, topic, device);
    }
    const chain = createHash("sha256").update(envelope).digest("hex").slice(0, 32);
    console.log(JSON.stringify({ device, chain: judge(device, message, chain), ...plain(message) }));
  } catch (error) {
    console.log(JSON.stringify({ device, chain: `REFUSED: ${error.message}` }));
  }
}
