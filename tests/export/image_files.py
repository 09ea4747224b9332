"""Image files of many kinds, whole and damaged, drawn from a random number generator."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from random import Random

import numpy as np
from PIL import Image

JFIF = b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(mode: str, height: int, width: int, seed: int = 0) -> Image.Image:
    """An image of smooth noise in each channel of the mode."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 9, len(mode)), np.uint8)
    return Image.frombytes(mode, (9, 9), noise.tobytes()).resize((width, height), Image.Resampling.BICUBIC)


def adobe(transform: int) -> bytes:
    return b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def segments(jpeg: bytes) -> tuple[list[bytes], bytes]:
    """The segments of a JPEG without its metadata, the first scan's header as the last; and what follows."""
    position, found = 2, []
    while True:
        marker = jpeg[position + 1]
        end = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            found.append(jpeg[position:end])
        position = end
        if marker == 0xDA:
            return found, jpeg[end:]


def exif(random: Random) -> bytes:
    """An orientation: valid, out of range or of another type, and up to two prefixes before it."""
    order, kind = random.choice("<>"), random.choice((3, 3, 3, 4))
    value = random.choice((1, 3, 6, 8, 9, 0))
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1)
    tiff += struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
    return b"Exif\0\0" * random.choice((0, 0, 1, 2)) + tiff + bytes(4)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position + 12 <= len(png):
        length, name = struct.unpack_from(">I4s", png, position)
        yield name, png[position + 8 : position + 8 + length]
        position += 12 + length


def png(
    random: Random,
    colour: int,
    depth: int,
    size: tuple[int, int],
    *,
    interlaced: bool = False,
    before: Iterable[tuple[bytes, bytes]] = (),
    after: Iterable[tuple[bytes, bytes]] = (),
    split: int | None = None,
    more: int = 0,
) -> bytes:
    """A PNG of random pixels. `more`: this number of bytes of pixels too many, or too few."""
    height, width = size
    rows = b""
    for row, column, down, across in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns = max(-(-(width - column) // across), 0)
        row_bytes = -(-columns * depth * CHANNELS[colour] // 8)
        for _ in range(max(-(-(height - row) // down), 0) if columns else 0):
            values = (random.choice((0, 255, 1, random.randrange(256))) for _ in range(row_bytes))
            rows += bytes([random.randrange(5), *values])
    rows = rows + bytes(more) if more >= 0 else rows[:more]
    packed = zlib.compress(rows, random.choice((0, 6)))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    step = split or len(packed)
    parts = [(b"IDAT", packed[start : start + step]) for start in range(0, len(packed), step)]
    written = [(b"IHDR", header), *before, *parts, *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in written)


def with_right_checksums(data: bytes) -> bytes:
    """A damaged PNG whose chunks hide it."""
    return data[:8] + b"".join(chunk(*each) for each in chunks(data))


def any_png(random: Random) -> bytes:
    """A PNG of any colour type and depth, with metadata, transparency and damage of any kind."""
    colour = random.choice((0, 2, 3, 3, 4, 6))
    depth = random.choice(DEPTHS[colour])
    before: list[tuple[bytes, bytes]] = []
    after: list[tuple[bytes, bytes]] = []
    colours = random.choice((1, 2, 3, 1 << min(depth, 8), 256))
    if colour == 3 or random.random() < 0.05:
        before.append((b"PLTE", random.randbytes(3 * colours)))
    if random.random() < 0.5:
        length = {0: 2, 2: 6, 3: random.choice((1, 2, colours, colours + 1))}.get(colour, 2)
        numbers = [random.choice((0, 1, 255, random.randrange(1 << depth))) for _ in range(length)]
        key = b"".join(struct.pack(">H", number) for number in numbers)[:length]
        before.append((b"tRNS", random.randbytes(length) if colour == 3 else key + b"\0" * random.choice((0, 0, 0, 1))))
    for place in (before, after):
        if random.random() < 0.2:
            place.append((b"eXIf", exif(random)))
        if random.random() < 0.1:
            names = (b"tEXt", b"iCCP", b"gAMA", b"bKGD", b"sBIT", b"acTL", b"PLTE", b"tRNS", b"hIST", b"zTXt", b"abCd")
            place.append((random.choice(names), random.randbytes(random.choice((0, 1, 3, 6, 30)))))
    data = png(
        random,
        colour,
        depth,
        (random.randrange(1, 20), random.randrange(1, 20)),
        interlaced=random.random() < 0.25,
        before=before,
        after=after,
        split=random.choice((None, None, 1, 7, 100)),
        more=random.choice((*[0] * 9, 5, 60, -1, -9)),
    )
    chance = random.random()
    if chance < 0.3:
        data = damaged(random, data, 8)
        return with_right_checksums(data) if random.random() < 0.6 else data
    return data[: random.randrange(len(data))] if chance < 0.35 else data


def any_jpeg(random: Random) -> bytes:
    """A JPEG of any number of components, with metadata, junk and damage of any kind."""
    mode = random.choice(("L", "RGB", "RGB", "CMYK"))
    options: dict[str, object] = {"quality": random.choice((30, 90)), "progressive": random.random() < 0.5}
    if mode != "L":
        options["subsampling"] = random.randrange(3)
    if random.random() < 0.3:
        options["restart_marker_rows"] = 1
    image = smooth(mode, random.randrange(1, 90), random.randrange(1, 90), random.randrange(9))
    parts, scan = segments(saved(image, "JPEG", **options))
    if random.random() < 0.5:
        parts.insert(0, JFIF)
    extras = (
        *map(adobe, range(3)),
        adobe(1)[:-1],
        segment(0xE1, exif(random)),
        segment(0xE1, b"Exif\0\0" + exif(random)),
        segment(0xE2, b"\xff\xda"),
        segment(0xFE, b"abc"),
        segment(0xDC, b"\0\5"),
        segment(0xDD, b"\0\0"),
        *(b"junk\0", b"x" * 300, b"\xff\xff\xff", b"\xff\0", b"\xff\x01", b"\xff\xd0"),
        *(b"\xff\xfe\0\0", b"\xff\xfe\0\1", b"\xff\xde\0\2", b"\xff\xf0\0\2", b"\xff\xd8", JFIF),
    )
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        parts.insert(random.randrange(len(parts)), random.choice(extras))
    data = b"\xff\xd8" + b"".join(parts) + scan
    chance = random.random()
    if chance < 0.4:
        return damaged(random, data, 2, 0xD9, 0xDA, 0xD0, 0xC0, 0xC2)
    if chance < 0.45:
        return data[: random.randrange(len(data))] + random.choice((b"", b"\xff\xd9"))
    if chance < 0.5:
        return data + random.choice((b"\xff\xd9", b"xx", data))
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)][1:]
    return data[: random.choice(scans)] + b"\xff\xd9" if scans and chance < 0.6 else data


def any_webp(random: Random) -> bytes:
    """A WebP, lossy or not, with metadata and damage of any kind."""
    options: dict[str, object] = {"lossless": random.random() < 0.5, "quality": random.choice((5, 80))}
    if random.random() < 0.4:
        options["exif"] = exif(random)
    if random.random() < 0.2:
        options |= {"icc_profile": bytes(40), "xmp": b"<x/>"}
    image = smooth(random.choice(("RGB", "RGBA")), random.randrange(1, 70), random.randrange(1, 70))
    data = saved(image, "WEBP", **options)
    chance = random.random()
    if chance < 0.5:
        return damaged(random, data, 4)
    if chance < 0.55:
        return data[: random.randrange(len(data))]
    return data + random.randbytes(random.randrange(1, 30)) if chance < 0.6 else data


def damaged(random: Random, data: bytes, first: int, *likely: int) -> bytes:
    """The file with up to four bytes changed, from `first` on, half of them near its head."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        end = min(len(data), 100) if random.random() < 0.5 else len(data)
        changed[random.randrange(first, end)] = random.choice((0, 255, 1, 2, *likely, random.randrange(256)))
    return bytes(changed)
