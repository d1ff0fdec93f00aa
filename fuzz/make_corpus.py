"""Writes the seeds of the fuzz targets, most of them from the golden packets.

    make_corpus.py            writes them all anew
    make_corpus.py --check    only says whether the files are what this script would write

Inputs begin with the bytes that the targets take their first choices from (see src/*.rs). What
fuzzing has found lies beside them, as regression-WHAT."""

import pathlib
import random
import sys

TOP = pathlib.Path(__file__).resolve().parent
CORPUS = TOP / "corpus"
VECTORS = TOP.parent / "tests" / "vectors"
files = {}

COMMAND_LINES = [
    "send photos nas",
    "send --rate 950Mbit/s --mtu 9000 --wait 1.5s --timeout 2m a b [fe80::1%lo]",
    "send --exclude *.tmp --exclude {a,b}/[!c]?/ --cc fixed --rate 25MB/s . 10.0.0.1",
    "send --files-from - -0 -n -q nas.local",
    "send --port 65535 --digest blake3 --links all -v --json ./-x 2001:db8::1",
    "recv --dir incoming --bind [::1] --port 0 --once --fsync",
    "recv --allow 203.0.113.0/24 --allow any --buffer 64KiB --existing rename",
    "bench --rate 100M,1G --rtt 0.2ms,10ms --loss 0,0.5 --size 200MB --queue 64KiB",
    "bench --against ufx,bbr,nc=nc --runs 3 --seed 7 --burst 8 --jitter 1ms",
    "bench nas --port 9000 --size 1GB",
    "--version",
    "get x",
]


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
    assert (target, name) not in files and not name.startswith("regression-")
    files[target, name] = content


def make():
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
        write("escaper", str(index), name)
    write("escaper", "bidi", "exe\u202etxt \u200f\u2028\ufeff\x9b31m".encode())
    write("escaper", "poses", rb"poses\x1b\u{202e}\\")
    for index, line in enumerate(COMMAND_LINES):
        write("command_line", str(index), "\n".join(line.split()).encode())
    # A session, blocks, a mark, a session of another boot, a damage, a torn end.
    write("journal", "plain", bytes([0, 0, 3, 1, 5, 0, 3, 2, 6, 0]))
    write("journal", "marked", bytes([1, 0, 9, 0, 3, 1, 5, 0, 3, 2, 6, 0, 2, 1, 0, 0, 0]))
    write("journal", "damaged", bytes([0, 0, 3, 1, 5, 0, 3, 2, 6, 0xFF, 3, 3, 7, 0]))
    write("journal", "foreign", bytes([1, 0, 1, 0, 4, 5, 9, 0, 0, 0, 3, 1, 5, 0]))
    write("journal", "torn", bytes([0, 0, 3, 1, 5, 0, 3, 2, 6, 0xFF]))
    # The machines take any byte as a step: a few long walks are enough to begin with.
    for target in ["receiver", "sender"]:
        for seed in range(8):
            walk = random.Random(f"{target} {seed}")
            write(target, str(seed), walk.randbytes(256))


def main():
    make()
    paths = {CORPUS / target / name: content for (target, name), content in files.items()}
    if "--check" in sys.argv:
        there = {path for path in CORPUS.glob("*/*") if not path.name.startswith("regression-")}
        wrong = {path for path in paths.keys() & there if path.read_bytes() != paths[path]}
        wrong |= paths.keys() ^ there
        for path in sorted(wrong):
            print("not what make_corpus.py writes:", path.relative_to(TOP))
        sys.exit(1 if wrong else 0)
    for path, content in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


main()
