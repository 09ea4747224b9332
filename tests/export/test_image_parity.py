"""A file has the same pixels in the client and in the graph, or is refused by both."""

from __future__ import annotations

import io
import itertools
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from duoserve import InvalidInput, PreprocessingSpec, Preprocessor
from duoserve.preprocessing.exif import read_orientation
from duoserve.preprocessing.transparency import blend
from duoserve.preprocessing.transparency import flatten as flatten_here
from export.graph.exif import orientation
from export.graph.images import ImageDecoder
from export.graph.transparency import flatten
from tests.export.image_files import (
    JFIF,
    adobe,
    any_jpeg,
    any_png,
    any_webp,
    chunk,
    chunks,
    damaged,
    exif,
    png,
    saved,
    segment,
    segments,
    smooth,
    with_right_checksums,
)

SIZE = (24, 32)
BACKGROUND = (255, 250, 3)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Sides:
    """Client and graph of one spec."""

    def __init__(self, background: tuple[int, int, int] | None = BACKGROUND, size: tuple[int, int] = SIZE) -> None:
        self.client = Preprocessor(PreprocessingSpec(*size, 4, b"unused", ("a",), 1, background=background))
        signature = [tf.TensorSpec([None], tf.string)]
        self.graph = tf.function(ImageDecoder(self.client.spec), input_signature=signature)

    def pixels(self, data: bytes) -> np.ndarray | None:
        """What both make of the file; None where both refuse it."""
        try:
            ours = self.client.image(data)
        except InvalidInput as error:
            with pytest.raises(tf.errors.InvalidArgumentError):
                self.graph([data])
                pytest.fail(f"the client alone refuses it: {error}")
            return None
        theirs = self.graph([data]).numpy()[0]
        np.testing.assert_array_equal(ours, theirs)
        return ours

    def reason(self, data: bytes) -> str:
        """Why both refuse the file, in the words of both."""
        with pytest.raises(InvalidInput) as ours:
            self.client.image(data)
        with pytest.raises(tf.errors.InvalidArgumentError) as theirs:
            self.graph([data])
        found = re.search(r"assertion failed: \[(.*?)\]", theirs.value.message, re.DOTALL)
        assert found, f"refused by an operation, not by the header: {theirs.value.message}"
        assert ours.value.message.startswith(found[1])
        return found[1]


@pytest.fixture(scope="module")
def sides() -> Sides:
    return Sides()


@pytest.fixture(scope="module")
def old_sides() -> Sides:
    """Of a version that was exported before specs had a background."""
    return Sides(None)


@settings(max_examples=250, deadline=None)
@given(random=st.randoms(use_true_random=False), make=st.sampled_from([any_jpeg, any_png, any_webp]))
def test_any_file_is_read_alike_or_refused_by_both(sides, old_sides, random: Random, make) -> None:
    (sides if random.random() < 0.8 else old_sides).pixels(make(random))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True], ids=["sequential", "progressive"])
def test_a_jpeg_of_any_components_and_markers_is_read_alike(sides, mode: str, progressive: bool) -> None:
    """1, 3 and 4 components; Adobe's marker absent or with any transform; JFIF or not; every subsampling; RGB ids."""
    kinds = [{"subsampling": each} for each in range(3)] if mode != "L" else [{}]
    kinds += [{"keep_rgb": True}] if mode == "RGB" else []
    colours = set()
    for options, transform, jfif in itertools.product(kinds, (None, 0, 1, 2), (b"", JFIF)):
        image = smooth(mode, 53, 67)
        parts, scan = segments(saved(image, "JPEG", quality=90, progressive=progressive, **options))
        marker = b"" if transform is None else adobe(transform)
        pixels = sides.pixels(b"\xff\xd8" + jfif + marker + b"".join(parts) + scan)
        assert pixels is not None
        colours.add(pixels.tobytes())
    assert len(colours) > 1 or mode == "L", "a marker changed nothing: this test can't fail"


def test_an_old_spec_drops_alpha_on_both_ways(old_sides) -> None:
    image = smooth("RGBA", 40, 50)
    pixels = old_sides.pixels(saved(image, "PNG"))
    np.testing.assert_array_equal(pixels, old_sides.client.image(image.convert("RGB")))


@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
@pytest.mark.parametrize("interlaced", [False, True], ids=["", "interlaced"])
def test_transparent_pixels_of_any_png_are_on_the_background(sides, colour: int, interlaced: bool) -> None:
    random = Random(colour)
    for depth in {0: (1, 2, 4, 8, 16), 3: (1, 2, 4, 8)}.get(colour, (8, 16)):
        before = [(b"PLTE", random.randbytes(3 << depth))] if colour == 3 else []
        plain = png(Random(depth), colour, depth, SIZE, interlaced=interlaced, before=before)
        opaque = sides.pixels(plain)
        assert opaque is not None
        keys = {0: [struct.pack(">H", 0), struct.pack(">H", (1 << depth) - 1)], 2: [bytes(6)], 3: [b"\0\x80\xff\x07"]}
        for key in keys.get(colour, []):
            chunks = [*before, (b"tRNS", key[: 1 << depth])]
            pixels = sides.pixels(png(Random(depth), colour, depth, SIZE, interlaced=interlaced, before=chunks))
            differs = (pixels != opaque).any(-1)
            if colour in (0, 2):
                assert (pixels[differs] == BACKGROUND).all()


def test_an_icon_on_transparency_is_what_everyone_sees(sides) -> None:
    icon = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    icon.paste((0, 0, 0, 255), (16, 16, 48, 48))
    for data in (saved(icon, "PNG"), saved(icon, "WEBP", lossless=True), saved(icon.convert("LA"), "PNG")):
        pixels = sides.pixels(data)
        assert tuple(pixels[0, 0]) == BACKGROUND and not pixels[12, 16].any()
        np.testing.assert_array_equal(sides.client.image(icon), pixels)


def test_blending_is_exact_on_both_sides_for_every_colour_and_alpha() -> None:
    colour, alpha = (each.astype(np.uint8) for each in np.mgrid[:256, :256])
    image = np.stack([colour, colour, colour, alpha], -1)
    for background in (0, 1, 127, 255):
        exact = (2 * (colour.astype(int) * alpha + background * (255 - alpha.astype(int))) + 255) // 510
        three = (background,) * 3
        for found in (
            blend(image[..., :3], alpha, three),
            np.asarray(flatten_here(Image.fromarray(image), three)),
            flatten(tf.constant(image), three).numpy(),
        ):
            np.testing.assert_array_equal(found, np.stack([exact] * 3, -1))


def resized_header(data: bytes, kind: str, height: int, width: int) -> bytes:
    """The file with another size in its header."""
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]
    if kind == "PNG":
        return with_right_checksums(data[:16] + struct.pack(">II", width, height) + data[24:])
    return data[:26] + struct.pack("<HH", width, height) + data[30:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_too_many_pixels_are_refused_from_the_header(sides, kind: str) -> None:
    data = saved(smooth("RGB", 30, 40), kind)
    assert "at most 89478485 pixels" in sides.reason(resized_header(data, kind, 10_000, 10_000))
    if kind == "PNG":
        assert "at most 89478485 pixels" in sides.reason(resized_header(data, kind, 1 << 31, 1))
        assert "to have pixels" in sides.reason(resized_header(data, kind, 0, 7))


def test_a_png_bomb_is_refused_before_it_is_decoded(sides) -> None:
    bomb = saved(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    assert "at most 89478485 pixels" in sides.reason(bomb)


OTHERS = {
    "GIF": saved(smooth("RGB", 30, 40), "GIF"),
    "BMP": saved(smooth("RGB", 30, 40), "BMP"),
    "TIFF": saved(smooth("RGB", 30, 40), "TIFF"),
    "AVIF": saved(smooth("RGB", 30, 40), "AVIF"),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(60),
    "JPEG XL": b"\xff\x0a" + bytes(60),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_refused_with_the_supported_ones(sides, name: str) -> None:
    reason = sides.reason(OTHERS[name])
    assert "a JPEG, PNG or WebP. Received: a" in reason and f"{name} file" in reason


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused_by_both(sides, kind: str) -> None:
    frames = [smooth("RGB", 30, 40, seed) for seed in range(2)]
    assert "a still image" in sides.reason(saved(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_a_progressive_jpeg_without_its_last_scans_is_refused_by_both(sides) -> None:
    data = saved(smooth("RGB", 53, 67), "JPEG", quality=90, progressive=True)
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    for end in scans[1:]:
        assert "without its last scans" in sides.reason(data[:end] + b"\xff\xd9")


def test_a_rare_jpeg_is_refused_by_both(sides) -> None:
    data = saved(smooth("RGB", 53, 67), "JPEG")
    assert "lossless" in sides.reason(data.replace(b"\xff\xc0", b"\xff\xc3", 1))
    at = data.index(b"\xff\xc0")
    assert "12-bit" in sides.reason(data[: at + 4] + b"\x0c" + data[at + 5 :])
    assert "components" in sides.reason(data[: at + 9] + b"\x02" + data[at + 10 :])


def test_metadata_of_any_size_changes_nothing(sides) -> None:
    random = Random(0)
    pixels = sides.pixels(png(Random(1), 2, 8, SIZE))
    profile = b"name\0\0" + zlib.compress(random.randbytes(3 << 20), 1)
    broken_text = bytearray(chunk(b"tEXt", b"Comment\0text"))
    broken_text[-1] ^= 1
    plain = png(Random(1), 2, 8, SIZE)
    for extra in (chunk(b"iCCP", profile), chunk(b"tEXt", b"a\0" + bytes(9 << 20)), bytes(broken_text)):
        np.testing.assert_array_equal(sides.pixels(plain[:33] + extra + plain[33:]), pixels)
    jpeg = saved(smooth("RGB", 53, 67), "JPEG")
    pixels = sides.pixels(jpeg)
    for extra in (b"junk", b"\xff\xff", segment(0xE2, bytes(60_000)) * 40):
        np.testing.assert_array_equal(sides.pixels(jpeg[:20] + extra + jpeg[20:]), pixels)


def test_damaged_checksums_of_pixels_are_refused_by_both(sides) -> None:
    large = saved(smooth("RGB", 700, 900), "PNG")  # read in another way than small ones
    for data in (png(Random(1), 2, 8, SIZE), large):
        assert sides.pixels(data) is not None
        at = data.rindex(b"IEND") - 8  # the checksum of the last chunk of pixels
        wrong = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert sides.pixels(wrong) is None
        wrong = with_right_checksums(data[: at - 1] + bytes([data[at - 1] ^ 1]) + data[at:])
        assert sides.pixels(wrong) is None, "the checksum of the decompressed pixels"
        assert sides.pixels(with_right_checksums(data[:19] + bytes([data[19] + 1]) + data[20:])) is None, "too few rows"


def test_large_pngs_of_every_kind_are_read_alike(sides) -> None:
    """The client reads those at once, and looks twice at those that end in black."""
    for mode in ("L", "RGB", "RGBA", "LA"):
        image = smooth("RGBA", 900, 1100).convert(mode)
        black = Image.new(mode, image.size)
        fading = Image.composite(image, black, Image.linear_gradient("L").resize(image.size))
        for each in (image, fading.transpose(Image.Transpose.FLIP_TOP_BOTTOM)):
            assert sides.pixels(saved(each, "PNG", compress_level=1)) is not None
    blank_end = smooth("RGB", 900, 1100)
    blank_end.paste((0, 0, 0), (0, 500, 1100, 900))
    assert sides.pixels(saved(blank_end, "PNG", compress_level=1)) is not None


@pytest.mark.parametrize("size", [(40, 300), (200, 300)])  # small and large: read in two ways
def test_pixels_that_refer_beyond_their_window_are_refused_by_both(sides, size: tuple[int, int]) -> None:
    noise = np.tile(np.random.default_rng(1).integers(0, 256, (1, size[1], 3), np.uint8), (size[0], 1, 1))
    head, *_, end = [chunk(*each) for each in chunks(saved(Image.fromarray(noise), "PNG"))]
    rows = b"".join(b"\0" + row.tobytes() for row in noise)
    whole = zlib.compress(rows)
    packer = zlib.compressobj(wbits=9)
    declares_less = SIGNATURE + head + chunk(b"IDAT", b"\x18\x19" + whole[2:]) + end
    assert sides.pixels(declares_less) is None
    has_less = SIGNATURE + head + chunk(b"IDAT", packer.compress(rows) + packer.flush()) + end
    assert sides.pixels(has_less) is not None


def test_transparent_palettes_give_no_warning(sides) -> None:
    data = saved(smooth("RGB", 40, 40).quantize(9), "PNG", transparency=b"\0\x80\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sides.pixels(data) is not None
        sides.client.image(Image.open(io.BytesIO(data)))


@settings(max_examples=300, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_any_exif_is_read_alike(in_graph_orientation: Callable[[bytes], tf.Tensor], random: Random) -> None:
    data = exif(random)
    data = damaged(random, data, 0, 3, 6, 8, 0x12, 0x49, 0x4D) if random.random() < 0.6 else data
    data = data[: random.randrange(len(data))] if random.random() < 0.2 else data
    assert in_graph_orientation(data).numpy() == read_orientation(data)


@pytest.fixture(scope="module")
def in_graph_orientation():
    return tf.function(orientation, input_signature=[tf.TensorSpec([], tf.string)])


def test_whole_files_come_through_the_generators(sides) -> None:
    """Of the files that the property test draws, at least a third is read: the rest is damaged."""
    for make in (any_jpeg, any_png, any_webp):
        read = [sides.pixels(make(Random(seed))) is not None for seed in range(60)]
        assert sum(read) > 20, f"{make.__name__}: {sum(read)} of 60"
