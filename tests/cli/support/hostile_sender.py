#!/usr/bin/env python3
"""A sender that announces a file under a name that no honest one would use.

    hostile_sender.py FILE PORT NAME_IN_HEXADECIMAL [--link NAME TARGET]

The transfer itself is the Python peer's (tests/peer). With --link a symbolic link goes first.
"""
import argparse
import os
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "peer"))

import ufx_sender  # noqa: E402
from ufx_common import Failure, log  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("port", type=int)
    parser.add_argument("name", type=bytes.fromhex)
    parser.add_argument("--link", nargs=2, metavar=("NAME", "TARGET"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        entries = [(os.fsencode(options.file), options.name)]
        if options.link:
            name, target = options.link
            path = os.path.join(scratch, "link")
            os.symlink(target, path)
            entries.insert(0, (os.fsencode(path), os.fsencode(name)))
        ufx_sender.walk = lambda paths: entries
        try:
            ufx_sender.send([options.file], "127.0.0.1", options.port, "none", False, 0.0, 0)
        except (Failure, OSError) as failure:
            log("hostile_sender:", failure)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
