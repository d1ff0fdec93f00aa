#!/usr/bin/env python3
"""Writes tests/vectors/*.hex: one golden packet or record each, the same bytes on every run.

    make_vectors.py            writes them all anew
    make_vectors.py --check    only says whether the files are what this script would write

Every valid vector is parsed again before it is written; every invalid one must be refused.
"""
import os
import sys

import ufx_wire as wire
import xxh3

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors")
SEED, CONNECTION = 0x5EED0001, 0xC0FFEE01        # to the receiver, from WELCOME
OWN_SEED, OWN_CONNECTION = 0x5EED0002, 0xC0FFEE02  # to the sender, from HELLO
M32, M48, M64 = (1 << 32) - 1, (1 << 48) - 1, (1 << 64) - 1
HEX_WORDS = {"connection", "seed"}
files = {}


def pattern(size, start=0):
    return bytes((start + 7 * i) & 0xFF for i in range(size))


def text_of(name, value):
    if isinstance(value, bytes):
        return value.hex()
    if name in HEX_WORDS:
        return "%08x" % value
    return "%04x" % value if name == "options" else str(value)


def write(name, sentence, meta, data):
    lines = ["# " + sentence] + ["# %s: %s" % row if row[1] != "" else "# %s:" % row[0]
                                 for row in meta]
    lines += [data[at:at + 32].hex(" ") for at in range(0, len(data), 32)]
    assert name not in files and ":" not in sentence
    files[name] = "\n".join(lines) + "\n"


def field_rows(fields):
    return [("field." + name, text_of(name, value)) for name, value in fields.items()
            if name != "reserved"]


def way(direction, frame):
    if frame == "hello":
        return 0, 0
    return (SEED, CONNECTION) if direction == wire.TO_RECEIVER else (OWN_SEED, OWN_CONNECTION)


def packet(name, sentence, frame, fields, direction=wire.TO_RECEIVER, number=0, expected=None,
           flags=0, padding=0, seed=None, connection=None):
    expected = number if expected is None else expected
    seed = way(direction, frame)[0] if seed is None else seed
    connection = way(direction, frame)[1] if connection is None else connection
    if frame == "data":
        flags |= wire.SPACES[fields["space"]]
    data = wire.seal(wire.TYPES[frame], flags, connection, number, seed, wire.pack(frame, fields),
                     padding)
    got = wire.open_packet(data, seed, expected, direction)
    assert (got.name, got.number, got.connection) == (frame, number, connection), name
    assert {k: v for k, v in got.fields.items() if k != "reserved"} == fields, name
    write(name, sentence, [
        ("frame", frame), ("direction", direction), ("seed", "%08x" % seed),
        ("connection", "%08x" % connection), ("number", number), ("expected", expected),
        ("flags", "%02x" % data[1]), ("padding", padding)] + field_rows(fields), data)


def invalid(name, why, frame, data, direction=wire.TO_RECEIVER, number=0, seed=None,
            connection=None):
    seed = way(direction, frame)[0] if seed is None else seed
    connection = way(direction, frame)[1] if connection is None else connection
    try:
        wire.open_packet(data, seed, number, direction)
    except wire.Invalid:
        pass
    else:
        raise AssertionError(name + " was accepted")
    write("invalid_%s_%s" % (frame, name), "A packet that must be dropped", [
        ("frame", "invalid"), ("as", frame), ("why", why), ("direction", direction),
        ("seed", "%08x" % seed), ("connection", "%08x" % connection), ("number", number),
        ("expected", number)], data)


def sealed(frame, body, direction=wire.TO_RECEIVER, flags=0, number=0, frame_type=None,
           seed=None, connection=None, padding=0):
    """A packet with a right check around any bytes."""
    own_seed, own_connection = way(direction, frame)
    return wire.seal(wire.TYPES[frame] if frame_type is None else frame_type, flags,
                     own_connection if connection is None else connection, number,
                     own_seed if seed is None else seed, body, padding)


def patched(data, at, value):
    return data[:at] + value + data[at + len(value):]


HELLO = {"magic": wire.MAGIC, "version_max": 1, "version_min": 1, "mode": 0, "digest": 1,
         "options": 0, "connection": OWN_CONNECTION, "seed": OWN_SEED, "nonce": pattern(16, 1),
         "key_share": bytes(32), "zeros": 1120}
WELCOME = {"version": 1, "mode": 0, "digest": 1, "nonce": pattern(16, 1), "connection": CONNECTION,
           "seed": SEED, "socket_bytes": 4 << 20, "datagram_bytes_max": 65507, "credit": 256,
           "key_share": bytes(32), "proof": bytes(16)}
START = {**{name: value for name, value in HELLO.items() if name != "zeros"}, "srtt_us": 12345}
ACK = {"largest": 199, "arrival_us": 1234567, "delay_us": 89, "received_packets": 197,
       "received_bytes": 289984, "duplicates": 2, "drops": 3, "ecn_ce": 4, "max_number": 455,
       "max_manifest": 1048579, "max_digests": 1048580, "max_body": M48, "written": 280000,
       "datagram_bytes": 1472, "limit": 1, "base": 64,
       "bitmap": bytes.fromhex("fffffffffffffffffbffffffffffffffbf00000000000000")}
PROBE = {"srtt_us": 12345, "window_packets": 64, "answers": 4321, "zeros": 0}
SENDERS = wire.TO_SENDER


def handshake_packets():
    packet("hello", "HELLO as a sender of version 1 with XXH3-128 sends it", "hello", HELLO)
    packet("hello_dry_run", "HELLO with DRY_RUN, no digest, several versions", "hello",
           {**HELLO, "digest": 0, "options": 1, "version_max": 255, "connection": M32, "seed": 0})
    packet("hello_discard", "HELLO with DISCARD, no digest", "hello",
           {**HELLO, "digest": 0, "options": 2})
    packet("hello_keyed", "HELLO of the keyed mode with BLAKE3", "hello",
           {**HELLO, "mode": 1, "digest": 2, "key_share": pattern(32, 3)})
    packet("welcome", "WELCOME, 102 bytes", "welcome", WELCOME, SENDERS)
    packet("welcome_edges", "WELCOME of the keyed mode with its largest and smallest values",
           "welcome", {**WELCOME, "mode": 1, "digest": 2, "connection": M32, "seed": M32,
                       "socket_bytes": M32, "datagram_bytes_max": 1200, "credit": M32,
                       "key_share": b"\xff" * 32, "proof": pattern(16, 9)}, SENDERS)
    packet("start", "START, 84 bytes, the sender's first packet", "start", START)
    packet("start_again", "START sent again, it has another number and asks for an ACK", "start",
           {**START, "srtt_us": M32}, number=1, flags=wire.ACK_NOW)


def data_packets():
    packet("data_body", "DATA of body with the payload of a full datagram at an MTU of 1,500",
           "data", {"space": "body", "offset": 1452, "payload": pattern(1452)}, number=7)
    packet("data_manifest", "DATA of manifest, one byte", "data",
           {"space": "manifest", "offset": 0, "payload": b"\x01"}, number=2)
    packet("data_digests_ack_now", "DATA of digests with ACK_NOW", "data",
           {"space": "digests", "offset": 75, "payload": pattern(25)}, number=3,
           flags=wire.ACK_NOW)
    packet("data_answers", "DATA of answers, the only DATA to the sender", "data",
           {"space": "answers", "offset": 262143, "payload": pattern(33)}, SENDERS, number=4)
    packet("data_padded", "DATA with 100 bytes of padding", "data",
           {"space": "body", "offset": 5, "payload": b"hello"}, number=8, padding=100)
    packet("data_padded_least", "DATA with the least padding, its two length bytes", "data",
           {"space": "manifest", "offset": 5, "payload": b"hello"}, number=8, padding=2,
           flags=wire.ACK_NOW)
    packet("data_end_of_space", "DATA whose last byte is the last of a space", "data",
           {"space": "body", "offset": M48 - 1, "payload": b"\xaa\xbb"}, number=9)
    packet("data_number_wrapped", "A number above 2^32 near the expected one", "data",
           {"space": "body", "offset": 1, "payload": b"wrap"}, number=0x100000002,
           expected=0xFFFFFFF0)
    packet("data_number_before_wrap", "An old number, below the wrap that has been passed", "data",
           {"space": "body", "offset": 1, "payload": b"old"}, number=0xFFFFFFFE,
           expected=0x100000003)
    packet("data_number_tie", "2^31 below or above the expected one, the larger is taken", "data",
           {"space": "body", "offset": 1, "payload": b"tie"}, number=0x180000000,
           expected=0x100000000)
    packet("data_number_never_negative", "Expected 0, low bits all ones", "data",
           {"space": "body", "offset": 1, "payload": b"far"}, number=M32, expected=0)
    packet("data_number_largest", "The largest packet number of all", "data",
           {"space": "body", "offset": 1, "payload": b"last"}, number=M64)


def ack_packets():
    packet("ack_example", "The worked example of proto.md", "ack", ACK, SENDERS, number=5)
    packet("ack_empty_bitmap", "ACK without a bitmap", "ack",
           {**ACK, "base": 192, "bitmap": b""}, SENDERS, number=6)
    packet("ack_first", "The first ACK, START alone has arrived", "ack",
           {**ACK, "largest": 0, "base": 0, "bitmap": b"\1" + bytes(7), "received_packets": 1,
            "received_bytes": 84, "duplicates": 0, "drops": 0, "ecn_ce": 0, "written": 0,
            "limit": 0}, SENDERS, number=1)
    full = (1 << 8704) - 1
    packet("ack_largest", "ACK of 1,200 bytes with the largest values", "ack",
           {**{name: (1 << 8 * size) - 1 for name, size, *_ in wire.LAYOUTS["ack"]
               if name != "reserved"},
            "limit": 2, "base": (1 << 64) - 8704, "bitmap": full.to_bytes(1088, "little")},
           SENDERS, number=M32)
    packet("ack_padded", "ACK with padding", "ack", ACK, SENDERS, number=10, padding=16)


def small_packets():
    packet("probe", "PROBE that only tells", "probe", PROBE, number=11)
    packet("probe_ack_now", "PROBE with the largest values that asks for an ACK", "probe",
           {"srtt_us": M32, "window_packets": M32, "answers": M48, "zeros": 0}, number=12,
           flags=wire.ACK_NOW)
    packet("probe_8972", "PROBE that tests datagrams of 8,972 bytes", "probe",
           {**PROBE, "zeros": 8972 - 28}, number=13, flags=wire.ACK_NOW)
    packet("close_done", "CLOSE done without text", "close", {"code": 0, "text": b""}, number=14)
    packet("close_text", "CLOSE with 255 bytes of text, not all ASCII", "close",
           {"code": 10, "text": "é".encode() * 127 + b"!"}, SENDERS, number=15)
    packet("close_digest", "CLOSE digest that answers a HELLO", "close",
           {"code": 11, "text": b""}, SENDERS)
    packet("close_to_hello", "CLOSE version that answers a HELLO, number 0", "close",
           {"code": 2, "text": b"version 1 only"}, SENDERS)


def invalid_packets():
    data = sealed("data", bytes(6) + b"x")
    hello = wire.seal(1, 0, 0, 0, 0, wire.pack("hello", HELLO))
    ack, welcome = wire.pack("ack", ACK), wire.pack("welcome", WELCOME)
    start = wire.pack("start", START)
    body = wire.pack("hello", HELLO)
    invalid("wrong_check", "the check is wrong in one bit", "data",
            patched(data, 13, bytes([data[13] ^ 1])))
    invalid("damaged", "one bit of the payload is damaged", "data", data[:-1] + b"y")
    invalid("other_seed", "made with another seed", "data",
            sealed("data", bytes(6) + b"x", seed=SEED + 1))
    invalid("other_upper_bits", "made with number 2^32, but 0 is expected", "data",
            sealed("data", bytes(6) + b"x", number=1 << 32))
    invalid("short_header", "13 bytes", "data", data[:13])
    invalid("unknown_flag", "flag 0x10", "data", sealed("data", bytes(6) + b"x", flags=0x10))
    invalid("high_flag", "flag 0x80", "data", sealed("data", bytes(6) + b"x", flags=0x80))
    invalid("no_payload", "DATA without payload", "data", sealed("data", bytes(6)))
    invalid("short", "DATA with 5 of 6 bytes of offset", "data", sealed("data", bytes(5)))
    invalid("beyond_space", "offset + length is 2^48 + 1", "data",
            sealed("data", b"\xff" * 6 + b"xy"))
    invalid("answers_to_receiver", "answers go to the sender", "data",
            sealed("data", bytes(6) + b"x", flags=0x0C))
    invalid("body_to_sender", "body goes to the receiver", "data",
            sealed("data", bytes(6) + b"x", SENDERS), SENDERS)
    invalid("padding_too_long", "padding of one byte more than the frame", "data",
            sealed("data", bytes(6) + b"x\0\x0a", flags=wire.PADDED))
    invalid("padding_one", "padding of 1 byte cannot hold its length", "data",
            sealed("data", bytes(6) + b"xyz\0\1", flags=wire.PADDED))
    invalid("padding_zero", "PADDED with a length of 0", "data",
            sealed("data", bytes(6) + b"xyz\0\0", flags=wire.PADDED))
    invalid("padding_eats_payload", "padding leaves no payload", "data",
            sealed("data", bytes(6), padding=9))
    invalid("padding_without_room", "PADDED on a frame of one byte", "close",
            sealed("close", b"\0", flags=wire.PADDED))
    invalid("unknown_type", "type 8", "probe", sealed("probe", bytes(14), frame_type=8))
    invalid("type_zero", "type 0", "probe", sealed("probe", bytes(14), frame_type=0))
    invalid("short", "HELLO of 1,199 bytes", "hello", wire.seal(1, 0, 0, 0, 0, body[:-1]))
    invalid("magic", "magic is ufy", "hello",
            wire.seal(1, 0, 0, 0, 0, patched(body, 2, b"y")))
    invalid("connection_zero", "HELLO's connection field is 0", "hello",
            wire.seal(1, 0, 0, 0, 0, patched(body, 10, bytes(4))))
    invalid("versions", "version_min above version_max", "hello",
            wire.seal(1, 0, 0, 0, 0, patched(body, 4, b"\1\2")))
    invalid("version_zero", "version_min is 0", "hello",
            wire.seal(1, 0, 0, 0, 0, patched(body, 5, b"\0")))
    invalid("mode", "mode 2", "hello", wire.seal(1, 0, 0, 0, 0, patched(body, 6, b"\2")))
    invalid("digest", "digest 3", "hello", wire.seal(1, 0, 0, 0, 0, patched(body, 7, b"\3")))
    invalid("options", "option 0x0004", "hello",
            wire.seal(1, 0, 0, 0, 0, patched(body, 8, b"\0\4")))
    invalid("discard_digest", "DISCARD with XXH3-128", "hello",
            wire.seal(1, 0, 0, 0, 0, patched(body, 7, b"\1\0\2")))
    invalid("discard_dry_run", "DISCARD with DRY_RUN", "hello",
            wire.seal(1, 0, 0, 0, 0, patched(body, 7, b"\0\0\3")))
    invalid("flags", "HELLO with ACK_NOW", "hello",
            wire.seal(1, wire.ACK_NOW, 0, 0, 0, body))
    invalid("number", "HELLO with packet number 1", "hello", wire.seal(1, 0, 0, 1, 0, body),
            number=1)
    invalid("to_sender", "HELLO to the sender", "hello", hello, SENDERS, seed=0, connection=0)
    invalid("reserved", "the reserved byte is 1", "welcome",
            sealed("welcome", patched(welcome, 3, b"\1"), SENDERS), SENDERS)
    invalid("short", "WELCOME of 101 bytes", "welcome",
            sealed("welcome", welcome[:-1], SENDERS), SENDERS)
    invalid("connection_zero", "connection is 0", "welcome",
            sealed("welcome", patched(welcome, 20, bytes(4)), SENDERS), SENDERS)
    invalid("credit", "credit is 1", "welcome",
            sealed("welcome", patched(welcome, 36, (1).to_bytes(4, "big")), SENDERS), SENDERS)
    invalid("datagram_small", "datagram_bytes_max is 1,199", "welcome",
            sealed("welcome", patched(welcome, 32, (1199).to_bytes(4, "big")), SENDERS), SENDERS)
    invalid("datagram_large", "datagram_bytes_max is 65,508", "welcome",
            sealed("welcome", patched(welcome, 32, (65508).to_bytes(4, "big")), SENDERS), SENDERS)
    invalid("to_receiver", "WELCOME to the receiver", "welcome", sealed("welcome", welcome))
    invalid("short", "START of 83 bytes", "start", sealed("start", start[:-1]))
    invalid("to_sender", "START to the sender", "start",
            sealed("start", start, SENDERS), SENDERS)
    invalid("space_flag", "SPACE in another frame than DATA", "start",
            sealed("start", start, flags=0x04))
    invalid("base", "base is 65, not a multiple of 64", "ack",
            sealed("ack", patched(ack, 97, b"\x41"), SENDERS), SENDERS)
    invalid("reserved", "the second reserved byte is 1", "ack",
            sealed("ack", patched(ack, 88, b"\1"), SENDERS), SENDERS)
    invalid("limit", "limit is 3", "ack",
            sealed("ack", patched(ack, 86, b"\3"), SENDERS), SENDERS)
    invalid("bit_above_largest", "bit 136 stands for 200, largest is 199", "ack",
            sealed("ack", patched(ack, 98 + 17, b"\1"), SENDERS), SENDERS)
    invalid("bitmap_odd", "the bitmap has 23 bytes", "ack",
            sealed("ack", ack[:-1], SENDERS), SENDERS)
    invalid("bitmap_long", "the bitmap has 137 x 8 bytes", "ack",
            sealed("ack", ack[:98] + bytes(137 * 8), SENDERS), SENDERS)
    invalid("short", "ACK of 111 bytes", "ack", sealed("ack", ack[:97], SENDERS), SENDERS)
    invalid("to_receiver", "ACK to the receiver", "ack", sealed("ack", ack))
    invalid("short", "PROBE of 27 bytes", "probe", sealed("probe", bytes(13)))
    invalid("to_sender", "PROBE to the sender", "probe",
            sealed("probe", bytes(14), SENDERS), SENDERS)
    invalid("empty", "CLOSE without a code", "close", sealed("close", b""))
    invalid("text_long", "256 bytes of text", "close", sealed("close", b"\0" + b"x" * 256))
    invalid("text_not_utf8", "text is not UTF-8", "close", sealed("close", b"\0\xff"))
    invalid("code", "code 12", "close", sealed("close", b"\x0c"))


def parse_record(name, data, algorithm):
    """The fields of the one record that `data` is."""
    if name == "record_digest":
        found = wire.next_digest(data, 0, algorithm)
        wire.need(found is not None and found[1] == len(data), "length")
        return found[0]
    kinds = wire.ANSWER_KINDS if name.startswith("answer_") else wire.MANIFEST_KINDS
    found = wire.next_record(kinds, data, 0, algorithm)
    wire.need(found is not None and found[2] == len(data) and found[0] == name, "length or kind")
    return found[1]


def row(name, frame, sentence, algorithm=None, **fields):
    packing = dict(fields)
    if frame == "record_entry":
        packing["path_bytes"] = len(fields["path"])
    data = wire.record(frame, **packing)
    assert parse_record(frame, data, algorithm) == packing, name
    meta = [("frame", frame)] + ([("algorithm", algorithm)] if algorithm else [])
    write(name, sentence, meta + field_rows(fields), data)


def invalid_row(name, frame, why, data, algorithm=None):
    try:
        parse_record(frame, data, algorithm)
    except wire.Invalid:
        pass
    else:
        raise AssertionError(name + " was accepted")
    meta = [("frame", "invalid"), ("as", frame), ("why", why)]
    write("invalid_%s_%s" % (frame, name), "A record that must end the transfer",
          meta + ([("algorithm", algorithm)] if algorithm else []), data)


ENTRY = {"type": 1, "mode": 0o644, "mtime_seconds": 1700000000, "mtime_nanos": 123456789,
         "size": 3145728, "device": 66306, "inode": 1234567, "ctime_seconds": 1700000001,
         "ctime_nanos": 5, "path": b"tree/sub/a", "target": b""}


def manifest_records():
    row("record_entry_file", "record_entry", "ENTRY of a file", **ENTRY)
    row("record_entry_directory", "record_entry", "ENTRY of a directory, before 1970",
        **{**ENTRY, "type": 2, "mode": 0o7777, "size": 0, "path": b"tree",
           "mtime_seconds": -1, "mtime_nanos": 999999999, "ctime_seconds": -(1 << 63)})
    row("record_entry_link", "record_entry", "ENTRY of a symbolic link", **{
        **ENTRY, "type": 3, "mode": 0o777, "size": 0, "path": b"tree/link",
        "target": b"../\xff not UTF-8"})
    row("record_entry_hard_link", "record_entry", "ENTRY of a hard link", **{
        **ENTRY, "type": 4, "path": b"tree/other", "target": b"tree/name"})
    row("record_entry_pipe", "record_entry", "ENTRY of a pipe", **{
        **ENTRY, "type": 5, "size": 1 << 20})
    row("record_owner", "record_owner", "OWNER", user=1000, group=100)
    row("record_owner_largest", "record_owner", "OWNER with the largest numbers", user=M32 - 1,
        group=M32 - 1)
    row("record_attribute", "record_attribute", "ATTRIBUTE", label_bytes=9, label=b"user.note",
        value=b"\0\xff")
    row("record_attribute_largest", "record_attribute", "ATTRIBUTE longer than any other record",
        label_bytes=255, label=b"n" * 255, value=b"v" * 8100)
    row("record_more", "record_more", "MORE of a short last block", bytes=5)
    row("record_more_whole", "record_more", "MORE of a whole block", bytes=1 << 20)
    components = [b"n" * 255] * 15 + [b"m"] * 120 + [b"e" * 16]
    path = b"/".join(components)
    assert len(path) == 4096
    row("record_entry_largest", "record_entry", "ENTRY with the largest values and lengths", **{
        "type": 3, "mode": 0o7777, "mtime_seconds": (1 << 63) - 1, "mtime_nanos": 999999999,
        "size": 0, "device": M64, "inode": M64, "ctime_seconds": (1 << 63) - 1,
        "ctime_nanos": 999999999, "path": path, "target": b"t" * 4095})
    row("record_entry_256_components", "record_entry", "ENTRY with 256 components", **{
        **ENTRY, "path": b"/".join([b"d"] * 256), "size": M48})
    row("record_entry_dots", "record_entry", "ENTRY whose names only look forbidden", **{
        **ENTRY, "path": b".../..a/.b\\c/\n", "size": 0})
    row("record_hole", "record_hole", "HOLE", offset=1 << 20, bytes=4096)
    row("record_hole_largest", "record_hole", "HOLE that ends at 2^48 - 1", offset=1, bytes=M48 - 1)
    for reason, word in ((1, "changed"), (2, "vanished"), (3, "unreadable")):
        row("record_void_" + word, "record_void", "VOID " + word, entry=reason * 1000,
            reason=reason)
    row("record_end_none", "record_end", "END without a digest", "none", entries=0, body_bytes=0,
        digests_bytes=0, digest=b"")
    digest = xxh3.digest(xxh3.digest(b"manifest") + xxh3.digest(b"digests"))
    row("record_end_xxh3", "record_end",
        "END, m is the 8 bytes manifest and d the 7 bytes digests (ASCII)", "xxh3", entries=15,
        body_bytes=10485760, digests_bytes=300, digest=digest)
    row("record_end_blake3", "record_end", "END of the largest numbers, digest made up", "blake3",
        entries=M32, body_bytes=M48, digests_bytes=M48, digest=pattern(32))


def digest_records():
    row("record_digest_none", "record_digest", "Digest record without digest", "none", entry=1,
        block=2, epoch=0, digest=b"")
    row("record_digest_xxh3", "record_digest", "Digest record of a block of 1 MiB of zeros",
        "xxh3", entry=3, block=0, epoch=1, digest=xxh3.digest(bytes(1 << 20)))
    row("record_digest_xxh3_small", "record_digest", "Digest record of a block with the bytes abc",
        "xxh3", entry=4, block=0, epoch=0, digest=xxh3.digest(b"abc"))
    row("record_digest_blake3", "record_digest", "Digest record, largest values, digest made up",
        "blake3", entry=M32 - 1, block=(1 << 28) - 1, epoch=3, digest=pattern(32, 5))


def answer_records():
    row("answer_have", "answer_have", "HAVE", entry=1, first_block=2, blocks=3)
    row("answer_have_largest", "answer_have", "HAVE of all blocks of the largest file",
        entry=M32 - 1, first_block=0, blocks=1 << 28)
    for name, first, count in (("present", 0, 1), ("committed", 7, 9), ("take", 0, M32),
                               ("kept", 4, 5)):
        row("answer_" + name, "answer_" + name, name.upper(), first_entry=first, entries=count)
    for code in range(1, 9):
        name = "refused" if code in (1, 2, 8) else "failed"
        text = b"" if code % 2 else "größer".encode()
        row("answer_%s_%d" % (name, code), "answer_" + name,
            "%s with code %d" % (name.upper(), code), entry=code, code=code, text=text)
    row("answer_failed_long", "answer_failed", "FAILED with 255 bytes of text", entry=M32 - 1,
        code=5, text=b"x" * 255)
    row("answer_again", "answer_again", "AGAIN, the first repetition", entry=4, block=2, epoch=1)
    row("answer_again_last", "answer_again", "AGAIN with the largest numbers", entry=M32 - 1,
        block=(1 << 28) - 1, epoch=3)
    row("answer_end", "answer_end", "END", committed=12, present=2, failed=1)
    row("answer_end_largest", "answer_end", "END, everything committed", committed=M32, present=0,
        failed=0)


def entry_with(**changes):
    fields = {**ENTRY, **changes}
    fields.setdefault("path_bytes", len(fields["path"]))
    return wire.record("record_entry", **fields)


def invalid_records():
    for name, path in (("empty", b""), ("absolute", b"/a"), ("slash_end", b"a/"),
                       ("double_slash", b"a//b"), ("dot", b"a/./b"), ("dot_dot", b"../a"),
                       ("dot_dot_inside", b"a/../b"), ("dot_dot_end", b"a/.."), ("nul", b"a\0b"),
                       ("component_long", b"n" * 256), ("components", b"/".join([b"d"] * 257)),
                       ("long", b"/".join([b"n" * 255] * 16 + [b"x"]))):
        invalid_row("path_" + name, "record_entry", "path " + name.replace("_", " "),
                    entry_with(path=path))
    for name, changes in (
            ("type", {"type": 4}), ("mode", {"mode": 0o10000}),
            ("type_unknown", {"type": 6}), ("pipe_size", {"type": 5, "size": 5}),
            ("directory_size", {"type": 2}), ("file_target", {"target": b"x"}),
            ("link_without_target", {"type": 3, "size": 0}),
            ("target_long", {"type": 3, "size": 0, "target": b"t" * 4096}),
            ("mtime_nanos", {"mtime_nanos": 10**9}), ("path_bytes", {"path_bytes": 11})):
        invalid_row(name, "record_entry", name.replace("_", " "), entry_with(**changes))
    invalid_row("short", "record_entry", "length 50 is less than the fixed fields",
                b"\1\0\x32" + entry_with()[3:53])
    invalid_row("long", "record_entry", "length 8,301", b"\1\x20\x6d" + bytes(8301))
    invalid_row("kind", "record_void", "kind 8", b"\10\0\5" + bytes(5))
    invalid_row("nobody", "record_owner", "user 2^32 - 1",
                wire.record("record_owner", user=M32, group=1))
    invalid_row("name", "record_attribute", "no name", b"\7\0\2\0v")
    invalid_row("nul", "record_attribute", "NUL in the name", b"\7\0\4\3a\0b")
    invalid_row("short", "record_attribute", "a name beyond the end", b"\7\0\3\3ab")
    invalid_row("empty", "record_more", "a MORE of 0 bytes", wire.record("record_more", bytes=0))
    invalid_row("long", "record_more", "a MORE above 2^20",
                wire.record("record_more", bytes=(1 << 20) + 1))
    invalid_row("reason", "record_void", "reason 4", b"\3\0\5\0\0\0\1\4")
    invalid_row("long", "record_void", "one byte too long", b"\3\0\6\0\0\0\1\1\0")
    invalid_row("empty", "record_hole", "a HOLE of 0 bytes",
                wire.record("record_hole", offset=5, bytes=0))
    invalid_row("beyond", "record_hole", "a HOLE that ends at 2^48",
                wire.record("record_hole", offset=1, bytes=M48))
    end = wire.record("record_end", entries=1, body_bytes=1, digests_bytes=9, digest=bytes(16))
    invalid_row("digest_length", "record_end", "16 bytes of digest with algorithm none", end,
                "none")
    invalid_row("digest_absent", "record_end", "no digest with algorithm xxh3",
                wire.record("record_end", entries=1, body_bytes=1, digests_bytes=9, digest=b""),
                "xxh3")
    invalid_row("epoch", "record_digest", "epoch 4, a block has the epochs 0 to 3",
                bytes(8) + b"\4", "none")
    invalid_row("block", "record_digest", "block 2^28", bytes(4) + b"\x10\0\0\0\0", "none")
    invalid_row("kind", "answer_end", "kind 10", b"\x0a\0\x0c" + bytes(12))
    invalid_row("kind_zero", "answer_end", "kind 0", b"\0\0\x0c" + bytes(12))
    invalid_row("short", "answer_end", "11 bytes", b"\x08\0\x0b" + bytes(11))
    invalid_row("code", "answer_failed", "code 9", b"\6\0\5\0\0\0\1\x09")
    invalid_row("code_zero", "answer_refused", "code 0", b"\3\0\5\0\0\0\1\0")
    invalid_row("text_long", "answer_failed", "256 bytes of text",
                b"\6\1\5\0\0\0\1\5" + b"x" * 256)
    invalid_row("text_not_utf8", "answer_refused", "text is not UTF-8",
                b"\3\0\6\0\0\0\1\5\xff")
    invalid_row("epoch_zero", "answer_again", "AGAIN with epoch 0",
                wire.record("answer_again", entry=1, block=0, epoch=0))
    invalid_row("epoch", "answer_again", "AGAIN with epoch 4",
                wire.record("answer_again", entry=1, block=0, epoch=4))
    invalid_row("none", "answer_present", "no entries",
                wire.record("answer_present", first_entry=1, entries=0))
    invalid_row("beyond", "answer_committed", "entries beyond 2^32 - 1",
                wire.record("answer_committed", first_entry=1, entries=M32))
    invalid_row("beyond", "answer_have", "blocks beyond 2^28",
                wire.record("answer_have", entry=1, first_block=1, blocks=1 << 28))


def main():
    for make in (handshake_packets, data_packets, ack_packets, small_packets, invalid_packets,
                 manifest_records, digest_records, answer_records, invalid_records):
        make()
    present = {name[:-4] for name in os.listdir(FOLDER) if name.endswith(".hex")}
    if "--check" in sys.argv:
        differing = sorted(present ^ set(files))
        for name in sorted(present & set(files)):
            with open(os.path.join(FOLDER, name + ".hex"), encoding="ascii") as file:
                differing += [] if file.read() == files[name] else [name]
        print("differing:", ", ".join(differing) or "none")
        return 1 if differing else 0
    for name in present - set(files):
        os.unlink(os.path.join(FOLDER, name + ".hex"))
    for name, content in files.items():
        with open(os.path.join(FOLDER, name + ".hex"), "w", encoding="ascii") as file:
            file.write(content)
    print("%d vectors" % len(files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
