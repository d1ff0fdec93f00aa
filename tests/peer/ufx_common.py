"""What the sender and the receiver share: ranges, record streams, a lossy socket, digests."""
import random
import select
import socket
import sys
import time

import xxh3
from ufx_wire import BLOCK


class Failure(Exception):
    """The transfer is over. `code` is a close code to tell the peer, None to say nothing."""

    def __init__(self, why, code=None):
        super().__init__(why)
        self.code = code


class Ranges:
    """A set of numbers as sorted, separate [start, end) ranges."""

    def __init__(self):
        self.rows = []

    def add(self, start, end):
        if start >= end:
            return
        keep = []
        for a, b in self.rows:
            if b < start or a > end:
                keep.append((a, b))
            else:
                start, end = min(a, start), max(b, end)
        self.rows = sorted(keep + [(start, end)])

    def remove(self, start, end):
        kept = []
        for a, b in self.rows:
            kept += [(a, min(b, start)), (max(a, end), b)]
        self.rows = [(a, b) for a, b in kept if a < b]

    def covers(self, start, end):
        return start >= end or any(a <= start and end <= b for a, b in self.rows)

    def gaps(self, start, end):
        """The parts of [start, end) that are not in the set."""
        for a, b in self.rows:
            if b > start and a < end:
                if a > start:
                    yield start, a
                start = b
        if start < end:
            yield start, end


class Stream:
    """Puts the chunks of a space in order. Of bytes that come twice the first are kept."""

    def __init__(self):
        self.data, self.have, self.ready = bytearray(), bytearray(), 0

    def take(self, offset, payload):
        end = offset + len(payload)
        if end > len(self.data):
            more = bytes(end - len(self.data))
            self.data += more
            self.have += more
        for at, value in enumerate(payload, offset):
            if not self.have[at]:
                self.data[at], self.have[at] = value, 1
        first_gap = self.have.find(0, self.ready)
        self.ready = len(self.have) if first_gap < 0 else first_gap


class LossySocket:
    """A UDP socket that loses packets in both directions with probability `drop`."""

    def __init__(self, sock, drop, seed):
        self.sock, self.drop, self.random = sock, drop, random.Random(seed)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if sys.platform == "linux" and sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER = IP_PMTUDISC_DO: DF
        self.peer, self.refused = None, False

    def connect(self, address):
        self.sock.connect(address)
        self.peer = address

    def send(self, datagram, address=None):
        """False if the kernel had no room."""
        if self.random.random() < self.drop:
            return True
        try:
            if self.peer:
                self.sock.send(datagram)
            else:
                self.sock.sendto(datagram, address)
        except ConnectionRefusedError:
            self.refused = True
        except BlockingIOError:
            return False
        return True

    def receive(self, timeout):
        """The next (datagram, address), or None after `timeout` seconds."""
        if timeout > 0:
            select.select([self.sock], [], [], timeout)
        while True:
            try:
                datagram, address = self.sock.recvfrom(65535)
            except BlockingIOError:
                return None
            except ConnectionRefusedError:
                self.refused = True
                return None
            if self.random.random() >= self.drop:
                return datagram, address


def digest(algorithm, data):
    return xxh3.digest(data) if algorithm == "xxh3" else b""


def end_digest(algorithm, manifest, digests):
    """H(H(m) || H(d)) of manifest END."""
    return digest(algorithm, digest(algorithm, manifest) + digest(algorithm, digests))


def block_range(size, block):
    return block * BLOCK, min(size, (block + 1) * BLOCK)


def now():
    return time.monotonic()


def log(*words):
    print(*words, file=sys.stderr)
