#!/usr/bin/env python3
"""A plain TCP copy that shares nothing with ufx: the check on the TCP copy that `ufx bench` has.

    sendfile_copy.py recv PORT FILE
    sendfile_copy.py send FILE HOST PORT

The sender uses sendfile, the receiver 256 KiB reads into one buffer; both leave the congestion
control and the buffers to the kernel. The receiver writes a fresh file and confirms with a byte.
"""

import os
import socket
import sys


def send(path, host, port):
    with open(path, "rb") as source, socket.create_connection((host, port)) as connection:
        size = os.fstat(source.fileno()).st_size
        offset = 0
        while offset < size:
            offset += os.sendfile(connection.fileno(), source.fileno(), offset, size - offset)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(1) == b"1"


def receive(port, path):
    with socket.create_server(("0.0.0.0", port)) as listener:
        connection, _ = listener.accept()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    file = os.open(path, flags, 0o644)
    room = memoryview(bytearray(256 << 10))
    with connection:
        while count := connection.recv_into(room):
            rest = room[:count]
            while rest:
                rest = rest[os.write(file, rest) :]
        os.close(file)
        connection.sendall(b"1")
    return True


def main(words):
    match words:
        case ["send", path, host, port]:
            return send(path, host, int(port))
        case ["recv", port, path]:
            return receive(int(port), path)
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
