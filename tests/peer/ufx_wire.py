"""The bytes of ufx version 1: packets and records, written from proto.md alone.

Every layout is a table of (name, bytes); `pack` and `unpack` do the rest. Parsing raises `Invalid`
for everything that must be dropped (packets) or that must end the transfer (records).
"""
import zlib

HEADER = 14
HELLO_BYTES = 1200
SPACE_END = 1 << 48  # of any DATA; the body has one byte less, so that 6 bytes can state it
BODY_MAX = SPACE_END - 1
BLOCK = 1 << 20
ENTRIES_MAX = (1 << 32) - 1
RECORD_MAX = 8300
EPOCH_MAX = 3

ACK_NOW, PADDED, SPACE_MASK = 0x01, 0x02, 0x0C
SPACES = {"body": 0x00, "manifest": 0x04, "digests": 0x08, "answers": 0x0C}
SPACE_NAMES = {value: name for name, value in SPACES.items()}
TYPES = {"hello": 1, "welcome": 2, "start": 3, "data": 4, "ack": 5, "probe": 6, "close": 7}
TYPE_NAMES = {value: name for name, value in TYPES.items()}
TO_RECEIVER, TO_SENDER = "to_receiver", "to_sender"
DIGEST_BYTES = {"none": 0, "xxh3": 16, "blake3": 32}
DIGEST_NUMBERS = {"none": 0, "xxh3": 1, "blake3": 2}
DIGEST_NAMES = {value: name for name, value in DIGEST_NUMBERS.items()}
MAGIC = b"ufx\0"

RAW = "raw"  # instead of a size: bytes, not a number
HELLO_HEAD = [("magic", RAW, 4), ("version_max", 1), ("version_min", 1), ("mode", 1), ("digest", 1),
              ("options", 2), ("connection", 4), ("seed", 4), ("nonce", RAW, 16),
              ("key_share", RAW, 32)]
LAYOUTS = {
    "hello": HELLO_HEAD,
    "welcome": [("version", 1), ("mode", 1), ("digest", 1), ("reserved", 1), ("nonce", RAW, 16),
                ("connection", 4), ("seed", 4), ("socket_bytes", 4), ("datagram_bytes_max", 4),
                ("credit", 4), ("key_share", RAW, 32), ("proof", RAW, 16)],
    "start": HELLO_HEAD + [("srtt_us", 4)],
    "data": [("offset", 6)],
    "ack": [("largest", 8), ("arrival_us", 8), ("delay_us", 4), ("received_packets", 8),
            ("received_bytes", 8), ("duplicates", 4), ("drops", 4), ("ecn_ce", 4),
            ("max_number", 8), ("max_manifest", 6), ("max_digests", 6), ("max_body", 6),
            ("written", 8), ("datagram_bytes", 4), ("limit", 1), ("reserved", 3), ("base", 8)],
    "probe": [("srtt_us", 4), ("window_packets", 4), ("answers", 6)],
    "close": [("code", 1)],
    "record_entry": [("type", 1), ("mode", 2), ("mtime_seconds", -8), ("mtime_nanos", 4),
                     ("size", 6), ("device", 8), ("inode", 8), ("ctime_seconds", -8),
                     ("ctime_nanos", 4), ("path_bytes", 2)],
    "record_hole": [("offset", 6), ("bytes", 6)],
    "record_void": [("entry", 4), ("reason", 1)],
    "record_more": [("bytes", 4)],
    "record_owner": [("user", 4), ("group", 4)],
    "record_attribute": [("label_bytes", 1)],
    "record_end": [("entries", 4), ("body_bytes", 6), ("digests_bytes", 6)],
    "record_digest": [("entry", 4), ("block", 4), ("epoch", 1)],
    "answer_have": [("entry", 4), ("first_block", 4), ("blocks", 4)],
    "answer_present": [("first_entry", 4), ("entries", 4)],
    "answer_refused": [("entry", 4), ("code", 1)],
    "answer_again": [("entry", 4), ("block", 4), ("epoch", 1)],
    "answer_committed": [("first_entry", 4), ("entries", 4)],
    "answer_failed": [("entry", 4), ("code", 1)],
    "answer_take": [("first_entry", 4), ("entries", 4)],
    "answer_kept": [("first_entry", 4), ("entries", 4)],
    "answer_end": [("committed", 4), ("present", 4), ("failed", 4)],
}
# What follows the fixed fields, where something does.
TAILS = {"data": "payload", "ack": "bitmap", "close": "text", "hello": "zeros", "probe": "zeros",
         "record_entry": "path+target", "record_attribute": "label+value",
         "record_end": "digest", "record_digest": "digest",
         "answer_refused": "text", "answer_failed": "text"}
MANIFEST_KINDS = {1: "record_entry", 2: "record_hole", 3: "record_void", 4: "record_end",
                  5: "record_more", 6: "record_owner", 7: "record_attribute"}
ANSWER_KINDS = {1: "answer_have", 2: "answer_present", 3: "answer_refused", 4: "answer_again",
                5: "answer_committed", 6: "answer_failed", 7: "answer_take", 8: "answer_end",
                9: "answer_kept"}
KINDS = {name: kind for kinds in (MANIFEST_KINDS, ANSWER_KINDS) for kind, name in kinds.items()}


class Invalid(Exception):
    """A packet to drop, or a record that ends the transfer."""


def need(condition, why):
    if not condition:
        raise Invalid(why)


def layout_bytes(layout):
    return sum(field[2] if field[1] == RAW else abs(field[1]) for field in layout)


def pack(name, fields):
    """Fixed fields in order, then the tail. `reserved` is zero."""
    out = bytearray()
    for field in LAYOUTS[name]:
        if field[1] == RAW:
            need(len(fields[field[0]]) == field[2], field[0])
            out += fields[field[0]]
        else:
            value = fields.get(field[0], 0) if field[0] == "reserved" else fields[field[0]]
            out += value.to_bytes(abs(field[1]), "big", signed=field[1] < 0)
    tail = TAILS.get(name)
    if tail == "zeros":
        out += bytes(fields["zeros"])
    elif tail:
        out += b"".join(fields[part] for part in tail.split("+"))
    return bytes(out)


def unpack(name, data):
    """Fixed fields and the tail, with the checks that need nothing but these bytes."""
    need(len(data) >= layout_bytes(LAYOUTS[name]), "too short")
    fields, at = {}, 0
    for field in LAYOUTS[name]:
        size = field[2] if field[1] == RAW else abs(field[1])
        raw, at = data[at:at + size], at + size
        fields[field[0]] = raw if field[1] == RAW else int.from_bytes(raw, "big",
                                                                      signed=field[1] < 0)
    rest, tail = data[at:], TAILS.get(name)
    if tail and "+" in tail:
        first, second = tail.split("+")
        size = fields[first + "_bytes"]
        need(size <= len(rest), first + " longer than the record")
        fields[first], fields[second] = rest[:size], rest[size:]
    elif tail == "zeros":
        fields["zeros"] = len(rest)
    elif tail:
        fields[tail] = rest
    else:
        need(not rest, "too long")
    need(fields.get("reserved", 0) == 0, "reserved")
    CHECKS.get(name, lambda fields: None)(fields)
    return fields


def check_hello(f):
    need(f["magic"] == MAGIC and f["connection"] != 0, "HELLO")
    need(1 <= f["version_min"] <= f["version_max"], "versions")
    if f["version_min"] > 1:
        return  # only the fields looked at above keep their place in later versions
    need(f["mode"] <= 1 and f["digest"] <= 2 and f["options"] <= 2, "value out of range")
    need(f["options"] != 2 or f["digest"] == 0, "DISCARD with a digest")
    need(f["mode"] == 1 or f["key_share"] == bytes(32), "key_share in open mode")


def check_welcome(f):
    need(f["version"] >= 1 and f["mode"] <= 1 and f["digest"] <= 2, "value out of range")
    need(f["connection"] != 0, "connection 0")
    need(f["credit"] >= 2, "credit")
    need(1200 <= f["datagram_bytes_max"] <= 65507, "datagram_bytes_max")
    need(f["mode"] == 1 or not any(f["key_share"] + f["proof"]), "key_share in open mode")


def check_data(f):
    need(f["payload"], "no payload")
    need(f["offset"] + len(f["payload"]) <= SPACE_END, "beyond 2^48")


def check_ack(f):
    need(f["limit"] <= 2 and f["base"] % 64 == 0, "limit or base")
    need(len(f["bitmap"]) % 8 == 0 and len(f["bitmap"]) <= 136 * 8, "bitmap length")
    bits = int.from_bytes(f["bitmap"], "little")
    need(f["base"] + bits.bit_length() - 1 <= f["largest"] or not bits, "bits above largest")


def check_close(f):
    need(f["code"] <= 11 and len(f["text"]) <= 255, "CLOSE")
    check_utf8(f["text"])


def check_utf8(text):
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("not UTF-8") from None


def check_path(path):
    parts = path.split(b"/")
    need(1 <= len(path) <= 4096 and len(parts) <= 256 and b"\0" not in path, "path")
    need(all(part not in (b"", b".", b"..") and len(part) <= 255 for part in parts), "component")


def check_entry(f):
    need(1 <= f["type"] <= 5 and f["mode"] <= 0o7777, "type or mode")
    need(f["mtime_nanos"] < 10**9 and f["ctime_nanos"] < 10**9, "nanoseconds")
    need(f["size"] == 0 or f["type"] in (1, 4, 5), "size of what is not a file")
    need(f["type"] != 5 or f["size"] == BLOCK, "size of a pipe")
    path, target = f["path"], f["target"]
    check_path(path)
    if f["type"] == 4:
        check_path(target)
        return
    need(1 <= len(target) <= 4095 if f["type"] == 3 else not target, "target")
    need(b"\0" not in target, "NUL in target")


def check_hole(f):
    need(f["bytes"] > 0 and f["offset"] + f["bytes"] <= BODY_MAX, "hole")


def check_owner(f):
    need(max(f["user"], f["group"]) < ENTRIES_MAX, "owner")


def check_attribute(f):
    need(f["label"] and b"\0" not in f["label"], "name of an attribute")


def check_more(f):
    need(1 <= f["bytes"] <= BLOCK, "MORE")


def check_text_answer(f):
    need(1 <= f["code"] <= 8 and len(f["text"]) <= 255, "code or text")
    check_utf8(f["text"])


def check_row(f):
    first, count = f["first_entry"], f["entries"]
    need(count > 0 and first + count <= ENTRIES_MAX, "range of entries")


def check_void(f):
    need(1 <= f["reason"] <= 3, "reason")


def check_have(f):
    need(f["blocks"] > 0 and f["first_block"] + f["blocks"] <= 1 << 28, "range of blocks")


def check_again(f):
    need(1 <= f["epoch"] <= EPOCH_MAX and f["block"] < 1 << 28, "AGAIN")


def check_digest(f):
    need(f["epoch"] <= EPOCH_MAX and f["block"] < 1 << 28, "digest record")


CHECKS = {"hello": check_hello, "welcome": check_welcome, "start": check_hello,
          "data": check_data, "ack": check_ack, "close": check_close,
          "record_entry": check_entry, "record_hole": check_hole, "record_more": check_more,
          "record_owner": check_owner, "record_attribute": check_attribute,
          "record_void": check_void,
          "record_digest": check_digest, "answer_have": check_have, "answer_present": check_row,
          "answer_refused": check_text_answer, "answer_again": check_again,
          "answer_committed": check_row, "answer_failed": check_text_answer,
          "answer_take": check_row, "answer_kept": check_row}


# Packets


def check_of(seed, number, head, rest):
    data = seed.to_bytes(4, "big") + (number >> 32).to_bytes(4, "big") + head + rest
    return zlib.crc32(data).to_bytes(4, "big")


def seal(frame_type, flags, connection, number, seed, frame, padding=0):
    """One datagram. `padding` counts its own two length bytes; 0 is none."""
    if padding:
        flags |= PADDED
        frame += bytes(padding - 2) + padding.to_bytes(2, "big")
    head = (bytes([frame_type, flags]) + connection.to_bytes(4, "big")
            + (number & 0xFFFFFFFF).to_bytes(4, "big"))
    return head + check_of(seed, number, head, frame) + frame


def expand(low, expected):
    """The number with these low 32 bits that is closest to `expected`; the larger of two."""
    near = expected >> 32 << 32 | low
    candidates = [n for n in (near + (1 << 32), near, near - (1 << 32)) if 0 <= n < 1 << 64]
    return min(candidates, key=lambda n: (abs(n - expected), -n))


class Packet:
    """An accepted packet: its header, and its frame's fields."""

    def __init__(self, name, flags, connection, number, fields):
        self.name, self.flags, self.connection = name, flags, connection
        self.number, self.fields = number, fields


def peek_connection(datagram):
    need(len(datagram) >= HEADER, "no header")
    return int.from_bytes(datagram[2:6], "big")


def open_packet(datagram, seed, expected, direction):
    """Header, check and frame of one datagram, or Invalid."""
    need(HEADER <= len(datagram) <= 65507, "datagram size")
    frame_type, flags = datagram[0], datagram[1]
    number = expand(int.from_bytes(datagram[6:10], "big"), expected)
    need(datagram[10:14] == check_of(seed, number, datagram[:10], datagram[14:]), "check")
    name = TYPE_NAMES.get(frame_type)
    need(name is not None, "unknown type")
    need(flags & ~(ACK_NOW | PADDED | SPACE_MASK) == 0, "unknown flag")
    need(flags & SPACE_MASK == 0 or name == "data", "SPACE in a frame other than DATA")
    check_direction(name, flags, direction)
    frame = datagram[HEADER:]
    if flags & PADDED:
        padding = int.from_bytes(frame[-2:], "big")
        need(len(frame) >= 2 and 2 <= padding <= len(frame), "padding")
        frame = frame[:len(frame) - padding]
    fields = unpack(name, frame)
    if name == "hello":
        need(len(datagram) >= HELLO_BYTES, "short HELLO")
        need(flags == 0 and number == 0 and peek_connection(datagram) == 0, "HELLO's header")
    if name == "data":
        fields["space"] = SPACE_NAMES[flags & SPACE_MASK]
    return Packet(name, flags, peek_connection(datagram), number, fields)


def check_direction(name, flags, direction):
    if name == "data":
        answers = flags & SPACE_MASK == SPACES["answers"]
        need(answers == (direction == TO_SENDER), "space in the wrong direction")
    elif name != "close":
        to_sender = name in ("welcome", "ack")
        need(to_sender == (direction == TO_SENDER), "wrong direction")


# Records


def record(name, **fields):
    """A whole record; kind and length come first, but not in digest records."""
    content = pack(name, fields)
    if name == "record_digest":
        return content
    return bytes([KINDS[name]]) + len(content).to_bytes(2, "big") + content


def next_record(kinds, data, at, algorithm):
    """(name, fields, end) of the record at `at`, or None if it is not there completely."""
    if len(data) < at + 3:
        return None
    need(data[at] in kinds, "unknown kind")
    name, length = kinds[data[at]], int.from_bytes(data[at + 1:at + 3], "big")
    need(length <= RECORD_MAX or name == "record_attribute", "record too long")
    end = at + 3 + length
    if len(data) < end:
        return None
    fields = unpack(name, bytes(data[at + 3:end]))
    if name == "record_end":
        need(len(fields["digest"]) == DIGEST_BYTES[algorithm], "length of END's digest")
    return name, fields, end


def next_digest(data, at, algorithm):
    end = at + layout_bytes(LAYOUTS["record_digest"]) + DIGEST_BYTES[algorithm]
    if len(data) < end:
        return None
    return unpack("record_digest", bytes(data[at:end])), end
