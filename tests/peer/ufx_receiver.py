"""A receiver of ufx version 1: one transfer into a directory, nothing is ever overwritten."""
import bisect
import hashlib
import os
import shutil
import socket
import stat
import tempfile
import time

import ufx_wire as wire
from ufx_common import (Failure, LossySocket, Ranges, Stream, block_range, digest, end_digest, log,
                        now)
from ufx_wire import ACK_NOW, BLOCK, SPACES, TYPES

QUEUE = 64            # packets the sender may be ahead of the largest that has arrived
STREAM_WINDOW = 1 << 20
ANSWERS_WINDOW = 1 << 18
SILENCE, LINGER = 20.0, 20.0
SEEN = 65536
EXISTS, NAME, SPACE, DISK, SOURCE, CHANGED, LINK = 1, 2, 4, 5, 6, 7, 8
ZEROS = bytes(32)


class Entry:
    def __init__(self, number, fields, start):
        self.number, self.fields, self.start = number, fields, start
        self.size = fields["size"] if fields["type"] in (1, 5) else 0
        self.may_grow = fields["type"] == 5    # a pipe, whose end is not known yet
        self.path = os.fsdecode(fields["path"])
        self.stored, self.holes = Ranges(), Ranges()
        self.holes_known = False    # the next record that is no HOLE has been read
        self.records, self.epochs, self.verified = {}, {}, set()
        self.settled = False
        self.temporary = None


class Receiver:
    """One transfer, from START on."""

    def __init__(self, folder, sock, start, connection, seed):
        self.folder, self.sock, self.start = folder, sock, start
        self.connection, self.seed = connection, seed
        self.algorithm = wire.DIGEST_NAMES[start["digest"]]
        self.dry_run = start["options"] & 1
        self.work = tempfile.mkdtemp(prefix=".ufx-peer-", dir=folder)
        self.clock = now()
        # Numbers
        self.number = 0
        self.largest, self.largest_at, self.seen, self.held = -1, now(), set(), set()
        self.received_packets = self.received_bytes = self.duplicates = 0
        self.unreported, self.first_unreported = 0, None
        self.heard, self.last_sent, self.srtt = now(), now(), start["srtt_us"] / 1e6
        # Spaces
        self.manifest, self.manifest_at = Stream(), 0
        self.digests, self.digests_at = Stream(), 0
        self.first_digests = bytearray()  # of epoch 0: what END's digest is over
        self.answers, self.answers_acked, self.answers_sent = bytearray(), 0, 0
        self.answers_time, self.answers_wait = now(), 0.0
        self.written, self.datagram_bytes = 0, 1472
        # Entries
        self.entries, self.starts, self.body_bytes = [], [], 0
        self.pending_paths = set()
        self.end = self.end_at = None
        self.attributes = 0  # records that wait for their ENTRY
        self.tally = {"committed": 0, "present": 0, "failed": 0}
        self.folders, self.closed, self.ended_at = [], None, None

    # Packets

    def handle(self, datagram):
        packet = wire.open_packet(datagram, self.seed, self.largest + 1, wire.TO_RECEIVER)
        wire.need(packet.connection == self.connection, "connection")
        self.heard = now()
        if packet.number in self.seen or packet.number < self.largest - SEEN:
            self.duplicates += 1
            self.report(packet)
            return
        self.received_packets += 1
        self.received_bytes += len(datagram)
        self.datagram_bytes = max(self.datagram_bytes, len(datagram))
        self.seen.add(packet.number)
        if packet.number > self.largest:
            self.largest, self.largest_at = packet.number, now()
        if self.take(packet):
            self.held.add(packet.number)
        if len(self.seen) > 2 * SEEN:
            self.seen = {n for n in self.seen if n >= self.largest - SEEN}
            self.held &= self.seen
        self.report(packet)

    def report(self, packet):
        self.unreported += 1
        if self.first_unreported is None:
            self.first_unreported = now()
        if packet.flags & ACK_NOW or packet.name == "start" or self.unreported >= QUEUE // 4:
            self.send_ack()

    def take(self, packet):
        """True if the content of the packet is held."""
        fields = packet.fields
        if packet.name == "close":
            self.closed = fields
        elif packet.name == "probe":
            self.srtt = fields["srtt_us"] / 1e6 or self.srtt
            if self.answers_acked < fields["answers"] <= self.answers_sent:
                self.answers_acked, self.answers_wait = fields["answers"], 0.0
        elif packet.name == "data":
            return self.take_data(fields["space"], fields["offset"], fields["payload"])
        return packet.name != "hello"

    def take_data(self, space, offset, payload):
        if space == "body":
            return self.take_body(offset, payload)
        stream, consumed = ((self.manifest, self.manifest_at) if space == "manifest"
                            else (self.digests, self.digests_at))
        if offset + len(payload) > consumed + STREAM_WINDOW:
            return False
        stream.take(offset, payload)
        self.read_manifest()
        self.read_digests()
        return True

    def take_body(self, offset, payload):
        end = offset + len(payload)
        if end > self.body_bytes:
            return False
        index = bisect.bisect_right(self.starts, offset) - 1
        while offset < end:
            entry = self.entries[index]
            part = min(end, entry.start + entry.size) - offset
            if part > 0:
                self.store(entry, offset - entry.start, payload[:part])
                offset, payload = offset + part, payload[part:]
            index += 1
        return True

    def store(self, entry, offset, data):
        """Writes what is not there yet. Bytes for a settled entry count as held, and are lost."""
        if entry.settled or entry.temporary is None:
            return
        try:
            for a, b in list(entry.stored.gaps(offset, offset + len(data))):
                os.pwrite(entry.temporary, data[a - offset:b - offset], a)
                self.written += b - a
        except OSError as error:
            self.fail(entry, DISK, str(error))
            return
        entry.stored.add(offset, offset + len(data))
        for block in range(offset // BLOCK, (offset + len(data) - 1) // BLOCK + 1):
            self.check_block(entry, block)
        self.maybe_commit(entry)

    # Records

    def read_manifest(self):
        while True:
            ready = memoryview(self.manifest.data)[:self.manifest.ready]
            found = wire.next_record(wire.MANIFEST_KINDS, ready, self.manifest_at, self.algorithm)
            ready.release()
            if found is None:
                return
            name, fields, next_at = found
            if name in ("record_owner", "record_attribute"):
                wire.need(self.end is None, "attributes after END")
                self.close_entry()
                self.attributes += 1  # which a receiver may ignore
                self.manifest_at = next_at
                continue
            wire.need(not self.attributes or name == "record_entry", "attributes of nothing")
            self.attributes = 0
            if name == "record_hole":
                self.take_hole(fields)
            else:
                self.close_entry()
                if name == "record_more":
                    self.take_more(fields)
                elif name == "record_entry":
                    self.take_entry(fields)
                elif name == "record_void":
                    wire.need(fields["entry"] < len(self.entries), "VOID's entry")
                    entry = self.entries[fields["entry"]]
                    if not entry.settled:
                        self.fail(entry, SOURCE, "")
                else:
                    wire.need(self.end is None, "second END")
                    wire.need(fields["entries"] == len(self.entries), "END's entries")
                    wire.need(fields["body_bytes"] == self.body_bytes, "END's body_bytes")
                    self.end, self.end_at = fields, self.manifest_at
            self.manifest_at = next_at

    def close_entry(self):
        """No HOLE can follow for the last entry."""
        if self.entries and not self.entries[-1].holes_known:
            entry = self.entries[-1]
            entry.holes_known = True
            for block in range((entry.size + BLOCK - 1) // BLOCK):
                self.check_block(entry, block)
            self.maybe_commit(entry)

    def take_hole(self, fields):
        wire.need(self.end is None, "HOLE after END")
        wire.need(self.entries and not self.entries[-1].holes_known, "HOLE without ENTRY")
        entry, start = self.entries[-1], fields["offset"]
        end = start + fields["bytes"]
        wire.need(end <= entry.size, "HOLE beyond the file")
        wire.need(not entry.holes.rows or start > entry.holes.rows[-1][1], "order of HOLEs")
        entry.holes.add(start, end)
        entry.stored.add(start, end)

    def take_more(self, fields):
        wire.need(self.end is None, "MORE after END")
        wire.need(self.entries and self.entries[-1].may_grow, "MORE without a pipe")
        entry = self.entries[-1]
        wire.need(entry.size % BLOCK == 0, "MORE after a short one")
        entry.size += fields["bytes"]
        self.body_bytes += fields["bytes"]
        wire.need(self.body_bytes <= wire.BODY_MAX, "sum of sizes")
        if entry.temporary is not None:
            os.truncate(entry.temporary, entry.size)

    def take_entry(self, fields):
        wire.need(self.end is None, "ENTRY after END")
        wire.need(not self.entries or not self.entries[-1].may_grow, "ENTRY after a pipe")
        entry = Entry(len(self.entries), fields, self.body_bytes)
        wire.need(self.body_bytes + entry.size <= wire.BODY_MAX, "sum of sizes")
        self.entries.append(entry)
        self.starts.append(entry.start)
        self.body_bytes += entry.size
        try:
            self.admit(entry)
        except OSError as error:
            self.settle(entry, "refused", DISK, str(error))

    def admit(self, entry):
        """Decides what is to be done with a new entry."""
        kind, final = entry.fields["type"], os.path.join(self.folder, entry.path)
        parent = self.folder
        for part in entry.path.split("/")[:-1]:
            parent = os.path.join(parent, part)
            planned = os.path.relpath(parent, self.folder) in self.pending_paths and self.dry_run
            if os.path.islink(parent) or not (os.path.isdir(parent) or planned):
                self.settle(entry, "refused", NAME, "its directory is not there")
                return
        if entry.path in self.pending_paths or os.path.lexists(final):
            known = entry.may_grow or entry.path in self.pending_paths
            if not known and self.is_equal(entry, final):
                self.settle(entry, "present")
            else:
                self.settle(entry, "refused", EXISTS, "")
            return
        target = os.fsdecode(entry.fields["target"])
        if kind == 4:
            # Only of a file that is committed: simple, if not all that is allowed.
            there = os.path.join(self.folder, target)
            if target in self.pending_paths or not os.path.isfile(there) or os.path.islink(there):
                self.settle(entry, "refused", DISK, "its file is not there")
            else:
                if not self.dry_run:
                    os.link(there, final)
                self.settle(entry, "take" if self.dry_run else "committed")
            return
        if kind == 3 and self.leaves(entry.path, target):
            self.settle(entry, "refused", LINK, target)
            return
        self.pending_paths.add(entry.path)
        if self.dry_run:
            self.settle(entry, "take")
        elif kind in (1, 5):
            name = os.path.join(self.work, str(entry.number))
            entry.temporary = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.truncate(entry.temporary, entry.size)
        elif kind == 2:
            os.mkdir(final, 0o700)
            self.folders.append((final, entry.fields))
            self.settle(entry, "committed")
        else:
            os.symlink(target, final)
            self.settle(entry, "committed")

    @staticmethod
    def is_equal(entry, final):
        """What PRESENT means."""
        status, fields = os.lstat(final), entry.fields
        if fields["type"] == 2:
            return stat.S_ISDIR(status.st_mode)
        if fields["type"] == 3:
            return (stat.S_ISLNK(status.st_mode)
                    and os.readlink(os.fsencode(final)) == fields["target"])
        return (stat.S_ISREG(status.st_mode) and status.st_size == entry.size
                and status.st_mtime_ns == times(fields))

    @staticmethod
    def leaves(path, target):
        parts = [part for part in target.split("/") if part not in ("", ".")]
        climbs = parts.count("..")
        return (target.startswith("/") or parts[:climbs] != [".."] * climbs
                or climbs > max(len(path.split("/")) - 2, 0))

    def read_digests(self):
        while True:
            ready = memoryview(self.digests.data)[:self.digests.ready]
            found = wire.next_digest(ready, self.digests_at, self.algorithm)
            ready.release()
            if found is None:
                return
            fields, start = found[0], self.digests_at
            if fields["entry"] >= len(self.entries):
                wire.need(self.end is None, "digest record of an unknown entry")
                return  # a record that comes before its ENTRY waits
            last = self.entries[fields["entry"]]
            if self.end is None and last.may_grow and fields["block"] * BLOCK >= last.size:
                return  # as does one that comes before its MORE
            self.digests_at = found[1]
            if fields["epoch"] == 0:
                self.first_digests += self.digests.data[start:self.digests_at]
            entry, block = self.entries[fields["entry"]], fields["block"]
            if entry.settled:
                continue
            wire.need(block < (entry.size + BLOCK - 1) // BLOCK, "digest record's block")
            wire.need(self.end is None or self.digests_at <= self.end["digests_bytes"]
                      or fields["epoch"] > 0, "late record of epoch 0")
            epoch = entry.epochs.get(block, 0)
            if fields["epoch"] == epoch and entry.records.get(block, (-1,))[0] != epoch:
                entry.records[block] = (epoch, fields["digest"])
                self.check_block(entry, block)
                self.maybe_commit(entry)

    # Blocks and files

    def check_block(self, entry, block):
        """Verifies a block as soon as its bytes and its record are there."""
        if entry.settled or not entry.holes_known or block in entry.verified:
            return
        start, end = block_range(entry.size, block)
        if entry.holes.covers(start, end):
            entry.verified.add(block)
            return
        epoch = entry.epochs.get(block, 0)
        record = entry.records.get(block)
        if record is None or record[0] != epoch or not entry.stored.covers(start, end):
            return
        if digest(self.algorithm, os.pread(entry.temporary, end - start, start)) == record[1]:
            entry.verified.add(block)
        elif epoch == wire.EPOCH_MAX:
            self.fail(entry, CHANGED, "")
        else:
            entry.epochs[block] = epoch + 1
            entry.stored.remove(start, end)
            for a, b in entry.holes.rows:
                entry.stored.add(max(a, start), min(b, end))
            self.answer("again", entry=entry.number, block=block, epoch=epoch + 1)

    def maybe_commit(self, entry):
        blocks = (entry.size + BLOCK - 1) // BLOCK
        if (entry.settled or entry.temporary is None or not entry.holes_known
                or entry.may_grow or len(entry.verified) < blocks):
            return
        final, fields = os.path.join(self.folder, entry.path), entry.fields
        name = os.path.join(self.work, str(entry.number))
        try:
            os.fchmod(entry.temporary, fields["mode"] & 0o777)
            os.utime(entry.temporary, ns=(times(fields), times(fields)))
            os.fsync(entry.temporary)
            os.link(name, final)  # unlike rename, it never replaces
        except FileExistsError:
            self.fail(entry, EXISTS, "")
        except OSError as error:
            self.fail(entry, DISK, str(error))
        else:
            self.settle(entry, "committed")

    def fail(self, entry, code, text):
        self.settle(entry, "failed", code, text)

    def settle(self, entry, outcome, code=0, text=""):
        entry.settled = True
        if entry.temporary is not None:
            os.close(entry.temporary)
            os.unlink(os.path.join(self.work, str(entry.number)))
            entry.temporary = None
        if outcome in ("refused", "failed"):
            log(outcome, repr(entry.path), code, repr(text))
            text = text.encode("utf-8", "replace")[:255].decode("utf-8", "ignore").encode()
            self.answer(outcome, entry=entry.number, code=code, text=text)
            self.tally["failed"] += 1
        else:
            self.answer(outcome, first_entry=entry.number, entries=1)
            self.tally["present" if outcome == "present" else "committed"] += 1

    def maybe_end(self):
        """Sends answer END once everything is settled."""
        if self.end is None or self.ended_at is not None:
            return
        if self.digests_at < self.end["digests_bytes"]:
            return
        value = end_digest(self.algorithm, self.manifest.data[:self.end_at],
                           self.first_digests)
        if value != self.end["digest"]:
            raise Failure("END's digest differs", 7)
        if self.entries and self.entries[-1].may_grow:
            self.entries[-1].may_grow = False  # the pipe ends with the manifest
            self.maybe_commit(self.entries[-1])
        if not all(entry.settled for entry in self.entries):
            return
        for path, fields in reversed(self.folders):
            os.chmod(path, fields["mode"] & 0o777)
            os.utime(path, ns=(times(fields), times(fields)))
        self.ended_at = now()
        self.answer("end", **self.tally)

    # What is sent

    def send(self, name, flags, frame):
        datagram = wire.seal(TYPES[name], flags, self.start["connection"], self.number,
                             self.start["seed"], frame)
        self.number += 1
        self.last_sent = now()
        self.sock.send(datagram)

    def send_ack(self):
        base = max(0, self.largest - 4 * QUEUE * 8) // 64 * 64
        bits = sum(1 << (n - base) for n in range(base, self.largest + 1) if n in self.held)
        words = (self.largest - base) // 64 + 1
        self.send("ack", 0, wire.pack("ack", {
            "largest": self.largest, "arrival_us": int((self.largest_at - self.clock) * 1e6),
            "delay_us": int((now() - self.largest_at) * 1e6),
            "received_packets": self.received_packets, "received_bytes": self.received_bytes,
            "duplicates": self.duplicates & 0xFFFFFFFF, "drops": 0, "ecn_ce": 0,
            "max_number": self.largest + QUEUE,
            "max_manifest": min(wire.SPACE_END - 1, self.manifest_at + STREAM_WINDOW),
            "max_digests": min(wire.SPACE_END - 1, self.digests_at + STREAM_WINDOW),
            "max_body": wire.BODY_MAX, "written": self.written,
            "datagram_bytes": self.datagram_bytes, "limit": 1, "base": base,
            "bitmap": bits.to_bytes(8 * words, "little")}))
        self.unreported, self.first_unreported = 0, None

    def answer(self, name, **fields):
        self.answers += wire.record("answer_" + name, **fields)

    def send_answers(self):
        limit = min(len(self.answers), self.answers_acked + ANSWERS_WINDOW)
        wait = self.answers_wait or max(2 * self.srtt, 0.01)
        if self.answers_acked < self.answers_sent and now() - self.answers_time >= wait:
            self.answers_wait = min(1.0, 2 * wait)
            self.answers_sent = self.answers_acked  # all again
        while self.answers_sent < limit:
            part = bytes(self.answers[self.answers_sent:min(limit, self.answers_sent + 1180)])
            frame = wire.pack("data", {"offset": self.answers_sent, "payload": part})
            self.send("data", SPACES["answers"], frame)
            self.answers_sent += len(part)
            self.answers_time = now()

    def close(self, code, text):
        frame = wire.pack("close", {"code": code, "text": text.encode()[:255]})
        self.send("close", 0, frame)
        self.send("close", 0, frame)

    # The loop

    def step(self, got):
        if got:
            try:
                self.take_datagram(got[0])
            except wire.Invalid:
                pass
        self.maybe_end()
        self.send_answers()
        if self.first_unreported is not None:
            if now() - self.first_unreported >= min(max(self.srtt / 4, 0.00025), 0.005):
                self.send_ack()
        elif now() - self.last_sent > 1:
            self.send_ack()

    def take_datagram(self, datagram):
        """Faults of a packet drop it; faults of a record end the transfer."""
        wire.open_packet(datagram, self.seed, self.largest + 1, wire.TO_RECEIVER)
        try:
            self.handle(datagram)
        except wire.Invalid as why:
            raise Failure(str(why), 1) from None

    def run(self):
        while True:
            timeout = 0.002 if self.first_unreported is not None else 0.01
            self.step(self.sock.receive(timeout))
            if self.closed:
                if self.closed["code"] or self.ended_at is None:
                    raise Failure("CLOSE %d %r" % (self.closed["code"], self.closed["text"]))
                break
            if self.ended_at is not None:
                if self.answers_acked == len(self.answers) or self.sock.refused:
                    break
                if now() - self.ended_at > LINGER:
                    break
            elif now() - self.heard > (10.0 if self.sock.refused else SILENCE):
                raise Failure("nothing was heard for too long", 8)
        if self.tally["failed"]:
            raise Failure("%d entries failed" % self.tally["failed"])


def times(fields):
    return fields["mtime_seconds"] * 10**9 + fields["mtime_nanos"]


class Door:
    """The handshake: answers HELLO without keeping anything, until a START proves its address."""

    def __init__(self, sock):
        self.sock, self.key = sock, os.urandom(32)

    def cookie(self, address, hello, ticks):
        text = b"%s|%d|" % (address[0].encode(), address[1]) + hello + ticks.to_bytes(8, "big")
        mac = hashlib.blake2b(text, key=self.key, digest_size=8).digest()
        return int.from_bytes(mac[:4], "big") or 1, int.from_bytes(mac[4:], "big")

    def welcome(self, hello, frame, address):
        connection, seed = self.cookie(address, frame, int(time.time() // 15))
        name, fields, refusal = "welcome", dict(
            version=1, mode=0, digest=hello["digest"], nonce=hello["nonce"], connection=connection,
            seed=seed, socket_bytes=QUEUE * 1472, datagram_bytes_max=65507, credit=QUEUE,
            key_share=ZEROS, proof=bytes(16)), None
        if hello["version_min"] > 1:
            refusal = (2, b"version 1 only")
        elif hello["mode"] != 0:
            refusal = (10, b"open mode only")
        elif hello["digest"] == 2:
            refusal = (11, b"BLAKE3 is not known here")
        if refusal:
            name, fields = "close", {"code": refusal[0], "text": refusal[1]}
        datagram = wire.seal(TYPES[name], 0, hello["connection"], 0, hello["seed"],
                             wire.pack(name, fields))
        self.sock.send(datagram, address)

    def proven(self, datagram, address):
        """(START's fields, connection, seed), or None."""
        frame = datagram[wire.HEADER:80]
        for ticks in (int(time.time() // 15), int(time.time() // 15) - 1):
            connection, seed = self.cookie(address, frame, ticks)
            if wire.peek_connection(datagram) == connection:
                packet = wire.open_packet(datagram, seed, 0, wire.TO_RECEIVER)
                if packet.name == "start":
                    return packet.fields, connection, seed
        return None

    def wait(self, folder):
        """The receiver for the first proven sender."""
        while True:
            got = self.sock.receive(1.0)
            if not got or len(got[0]) < wire.HEADER:
                continue
            datagram, address = got
            try:
                if datagram[0] == TYPES["hello"]:
                    packet = wire.open_packet(datagram, 0, 0, wire.TO_RECEIVER)
                    wire.need(packet.fields["options"] != 2, "DISCARD is not known here")
                    self.welcome(packet.fields, datagram[wire.HEADER:80], address)
                    continue
                start = self.proven(datagram, address)
            except wire.Invalid:
                continue
            if start:
                self.sock.connect(address)
                receiver = Receiver(folder, self.sock, *start)
                receiver.take_datagram(datagram)
                return receiver


def receive(folder, port, bind="127.0.0.1", drop=0.0, seed=0):
    """Takes one transfer; raises Failure unless all of it was committed."""
    raw = socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET, socket.SOCK_DGRAM)
    raw.bind((bind, port))
    receiver = Door(LossySocket(raw, drop, seed)).wait(folder)
    try:
        receiver.run()
    except Failure as failure:
        if failure.code is not None:
            receiver.close(failure.code, str(failure))
        raise
    finally:
        for entry in receiver.entries:
            if entry.temporary is not None:
                os.close(entry.temporary)
        shutil.rmtree(receiver.work)
    log("received", receiver.tally)
