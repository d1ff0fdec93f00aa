"""Writes the seeds of the fuzz targets from the golden packets: python3 fuzz/make_corpus.py

Inputs begin with the bytes that the targets take their first choices from (see src/*.rs)."""

import pathlib
import random

TOP = pathlib.Path(__file__).resolve().parent
VECTORS = TOP.parent / "tests" / "vectors"


def read(path):
    """The comments `# key: value` of a vector, and its bytes."""
    meta, digits = {}, ""
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            key, colon, value = line[1:].partition(":")
            if colon:
                meta[key.strip()] = value.strip()
        else:
            digits += line
    return meta, bytes.fromhex(digits)


def write(target, name, content):
    folder = TOP / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def main():
    for path in sorted(VECTORS.glob("*.hex")):
        meta, content = read(path)
        if meta["frame"] == "invalid":
            continue
        if "direction" in meta:
            kind = 1 if meta["frame"] == "hello" else 0
            expected = int(meta["expected"]).to_bytes(8, "big")
            # Zeros that nobody looks at only slow the mutations down.
            if len(content) < 2000:
                write("packets", path.stem, bytes([kind]) + expected + content)
            if meta["frame"] == "hello":
                # now, refusal, number, delay, other peer, changes, then the HELLO's frame
                choices = bytes(4 + 1 + 4 + 2 + 1 + 6)
                write("admission", path.stem, choices + content[14:80])
        else:
            kinds = {"answer": 1, "none": 2, "xxh3": 3, "blake3": 4}
            kind = 0
            if meta["frame"].startswith("answer"):
                kind = kinds["answer"]
            elif meta["frame"] == "record_digest":
                kind = kinds[meta["algorithm"]]
            if len(content) < 2000:
                write("records", path.stem, bytes([kind]) + content)
    names = [
        (b"photos/2024/a.jpg", b""),
        (b"tree/sub/link", b"../file"),
        (b"tree/sub/link", b"../../other"),
        (b"tree/link", b"./sub//file/"),
        (b"a/../b", b""),
        (b".ufx-0123456789abcdef.part", b"x"),
        (b"\x1b[2J\xff\\\n", b""),
        ("größe/\u202egpj.exe".encode(), b""),
    ]
    for index, (name, target) in enumerate(names):
        write("names", str(index), len(name).to_bytes(2, "big") + name + target)
    # The machines take any byte as a step: a few long walks are enough to begin with.
    for target in ["receiver", "sender"]:
        for seed in range(8):
            walk = random.Random(f"{target} {seed}")
            write(target, str(seed), walk.randbytes(256))


main()
