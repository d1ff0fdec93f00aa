"""A sender of ufx version 1: fixed window, simple loss detection, one transfer."""
import bisect
import heapq
import os
import socket
import stat
import time

import ufx_wire as wire
from ufx_common import Failure, LossySocket, Stream, block_range, digest, end_digest, log, now
from ufx_wire import ACK_NOW, BLOCK, SPACES, TYPES

WINDOW = 64
HELLO_TIMES = [0.0, 0.02, 0.06, 0.14, 0.3]
PATIENCE, SILENCE = 10.0, 20.0
STREAM_CREDIT = 1 << 20  # before the first ACK; see max_manifest, max_digests
HELLO_END = 80


class Entry:
    """One entry, and what the receiver has said about it."""

    def __init__(self, path, name, status, start):
        self.path, self.name, self.status, self.start = path, name, status, start
        self.kind = (1 if stat.S_ISREG(status.st_mode) else 2 if stat.S_ISDIR(status.st_mode)
                     else 3 if stat.S_ISLNK(status.st_mode) else 0)
        self.size = status.st_size if self.kind == 1 else 0
        self.holes, self.outcome, self.void = [], None, False
        self.skip_blocks, self.epochs = set(), {}


def identity(status):
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def find_holes(path, size):
    """(offset, bytes) of the ranges without data, as far as the file system tells."""
    holes, at = [], 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        while at < size:
            try:
                data = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError:
                data = size  # ENXIO: a hole up to the end
            if data > at:
                holes.append((at, min(data, size) - at))
            if data >= size:
                break
            at = os.lseek(descriptor, data, os.SEEK_HOLE)
    finally:
        os.close(descriptor)
    return holes


def walk(paths):
    """(path, name) of all entries, a directory before what is in it."""
    for path in paths:
        path = os.fsencode(path.rstrip("/"))
        yield path, os.path.basename(path)
        if os.path.isdir(path) and not os.path.islink(path):
            for folder, folders, files in os.walk(path):
                folders.sort()
                for name in sorted(folders + files):
                    full = os.path.join(folder, name)
                    inside = os.path.relpath(full, path)
                    yield full, os.path.join(os.path.basename(path), inside)


class Sender:
    def __init__(self, paths, sock, algorithm, dry_run):
        self.sock, self.algorithm, self.dry_run = sock, algorithm, dry_run
        self.entries, self.starts, self.body_bytes = [], [], 0
        self.spaces = {"manifest": bytearray(), "digests": bytearray()}
        self.first_digests = bytearray()  # of epoch 0: what END's digest is over
        self.queue = {"manifest": [], "digests": [], "body": []}  # heaps of (offset, length)
        self.open_file = (None, None)
        for path, name in walk(paths):
            self.add_entry(path, name)
        self.work = self.read_files()  # a generator: reads one block at each step
        self.reading = True
        # The connection.
        self.number, self.expected = 0, 0
        self.in_flight = {}  # number -> (time, content or None, bytes)
        self.declared_lost = {}
        self.srtt, self.rttvar, self.latest_rtt, self.largest = None, 0.0, 0.0, -1
        self.pto_count, self.timer_from, self.heard = 0, now(), now()
        self.heard_transfer, self.last_sent = False, now()
        self.answers, self.answers_at, self.end = Stream(), 0, None

    def add_entry(self, path, name):
        entry = Entry(path, name, os.lstat(path), self.body_bytes)
        if entry.kind == 0:
            log("skipped, neither file, directory nor link:", os.fsdecode(path))
            return
        status = entry.status
        content = wire.record(
            "record_entry", type=entry.kind, mode=stat.S_IMODE(status.st_mode),
            mtime_seconds=status.st_mtime_ns // 10**9, mtime_nanos=status.st_mtime_ns % 10**9,
            size=entry.size, device=status.st_dev, inode=status.st_ino,
            ctime_seconds=status.st_ctime_ns // 10**9, ctime_nanos=status.st_ctime_ns % 10**9,
            path_bytes=len(name), path=name,
            target=os.readlink(path) if entry.kind == 3 else b"")
        if entry.kind == 1:
            try:
                entry.holes = find_holes(path, entry.size)
            except OSError:
                entry.void = True
        self.append("manifest", content)
        for offset, size in entry.holes:
            self.append("manifest", wire.record("record_hole", offset=offset, bytes=size))
        if entry.void:
            self.append("manifest", wire.record("record_void", entry=len(self.entries), reason=3))
        self.entries.append(entry)
        self.starts.append(entry.start)
        self.body_bytes += entry.size

    # What is sent

    def append(self, space, data):
        """Adds bytes to a stream and queues them."""
        offset = len(self.spaces[space])
        self.spaces[space] += data
        for at in range(offset, offset + len(data), 1400):
            heapq.heappush(self.queue[space], (at, min(1400, offset + len(data) - at)))

    def read_files(self):
        """Reads every block once: its digest record and the chunks of its body; then END."""
        for number, entry in enumerate(self.entries):
            blocks = (entry.size + BLOCK - 1) // BLOCK
            for block in range(blocks if not self.dry_run else 0):
                if entry.outcome or entry.void:
                    break
                if block not in entry.skip_blocks:
                    self.read_block(number, entry, block, 0)
                yield
        value = end_digest(self.algorithm, self.spaces["manifest"], self.first_digests)
        self.append("manifest", wire.record("record_end", entries=len(self.entries),
                                            body_bytes=self.body_bytes,
                                            digests_bytes=len(self.spaces["digests"]),
                                            digest=value))

    def read_block(self, number, entry, block, epoch):
        start, end = block_range(entry.size, block)
        data_ranges = self.data_ranges(entry, start, end)
        if not data_ranges:
            return
        content = self.read(number, entry, start, end - start)
        if content is None:
            return
        for a, b in data_ranges:
            for at in range(a, b, 1452):
                heapq.heappush(self.queue["body"], (entry.start + at, min(1452, b - at)))
        record = wire.record("record_digest", entry=number, block=block, epoch=epoch,
                             digest=digest(self.algorithm, content))
        self.append("digests", record)
        if epoch == 0:
            self.first_digests += record

    @staticmethod
    def data_ranges(entry, start, end):
        """The parts of [start, end) of the file outside holes."""
        rows, at = [], start
        for offset, size in entry.holes:
            if offset + size > at and offset < end:
                rows.append((at, offset))
                at = offset + size
        rows.append((at, end))
        return [(a, b) for a, b in rows if a < b]

    def read(self, number, entry, offset, size):
        """Bytes of a file that is still the one announced; None, and VOID sent, otherwise."""
        reason = 1
        try:
            if self.open_file[0] != number:
                if self.open_file[1] is not None:
                    os.close(self.open_file[1])
                self.open_file = (None, None)
                flags = os.O_RDONLY | os.O_NOFOLLOW
                self.open_file = (number, os.open(entry.path, flags))
            data = os.pread(self.open_file[1], size, offset)
            same = identity(os.fstat(self.open_file[1])) == identity(entry.status)
            if same and len(data) == size:
                return data
        except FileNotFoundError:
            reason = 2
        except OSError:
            reason = 3
        if not entry.void:
            log("cannot be sent as announced:", os.fsdecode(entry.path))
            entry.void = True
            self.append("manifest", wire.record("record_void", entry=number, reason=reason))
        return None

    def wanted(self, space, offset):
        if space != "body":
            return True
        entry = self.entries[bisect.bisect_right(self.starts, offset) - 1]
        return not (entry.void or entry.outcome
                    or (offset - entry.start) // BLOCK in entry.skip_blocks)

    def payload(self, space, offset, size):
        if space != "body":
            return bytes(self.spaces[space][offset:offset + size])
        # Of entries with the same start (empty ones) the last is the one with bytes.
        number = bisect.bisect_right(self.starts, offset) - 1
        return self.read(number, self.entries[number], offset - self.entries[number].start, size)

    # Packets

    def send(self, name, flags, frame, content):
        datagram = wire.seal(TYPES[name], flags, self.connection, self.number, self.seed, frame)
        self.in_flight[self.number] = (now(), content, len(datagram))
        self.number += 1
        self.timer_from = self.last_sent = now()
        while not self.sock.send(datagram):
            time.sleep(0.001)

    def send_start(self):
        srtt = int((self.srtt or 0) * 1e6)
        self.send("start", 0, self.hello[:HELLO_END - wire.HEADER] + srtt.to_bytes(4, "big"), None)

    def send_probe(self, flags):
        self.send("probe", flags, wire.pack("probe", {
            "srtt_us": int((self.srtt or 0) * 1e6), "window_packets": WINDOW,
            "answers": self.answers.ready, "zeros": 0}), None)

    def send_chunk(self, flags=0):
        """Sends the first queued chunk that credit allows. False if there is none."""
        for space in ("manifest", "digests", "body"):
            heap = self.queue[space]
            while heap:
                offset, size = heap[0]
                if offset + size > self.max_offset[space]:
                    break
                heapq.heappop(heap)
                if not self.wanted(space, offset):
                    continue
                data = self.payload(space, offset, size)
                if data is None:
                    continue
                frame = wire.pack("data", {"offset": offset, "payload": data})
                self.send("data", flags | SPACES[space], frame, (space, offset, size))
                return True
        return False

    def transmit(self):
        while len(self.in_flight) < WINDOW and self.number <= self.max_number:
            if self.reading and not self.queue["body"]:
                self.reading = next(self.work, "done") != "done"
                continue
            if not self.send_chunk():
                return

    # Handshake

    def handshake(self):
        own = os.urandom(24)
        self.own_connection = int.from_bytes(own[:4], "big") or 1
        self.own_seed = int.from_bytes(own[4:8], "big")
        fields = {"magic": wire.MAGIC, "version_max": 1, "version_min": 1, "mode": 0,
                  "digest": wire.DIGEST_NUMBERS[self.algorithm], "options": int(self.dry_run),
                  "connection": self.own_connection, "seed": self.own_seed, "nonce": own[8:24],
                  "key_share": bytes(32), "zeros": wire.HELLO_BYTES - HELLO_END}
        self.hello = wire.pack("hello", fields)
        hello = wire.seal(TYPES["hello"], 0, 0, 0, 0, self.hello)
        start, times, self.hellos = now(), list(HELLO_TIMES), 0
        while now() - start < (2.0 if self.sock.refused else PATIENCE):
            if times[0] <= now() - start:
                self.sock.send(hello)
                self.hellos += 1
                times.pop(0)
                if not times:
                    times.append(now() - start + 0.3 + 0.05 * self.sock.random.random())
            got = self.sock.receive(min(0.02, max(0, times[0] - (now() - start))))
            if got and self.welcomed(got[0], fields, start):
                return
        raise Failure("no answer")

    def welcomed(self, datagram, hello, start):
        try:
            packet = wire.open_packet(datagram, self.own_seed, 0, wire.TO_SENDER)
            wire.need(packet.connection == self.own_connection, "connection")
        except wire.Invalid:
            return False
        answer = packet.fields
        if packet.name == "close":
            raise Failure("CLOSE %d %r" % (answer["code"], answer["text"]))
        same = all(answer.get(key) == hello[key] for key in ("nonce", "mode", "digest"))
        if packet.name != "welcome" or not same or answer["version"] != 1:
            return False
        self.connection, self.seed = answer["connection"], answer["seed"]
        self.max_number = answer["credit"] - 1
        self.max_offset = {"manifest": STREAM_CREDIT, "digests": STREAM_CREDIT,
                           "body": 1 << 24}
        if self.hellos == 1:  # of several nobody knows which one was answered
            self.sample_rtt(now() - start)
        self.heard = now()
        return True

    # What comes back

    def handle(self, datagram):
        try:
            packet = wire.open_packet(datagram, self.own_seed, self.expected, wire.TO_SENDER)
            wire.need(packet.connection == self.own_connection, "connection")
            wire.need(packet.name != "welcome", "late WELCOME")
        except wire.Invalid:
            return
        self.expected = max(self.expected, packet.number + 1)
        if packet.name == "ack" and packet.fields["largest"] >= self.number:
            return  # of what was never sent: dropped, and breaks no silence
        known, self.heard_transfer = self.answers.ready, True
        if packet.name == "close":
            raise Failure("CLOSE %d %r" % (packet.fields["code"], packet.fields["text"]))
        if packet.name == "ack":
            self.take_ack(packet.fields)
        if packet.name == "data" and packet.fields["offset"] < self.answers.ready + (1 << 18):
            self.answers.take(packet.fields["offset"], packet.fields["payload"])
            self.read_answers()
            self.probe_soon = True
        if packet.name == "ack" or self.answers.ready > known:
            self.heard = now()  # answers that came before break no silence

    def take_ack(self, ack):
        bits = int.from_bytes(ack["bitmap"], "little")
        self.max_number = max(self.max_number, ack["max_number"])
        for space in self.max_offset:
            self.max_offset[space] = max(self.max_offset[space], ack["max_" + space])
        reported = [n for n in list(self.in_flight) + list(self.declared_lost)
                    if n >= ack["base"] and bits >> (n - ack["base"]) & 1]
        if not reported:
            return
        if ack["largest"] in self.in_flight and ack["largest"] in reported:
            self.sample_rtt(now() - self.in_flight[ack["largest"]][0] - ack["delay_us"] / 1e6)
        self.largest = max(self.largest, ack["largest"])
        self.pto_count = 0
        for number in reported:
            self.in_flight.pop(number, None)
            # A spurious loss: what still waits to be sent again is not needed again.
            content = self.declared_lost.pop(number, None)
            if content and content[1:] in self.queue[content[0]]:
                self.queue[content[0]].remove(content[1:])
                heapq.heapify(self.queue[content[0]])
        self.find_lost(max(reported))

    def sample_rtt(self, sample):
        self.latest_rtt = sample = max(sample, 1e-6)
        if self.srtt is None:
            self.srtt, self.rttvar = sample, sample / 2
            return
        self.rttvar += (abs(self.srtt - sample) - self.rttvar) / 4
        self.srtt += (sample - self.srtt) / 8

    def find_lost(self, newest):
        srtt = self.srtt or 0.0
        patience = max(srtt, self.latest_rtt) + max(srtt / 4, 0.0002)
        for number, (sent, content, _) in list(self.in_flight.items()):
            if number < newest and (newest - number >= 8 or now() - sent > patience):
                del self.in_flight[number]
                if content:
                    self.declared_lost[number] = content
                    heapq.heappush(self.queue[content[0]], content[1:])
        while len(self.declared_lost) > 4096:
            del self.declared_lost[min(self.declared_lost)]

    def read_answers(self):
        while self.end is None:
            ready = memoryview(self.answers.data)[:self.answers.ready]
            try:
                found = wire.next_record(wire.ANSWER_KINDS, ready, self.answers_at, self.algorithm)
                if found is None:
                    return
                self.take_answer(found[0][len("answer_"):], found[1])
            except wire.Invalid as why:
                raise Failure("answers: %s" % why, 1) from None
            finally:
                ready.release()
            self.answers_at = found[2]

    def take_answer(self, name, answer):
        first = answer.get("entry", answer.get("first_entry", 0))
        count = answer.get("entries", 1)
        if name != "end":
            wire.need(first + count <= len(self.entries), "answer's entry")
            wire.need(all(entry.outcome is None for entry in self.entries[first:first + count]),
                      "entry settled before")
        wire.need(name != ("committed" if self.dry_run else "take"), "answer of the other mode")
        if name == "end":
            self.end = answer
        elif name == "have":
            blocks = range(answer["first_block"], answer["first_block"] + answer["blocks"])
            wire.need(blocks.stop <= (self.entries[first].size + BLOCK - 1) // BLOCK, "HAVE")
            self.entries[first].skip_blocks.update(blocks)
        elif name == "again":
            self.read_again(first, answer["block"], answer["epoch"])
        else:
            for number in range(first, first + count):
                self.entries[number].outcome = name
                if name in ("refused", "failed"):
                    log(name, os.fsdecode(self.entries[number].name), answer["code"],
                        answer["text"].decode())

    def read_again(self, number, block, epoch):
        entry = self.entries[number]
        wire.need(block < (entry.size + BLOCK - 1) // BLOCK, "AGAIN's block")
        wire.need(epoch == entry.epochs.get(block, 0) + 1, "AGAIN's epoch")
        entry.epochs[block] = epoch
        start, end = (entry.start + edge for edge in block_range(entry.size, block))
        inside = ("body", range(start, end))
        # What is queued or in flight of this block is content of the epoch before.
        self.queue["body"] = [row for row in self.queue["body"] if row[0] not in inside[1]]
        heapq.heapify(self.queue["body"])
        for table in (self.in_flight, self.declared_lost):
            for key, row in list(table.items()):
                content = row[1] if table is self.in_flight else row
                if content and content[0] == "body" and content[1] in inside[1]:
                    table[key] = (row[0], None, row[2]) if table is self.in_flight else None
        self.read_block(number, entry, block, epoch)

    # The loop

    def pto(self):
        base = 0.02
        if self.srtt is not None:
            base = max(self.srtt + max(4 * self.rttvar, 0.0002) + 0.005, 0.001)
        doublings = 12 if self.in_flight or not self.heard_transfer else 2  # credit alone holds
        return min(max(1.0, base), base * 2 ** min(self.pto_count, doublings))

    def probe_timeout(self):
        self.pto_count += 1
        self.timer_from = now()
        if not self.heard_transfer:
            self.send_start()
        oldest = [n for n, row in sorted(self.in_flight.items()) if row[1]][:2]
        for number in oldest:
            content = self.in_flight.pop(number)[1]
            self.declared_lost[number] = content
            heapq.heappush(self.queue[content[0]], content[1:])
        if not (oldest and self.send_chunk(ACK_NOW)):
            self.send_probe(ACK_NOW)
        elif len(oldest) == 2:
            self.send_chunk(ACK_NOW)
        for number in [n for n, row in self.in_flight.items() if row[1] is None]:
            if now() - self.in_flight[number][0] > 1:
                del self.in_flight[number]

    def run(self):
        self.handshake()
        self.send_start()
        self.send_start()
        self.probe_soon = False
        while self.end is None:
            self.transmit()
            got = self.sock.receive(min(0.02, max(0.0, self.timer_from + self.pto() - now())))
            for _ in range(64):
                if not got:
                    break
                self.handle(got[0])
                got = self.sock.receive(0)
            if self.probe_soon:
                self.probe_soon = False
                self.send_probe(0)
            held = self.number > self.max_number and any(self.queue.values())
            waiting = self.in_flight or not self.heard_transfer or held
            if waiting and now() >= self.timer_from + self.pto():
                self.probe_timeout()
            elif now() - self.last_sent > 1:
                self.send_probe(ACK_NOW)
            if now() - self.heard > (10.0 if self.sock.refused else SILENCE):
                raise Failure("nothing was heard for too long", 8)
        self.finish()

    def finish(self):
        tally = {"committed": 0, "present": 0, "failed": 0}
        names = {"committed": "committed", "take": "committed", "present": "present",
                 "refused": "failed", "failed": "failed"}
        for entry in self.entries:
            if entry.outcome is None:
                raise Failure("END, but %r is not settled" % entry.name, 1)
            tally[names[entry.outcome]] += 1
        if tally != self.end:
            raise Failure("END's counts %r are not %r" % (self.end, tally), 1)
        self.close(0)
        if tally["failed"]:
            raise Failure("%d entries failed" % tally["failed"])

    def close(self, code, text=""):
        frame = wire.pack("close", {"code": code, "text": text.encode()[:255]})
        self.send("close", 0, frame, None)
        self.send("close", 0, frame, None)


def send(paths, host, port, algorithm="none", dry_run=False, drop=0.0, seed=0):
    """Sends `paths`; raises Failure unless everything is settled and nothing failed."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = LossySocket(socket.socket(family, kind), drop, seed)
    sock.connect(address)
    sender = Sender(paths, sock, algorithm, dry_run)
    try:
        sender.run()
    except Failure as failure:
        if failure.code is not None:
            sender.close(failure.code, str(failure))
        raise
    log("sent %d entries, %d packets" % (len(sender.entries), sender.number), sender.end)
