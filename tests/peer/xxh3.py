"""XXH3-128 with seed 0, in pure Python: slow (some MiB a second) but readable.

Follows the XXH3 specification of the xxHash project. `digest` returns the canonical form, the high
64 bits first.
"""
import struct

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
M32 = 0xFFFFFFFF
M64 = 0xFFFFFFFFFFFFFFFF
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def le32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def le64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


def swap(value, size):
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def avalanche(h):
    h ^= h >> 37
    h = h * 0x165667919E3779F9 & M64
    return h ^ h >> 32


def avalanche_xxh64(h):
    h = (h ^ h >> 33) * P64_2 & M64
    h = (h ^ h >> 29) * P64_3 & M64
    return h ^ h >> 32


def fold(a, b):
    product = a * b
    return (product ^ product >> 64) & M64


def mix16(data, at, secret_at):
    return fold(le64(data, at) ^ le64(SECRET, secret_at),
                le64(data, at + 8) ^ le64(SECRET, secret_at + 8))


def mix32(low, high, data, at1, at2, secret_at):
    low = low + mix16(data, at1, secret_at) & M64
    low ^= le64(data, at2) + le64(data, at2 + 8) & M64
    high = high + mix16(data, at2, secret_at + 16) & M64
    high ^= le64(data, at1) + le64(data, at1 + 8) & M64
    return low, high


def finish_mixed(low, high, size):
    mixed = low * P64_1 + high * P64_4 + size * P64_2 & M64
    return avalanche(low + high & M64), -avalanche(mixed) & M64


def upto_16(data):
    size = len(data)
    if size == 0:
        return (avalanche_xxh64(le64(SECRET, 64) ^ le64(SECRET, 72)),
                avalanche_xxh64(le64(SECRET, 80) ^ le64(SECRET, 88)))
    if size <= 3:
        low = data[0] << 16 | data[size >> 1] << 24 | data[-1] | size << 8
        high = swap(low, 4)
        high = (high << 13 | high >> 19) & M32
        return (avalanche_xxh64(low ^ le32(SECRET, 0) ^ le32(SECRET, 4)),
                avalanche_xxh64(high ^ le32(SECRET, 8) ^ le32(SECRET, 12)))
    if size <= 8:
        keyed = le32(data, 0) | le32(data, size - 4) << 32
        keyed ^= le64(SECRET, 16) ^ le64(SECRET, 24)
        product = keyed * (P64_1 + (size << 2))
        low, high = product & M64, product >> 64 & M64
        high = high + (low << 1) & M64
        low ^= high >> 3
        low = (low ^ low >> 35) * 0x9FB21C651E98DF25 & M64
        return low ^ low >> 28, avalanche(high)
    first, last = le64(data, 0), le64(data, size - 8)
    product = (first ^ last ^ le64(SECRET, 32) ^ le64(SECRET, 40)) * P64_1
    low, high = product & M64, product >> 64
    low = low + (size - 1 << 54) & M64
    last ^= le64(SECRET, 48) ^ le64(SECRET, 56)
    high = high + last + (last & M32) * (P32_2 - 1) & M64
    low ^= swap(high, 8)
    product = low * P64_2
    return avalanche(product & M64), avalanche((product >> 64) + high * P64_2 & M64)


def upto_240(data):
    size = len(data)
    low, high = size * P64_1 & M64, 0
    if size <= 128:
        for i in range((size - 1) // 32, -1, -1):
            low, high = mix32(low, high, data, 16 * i, size - 16 * (i + 1), 32 * i)
        return finish_mixed(low, high, size)
    for i in range(0, 128, 32):
        low, high = mix32(low, high, data, i, i + 16, i)
    low, high = avalanche(low), avalanche(high)
    for i in range(128, size - 31, 32):
        low, high = mix32(low, high, data, i, i + 16, i - 125)
    low, high = mix32(low, high, data, size - 16, size - 32, 103)
    return finish_mixed(low, high, size)


def accumulate(acc, stripe, keys):
    for i in range(8):
        value = stripe[i]
        key = value ^ keys[i]
        acc[i ^ 1] += value
        acc[i] = acc[i] + (key & M32) * (key >> 32) & M64


def merge(acc, secret_at, start):
    for i in range(4):
        start += fold(acc[2 * i] & M64 ^ le64(SECRET, secret_at + 16 * i),
                      acc[2 * i + 1] & M64 ^ le64(SECRET, secret_at + 16 * i + 8))
    return avalanche(start & M64)


def long(data):
    size = len(data)
    acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    keys = [struct.unpack_from("<8Q", SECRET, 8 * n) for n in range(17)]
    for number in range((size - 1) // 64):  # 16 stripes of 64 bytes make a block of XXH3
        accumulate(acc, struct.unpack_from("<8Q", data, 64 * number), keys[number % 16])
        if number % 16 == 15 and (number + 1) * 64 <= (size - 1) // 1024 * 1024:
            for i in range(8):
                value = acc[i] & M64
                acc[i] = (value ^ value >> 47 ^ keys[16][i]) * P32_1 & M64
    last_keys = struct.unpack_from("<8Q", SECRET, 121)
    accumulate(acc, struct.unpack_from("<8Q", data, size - 64), last_keys)
    return (merge(acc, 11, size * P64_1 & M64), merge(acc, 117, ~(size * P64_2) & M64))


def digest(data):
    """The 16 bytes of XXH3-128 of `data`, seed 0, canonical form."""
    data = bytes(data)
    small = upto_16 if len(data) <= 16 else upto_240 if len(data) <= 240 else long
    low, high = small(data)
    return struct.pack(">QQ", high, low)


assert digest(b"").hex() == "99aa06d3014798d86001c324468d497f"
