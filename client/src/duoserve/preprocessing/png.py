"""PNG files: read chunk by chunk as libpng does, then decoded by Pillow. Twin: `export/graph/png.py`.

Pillow and libpng, which TensorFlow uses, differ in the metadata and checksums that they refuse. So Pillow gets a file
with only the chunks that have pixels, and the checks are those of libpng.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from duoserve.errors import InvalidInput
from duoserve.preprocessing import image_headers as headers
from duoserve.preprocessing.exif import read_orientation
from duoserve.preprocessing.image_headers import Background, EncodedImage
from duoserve.preprocessing.transparency import blend, flatten

if TYPE_CHECKING:
    from PIL import Image

PNG: Final = b"\x89PNG\r\n\x1a\n"

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_DEPTHS: Final = {_GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), _GREY_ALPHA: (8, 16), _RGBA: (8, 16)}
_CHANNELS: Final = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_PASSES: Final = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Of an interlaced image: first row, first column, and the steps to the next ones."""

_NEEDED: Final = (b"IHDR", b"PLTE", b"IDAT", b"IEND")

_READ_AT_ONCE: Final = 8192  # libpng's buffer for compressed data
_SMALL: Final = 1 << 16  # bytes of pixels: decompressing so few here is cheaper than checking whether it is necessary


@dataclasses.dataclass(frozen=True, slots=True)
class PngImage(EncodedImage):
    """A PNG."""

    format: ClassVar[str] = "PNG"

    header: bytes  # the content of IHDR
    depth: int  # bits a channel
    colour: int  # the colour type
    palette: bytes  # red, green and blue of each colour; empty where there is none
    transparency: bytes  # the content of tRNS; empty where there is none
    pixels: tuple[tuple[int, int], ...]  # starts and ends of the compressed data, one after the other

    def decode(self, background: Background | None, target: tuple[int, int] | None) -> Image.Image:
        image = self._pixels(background)
        if background is not None and self._is_faint(image):
            image.putpalette(self._opaque_palette(None))
        elif background is not None and self.transparency and self.colour != _PALETTE:
            alpha = self._alpha_of_key(image)
            image = eight_bits(image).convert("RGB")
            image.putalpha(alpha)
        return flatten(eight_bits(image), background)

    def _pixels(self, background: Background | None) -> Image.Image:
        """A PIL image in the mode that fits the file; a palette already has the background in it."""
        head = [_chunk(b"IHDR", self.header)]
        if self.colour == _PALETTE:
            head.append(_chunk(b"PLTE", self._opaque_palette(background)))
        is_plain = not self.header[12] and not self._forgets
        if is_plain and sum(self._lengths) > _SMALL and (self.height + 1) * self.width <= headers.MAX_PIXELS:
            with contextlib.suppress(Exception):
                return self._quickly(head)
        return _open(head, self._recompressed())

    def _quickly(self, head: list[bytes]) -> Image.Image:
        """Lets Pillow decompress, and raises if the file may be damaged. Asked for one more row, Pillow reads up to the
        checksum, and reads zeros without one."""
        width, height = self.width, self.height
        compressed = b"".join([self.data[start:end] for start, end in self.pixels])
        taller = self.header[:4] + struct.pack(">I", height + 1) + self.header[8:]
        image = _open([_chunk(b"IHDR", taller), *head[1:]], compressed)
        last, beyond = np.asarray(image.crop((0, height - 1, width, height + 1)))
        if not last.any() or beyond.any():
            raise InvalidInput("Expected a last row that is not all zero, and nothing after it")
        return image.crop((0, 0, width, height))

    def _recompressed(self) -> bytes:
        """The rows, before their filters are undone, where libpng would read them; hardly compressed, for Pillow.
        Damage after the last row is an error only in the buffer with the end of that row."""
        pieces = (
            self.data[at : min(at + _READ_AT_ONCE, end)]
            for start, end in self.pixels
            for at in range(start, end, _READ_AT_ONCE)
        )
        stream = zlib.decompressobj(wbits=0)
        size = sum(self._lengths)
        rows, end = bytearray(), 0
        try:
            for length in self._lengths if self._forgets else [size]:
                end += length
                while len(rows) < end and not stream.eof:
                    rows += stream.decompress(stream.unconsumed_tail or next(pieces), end - len(rows))
            if len(rows) < size:
                raise headers.broken("PNG", "one with fewer rows than its header")
            while not stream.eof:
                piece = stream.unconsumed_tail or next(pieces)
                with contextlib.suppress(zlib.error):
                    if stream.decompress(piece, 1):
                        continue
                break
        except (zlib.error, StopIteration) as error:
            raise headers.broken("PNG", "one whose pixels are damaged or incomplete") from error
        return zlib.compress(rows, 0)

    @property
    def _forgets(self) -> bool:
        """Whether the pixels declare a window in which not all of them fit, nor all that zlib can refer to.

        libpng decompresses row by row and refuses references beyond the window, which Pillow follows.
        """
        first = next((self.data[start] for start, end in self.pixels if end > start), 0)
        return 256 << (first >> 4) < min(sum(self._lengths), 1 << 15)

    @property
    def _lengths(self) -> list[int]:
        """How many bytes each row has, with its filter."""
        bits = self.depth * _CHANNELS[self.colour]
        passes = _PASSES if self.header[12] else ((0, 0, 1, 1),)
        lengths = []
        for row, column, down, across in passes:
            columns = -(-(self.width - column) // across)
            if columns > 0:
                lengths += [-(-columns * bits // 8) + 1] * -(-(self.height - row) // down)
        return lengths

    def _opaque_palette(self, background: Background | None) -> bytes:
        colours: npt.NDArray[np.uint8] = np.zeros((256, 3), np.uint8)  # a pixel beyond the palette is black
        colours[: len(self.palette) // 3] = np.frombuffer(self.palette, np.uint8).reshape(-1, 3)
        if background is not None:
            alpha = np.full(256, 255, np.uint8)
            alpha[: len(self.transparency)] = np.frombuffer(self.transparency, np.uint8)
            colours = blend(colours, alpha, background)
        return colours.tobytes()

    def _is_faint(self, image: Image.Image) -> bool:
        """Whether every pixel has this alpha, by which TensorFlow marks palettes without any: they are opaque."""
        hidden = (1 << self.depth) - 1
        if self.colour != _PALETTE or self.depth == 8 or hidden not in self.transparency:
            return False
        alpha = self.transparency.ljust(256, b"\xff")
        return all(alpha[index] == hidden for index in np.unique(np.asarray(image)))

    def _alpha_of_key(self, image: Image.Image) -> Image.Image:
        """Transparent where a pixel has the one transparent colour."""
        from PIL import Image

        key = np.frombuffer(self.transparency, ">u2")
        if self.depth < 16:
            most = (1 << self.depth) - 1
            key = (key & most) * (255 // most)
            image = image if image.mode == "RGB" else image.convert("L")
        pixels = np.asarray(image)
        if self.colour == _GREY:
            return Image.fromarray(np.where(pixels == key, 0, 255).astype(np.uint8))
        if self.depth == 16:  # Pillow keeps the upper bytes; with another byte order it returns the lower ones
            lower = _open([_chunk(b"IHDR", self.header)], self._recompressed(), "RGB;16L")
            pixels = pixels.astype(np.uint16) << 8 | np.asarray(lower)
        return Image.fromarray(np.where((pixels == key).all(-1), 0, 255).astype(np.uint8))


def read_png(data: bytes) -> PngImage:
    """Reads the chunks. Refuses a PNG that is truncated, damaged where libpng minds, animated, or too large."""
    header = _header(data)
    depth, colour = header[8:10]
    width, height = struct.unpack_from(">II", header)
    palette = transparency = b""
    has_palette = False
    orientation, pixels, after_pixels = 1, list[tuple[int, int]](), False
    for count, (name, start, end, is_intact) in enumerate(_chunks(data)):
        if count > headers.MAX_PARTS:
            raise InvalidInput(headers.Refused.PARTS)
        if name == b"acTL":
            raise InvalidInput(headers.Refused.ANIMATED)
        after_pixels |= bool(pixels) and name != b"IDAT"
        if name == b"IDAT":
            if colour == _PALETTE and not palette:
                raise headers.broken("PNG", "one without its palette")
            if not after_pixels:
                pixels.append((start, end))
        elif name == b"PLTE":
            if has_palette:
                raise headers.broken("PNG", "one with two palettes")
            if not pixels:
                has_palette = True
                palette = _palette(data[start:end], depth, colour)
                transparency = b""
        elif name == b"tRNS" and is_intact and not pixels and not transparency:
            if _fits(end - start, colour, len(palette) // 3):
                transparency = data[start:end]
        elif name == b"eXIf":
            orientation = read_orientation(data[start:end])
    if not pixels:
        raise headers.broken("PNG", "one without pixels")
    return PngImage(data, height, width, orientation, header, depth, colour, palette, transparency, tuple(pixels))


def _header(data: bytes) -> bytes:
    """The content of IHDR, checked."""
    if len(data) < 33:
        raise headers.truncated("PNG", data)
    if data[8:16] != b"\0\0\0\x0dIHDR":
        raise headers.broken("PNG", "one that does not begin with its header")
    header = data[16:29]
    width, height, depth, colour, compression, filters, interlace = struct.unpack(">IIBBBBB", header)
    headers.check_size(height, width, "PNG of ")
    if depth not in _DEPTHS.get(colour, ()) or compression or filters or interlace > 1:
        raise headers.broken("PNG", "one with a damaged header")
    return header


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int, bool]]:
    """Name, start and end of the content of each chunk up to the last, and whether its checksum is right."""
    position = 8
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + length
        if not name.isalpha() or length > 0x7FFFFFFF:
            raise headers.broken("PNG", "one with a damaged chunk")
        if end + 4 > len(data):
            break
        is_needed = name[0] < 0x60  # an upper-case letter
        is_intact = True
        if is_needed or name == b"tRNS":
            is_intact = zlib.crc32(memoryview(data)[start - 4 : end]) == int.from_bytes(data[end : end + 4], "big")
        if is_needed and (not is_intact or name not in _NEEDED or (name == b"IHDR" and position > 8)):
            raise headers.broken("PNG", f"one with a damaged or unknown chunk {name.decode('ascii')}")
        yield name, start, end, is_intact
        if name == b"IEND":
            return
        position = end + 4
    raise headers.truncated("PNG", data)


def _palette(content: bytes, depth: int, colour: int) -> bytes:
    is_whole = 0 < len(content) <= 768 and not len(content) % 3
    if colour == _PALETTE:
        if not is_whole:
            raise headers.broken("PNG", "one with a damaged palette")
        return content[: 3 << depth]
    return content if is_whole and colour in (_RGB, _RGBA) else b""


def _fits(length: int, colour: int, colours: int) -> bool:
    """Whether a chunk tRNS of this length is used."""
    return length == {_GREY: 2, _RGB: 6}.get(colour) or (colour == _PALETTE and 0 < length <= colours)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))


def _open(head: list[bytes], compressed: bytes, layout: str | None = None) -> Image.Image:
    """Pillow's image of a PNG with these chunks. `layout`: the order of the bytes, for Pillow."""
    from PIL import Image

    plain = b"".join([PNG, *head, _chunk(b"IDAT", compressed), _chunk(b"IEND", b"")])
    with Image.open(io.BytesIO(plain), formats=("PNG",)) as image:
        if layout is not None:
            opened: Any = image
            opened.tile = [(*opened.tile[0][:3], layout)]
        image.load()
        return image


def eight_bits(image: Image.Image) -> Image.Image:
    """The upper bytes of a 16-bit grey image; other images unchanged."""
    from PIL import Image

    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
