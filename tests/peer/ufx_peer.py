#!/usr/bin/env python3
"""An independent ufx version 1 peer (open mode), written from proto.md alone, for tests.

    ufx_peer.py send PATH... HOST PORT     sends and waits until everything is settled
    ufx_peer.py recv DIR PORT              takes one transfer, then exits

The exit code is 0 only if all entries were committed (or were there already) and verified.
"""
import argparse
import sys

from ufx_common import Failure, log
from ufx_receiver import receive
from ufx_sender import send


def main():
    parser = argparse.ArgumentParser(description="ufx version 1 test peer")
    parser.add_argument("--drop", type=float, default=0.0, help="probability to lose a packet")
    parser.add_argument("--seed", type=int, default=0, help="of the random losses")
    commands = parser.add_subparsers(dest="command", required=True)
    sender = commands.add_parser("send")
    sender.add_argument("paths", nargs="+", metavar="PATH")
    sender.add_argument("host")
    sender.add_argument("port", type=int)
    sender.add_argument("--digest", choices=["none", "xxh3"], default="none")
    sender.add_argument("--dry-run", action="store_true")
    receiver = commands.add_parser("recv")
    receiver.add_argument("folder", metavar="DIR")
    receiver.add_argument("port", type=int)
    receiver.add_argument("--bind", default="127.0.0.1")
    for command in (sender, receiver):  # the options may stand before or behind the command
        command.add_argument("--drop", type=float, default=argparse.SUPPRESS)
        command.add_argument("--seed", type=int, default=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.command == "send":
            send(options.paths, options.host, options.port, options.digest, options.dry_run,
                 options.drop, options.seed)
        else:
            receive(options.folder, options.port, options.bind, options.drop, options.seed)
    except (Failure, OSError) as failure:
        log("ufx_peer %s:" % options.command, failure)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
