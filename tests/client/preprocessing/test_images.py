"""An image becomes the pixels that TensorFlow makes of it, or is refused with a clear error.

`tests/export/test_image_parity.py` compares whole files with the exported graph.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from duoserve import InvalidInput, PreprocessingSpec, Preprocessor
from duoserve.preprocessing.image_headers import decode_ratio
from duoserve.preprocessing.images import inspect
from tests.client.conftest import encoded, photo

TARGET = (31, 45)


def preprocessor(height: int = TARGET[0], width: int = TARGET[1], **options: Any) -> Preprocessor:
    return Preprocessor(PreprocessingSpec(height, width, 4, b"not needed for images", ("a",), 1, **options))


def by_tensorflow(data: bytes, height: int = TARGET[0], width: int = TARGET[1]) -> np.ndarray:
    """What the exported graph does, step by step, for an image that is not rotated."""
    if data[:2] == b"\xff\xd8":
        stored = tf.io.extract_jpeg_shape(data).numpy()
        ratio = decode_ratio(int(stored[0]), int(stored[1]), height, width)
        pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE", ratio=ratio)
    else:
        pixels = tf.io.decode_png(data, channels=3)
    resized = tf.image.resize(pixels, (height, width), antialias=True)
    return tf.cast(tf.round(resized), tf.uint8).numpy()


def assert_close(left: np.ndarray, right: np.ndarray) -> None:
    assert left.shape == right.shape and left.dtype == right.dtype == np.uint8
    assert np.abs(left.astype(int) - right.astype(int)).max() <= 1


def png16(values: np.ndarray, colour: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def with_alpha(mode: str) -> Image.Image:
    image = photo().convert(mode)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def cmyk() -> Image.Image:
    inks = np.random.default_rng(3).integers(0, 256, (9, 12, 4), np.uint8)
    return Image.frombytes("CMYK", (12, 9), inks.tobytes()).resize((120, 90))


SAME = {
    "jpeg": encoded(photo()),
    "jpeg without chroma subsampling": encoded(photo(), subsampling=0),
    "progressive jpeg": encoded(photo(), progressive=True),
    "grey jpeg": encoded(photo().convert("L")),
    "cmyk jpeg": encoded(cmyk(), quality=95),
    "jpeg with bytes after its end": encoded(photo()) + b"garbage",
    "png": encoded(photo(), "PNG"),
    "grey png": encoded(photo().convert("L"), "PNG"),
    "black and white png": encoded(photo().convert("1"), "PNG"),
    "png with alpha": encoded(with_alpha("RGB"), "PNG"),
    "grey png with alpha": encoded(with_alpha("L"), "PNG"),
    "palette png": encoded(photo().convert("P"), "PNG"),
    "palette png of 4 bits": encoded(photo().quantize(13), "PNG", bits=4),
    "palette png with a transparent colour": encoded(photo().convert("P"), "PNG", transparency=3),
    "png of 16 bits": png16(np.random.default_rng(1).integers(0, 65536, (50, 40, 3)), 2),
    "png of 16 bits with alpha": png16(np.random.default_rng(1).integers(0, 65536, (50, 40, 4)), 6),
    "grey png of 16 bits": png16(np.random.default_rng(2).integers(0, 65536, (50, 40, 1)), 0),
    "one pixel": encoded(photo(1, 1), "PNG"),
    "a line": encoded(photo(1, 300)),
}


@pytest.mark.parametrize("data", SAME.values(), ids=SAME.keys())
def test_pixels_are_within_one_level_of_the_graph(data: bytes) -> None:
    assert_close(preprocessor().image(data), by_tensorflow(data))


@given(
    st.integers(1, 400), st.integers(1, 400), st.integers(1, 64), st.integers(1, 64), st.sampled_from(["JPEG", "PNG"])
)
@settings(max_examples=60, deadline=None)
def test_any_size_to_any_size(height: int, width: int, to_height: int, to_width: int, kind: str) -> None:
    data = encoded(photo(height, width), kind)
    assert_close(preprocessor(to_height, to_width).image(data), by_tensorflow(data, to_height, to_width))


@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (2999, 4001), (512, 10_000)])
def test_large_photos_are_shrunk_while_decoded_exactly_as_by_tensorflow(height: int, width: int) -> None:
    data = encoded(photo(height, width))
    assert decode_ratio(height, width, *TARGET) == (8 if height > 1000 else 4)
    assert_close(preprocessor().image(data), by_tensorflow(data))


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 1000), st.integers(1, 1000))
def test_a_shrunk_photo_keeps_twice_the_pixels_that_are_needed(h: int, w: int, th: int, tw: int) -> None:
    ratio = decode_ratio(h, w, th, tw)
    assert ratio in (1, 2, 4, 8)
    if ratio > 1:
        assert h / ratio >= 2 * th and w / ratio >= 2 * tw
    assert ratio == decode_ratio(w, h, th, tw), "a rotated photo is decoded alike"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_turned_as_their_exif_data_says(orientation: int, order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = orientation
    image = photo()
    data = encoded(image, exif=exif.tobytes())
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert inspect(data).orientation == orientation
    assert upright is not None
    np.testing.assert_array_equal(preprocessor().image(data), preprocessor().image(np.asarray(upright)))
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(preprocessor().image(opened), preprocessor().image(data))


TIFF_SIX = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)


def turned_six(kind: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(photo(), kind, exif=exif, **options)


TURNED = {
    "jpeg": turned_six("JPEG"),
    "png": turned_six("PNG"),
    "webp": turned_six("WEBP", lossless=True),
    "png with a prefix": encoded(photo(), "PNG", exif=b"Exif\0\0" + TIFF_SIX),
}


@pytest.mark.parametrize("data", TURNED.values(), ids=TURNED.keys())
def test_a_pil_image_is_turned_as_its_file_is_however_it_was_handled(data: bytes) -> None:
    expected = preprocessor().image(data)
    assert not np.array_equal(expected, preprocessor().image(photo()))
    opened = Image.open(io.BytesIO(data))
    assert_close(preprocessor().image(opened), expected)
    for image in (Image.open(io.BytesIO(data)).convert("RGB"), opened.copy(), Image.open(io.BytesIO(data)).crop()):
        assert_close(preprocessor().image(image), expected)


@pytest.mark.parametrize("kind", ["xmp alone", "of type LONG"])
def test_an_orientation_of_another_exif_type_is_ignored(kind: str) -> None:
    if kind == "xmp alone":
        note = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/>"
    else:
        note = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x0112, 4, 1, 6) + bytes(4)
    data = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(note) + 2) + note + encoded(photo())[2:]
    flat = preprocessor().image(encoded(photo()))
    opened = Image.open(io.BytesIO(data))
    for source in (data, opened, opened.copy(), Image.open(io.BytesIO(data)).convert("RGB")):
        np.testing.assert_array_equal(preprocessor().image(source), flat)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")  # Pillow's own words
@given(
    st.binary(max_size=60), st.sampled_from([b"", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0", b"Exif\0\0MM\0*\0\0\0\x08"])
)
@settings(max_examples=300)
def test_broken_exif_data_means_upright_and_never_an_error(junk: bytes, head: bytes) -> None:
    segment = head + junk
    data = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + encoded(photo(20, 30))[2:]
    assert inspect(data).orientation in range(1, 9)
    assert preprocessor().image(data).shape == (*TARGET, 3)
    assert preprocessor().image(Image.open(io.BytesIO(data))).shape == (*TARGET, 3)


def test_a_pil_image_whose_exif_data_pillow_refuses_is_upright() -> None:
    image = photo()
    image.info["exif"] = b"Exif\0\0no TIFF at all"
    with pytest.raises(SyntaxError):
        image.getexif()
    np.testing.assert_array_equal(preprocessor().image(image), preprocessor().image(photo()))


@pytest.mark.parametrize(
    "kind", ["path", "str", "bytes", "bytearray", "memoryview", "file", "open file", "pil", "array"]
)
def test_every_kind_of_source_gives_the_same_pixels(kind: str, tmp_path: Path) -> None:
    data = encoded(photo(), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        sources: dict[str, Any] = {
            "path": path,
            "str": str(path),
            "bytes": data,
            "bytearray": bytearray(data),
            "memoryview": memoryview(data),
            "file": io.BytesIO(data),
            "open file": file,
            "pil": photo(),
            "array": np.asarray(photo()),
        }
        np.testing.assert_array_equal(preprocessor().image(sources[kind]), preprocessor().image(data))


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"])
def test_pil_images_of_every_mode_become_rgb(mode: str) -> None:
    image = photo().convert("L").convert("I;16") if mode == "I;16" else photo().convert(mode)
    assert preprocessor().image(image).shape == (*TARGET, 3)


def test_a_phones_jpeg_with_a_second_image_in_it_is_its_first_image() -> None:
    data = encoded(photo(), "MPO", save_all=True, append_images=[photo(seed=1)])
    assert_close(preprocessor().image(data), by_tensorflow(data))
    assert_close(preprocessor().image(Image.open(io.BytesIO(data))), by_tensorflow(data))


def truncated(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def animated(kind: str) -> bytes:
    return encoded(photo(), kind, save_all=True, append_images=[photo(seed=1)])


def lossless_frame(data: bytes) -> bytes:
    return data.replace(b"\xff\xc0", b"\xff\xc3", 1)


def closed(*, lazily: bool = True) -> Image.Image:
    image = Image.open(io.BytesIO(SAME["png"]))
    if not lazily:
        image.load()
    image.close()
    return image


WRONG = {
    "nothing": (b"", "no bytes"),
    "text": (b"hello, I am a text that is long enough", "no known image format"),
    "gif": (encoded(photo(), "GIF"), "a GIF"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(60), "a JPEG, PNG or WebP. Received: a HEIC"),
    "avif": (encoded(photo(), "AVIF"), "a JPEG, PNG or WebP. Received: an AVIF"),
    "animated webp": (animated("WEBP"), "still image"),
    "half a webp": (truncated(encoded(photo(), "WEBP"), 0.5), "truncated"),
    "bmp": (encoded(photo(), "BMP"), "a BMP"),
    "tiff": (encoded(photo(), "TIFF"), "a TIFF"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
    "half a jpeg": (truncated(SAME["jpeg"], 0.5), "truncated"),
    "jpeg without its last byte": (SAME["jpeg"][:-1], "truncated"),
    "head of a jpeg": (SAME["jpeg"][:30], "truncated"),
    "half a png": (truncated(SAME["png"], 0.5), "truncated"),
    "png without its end": (SAME["png"][:-12], "truncated"),
    "head of a png": (SAME["png"][:20], "truncated"),
    "damaged png": (SAME["png"][:200] + bytes(50) + SAME["png"][250:], "whole PNG"),
    "animated png": (animated("PNG"), "still image"),
    "lossless jpeg": (lossless_frame(SAME["jpeg"]), "lossless"),
    "png bomb": (SAME["png"][:16] + struct.pack(">II", 60_000, 60_000) + SAME["png"][24:], "pixels"),
    "png without pixels": (SAME["png"][:16] + struct.pack(">II", 0, 9) + SAME["png"][24:], "to have pixels"),
}


@pytest.mark.parametrize(("data", "named"), WRONG.values(), ids=WRONG.keys())
def test_bytes_that_are_not_a_still_image_are_refused_with_the_reason(data: bytes, named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as caught:
        preprocessor().image(data)
    assert "Expected" in str(caught.value) and "Received" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (None, "always trained with it. Received: None"),
        (3, "int"),
        ("no/such/file.jpg", "No such file"),
        (".", "directory"),
        ("nul\0byte", "null byte"),
        (io.StringIO("text"), "binary mode"),
        (np.zeros((4, 4, 3), np.float32), "float32 array"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"shape \(1, 4, 4, 3\)"),
        (Image.new("F", (5, 5)), "mode F"),
        (Image.new("RGB", (0, 5)), "size"),
        (Image.new("1", (20_000, 5_000)), "pixels"),
        (Image.open(io.BytesIO(animated("GIF"))), "a GIF"),
        (Image.new("La", (5, 5)), "mode La"),
        (closed(), "whose file is closed"),
        (closed(lazily=False), "whose file is closed"),
        (Image.open(io.BytesIO(truncated(SAME["jpeg"], 0.5))), "whole JPEG"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_sources_that_are_not_images_are_refused_with_the_reason(source: Any, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        preprocessor().image(source)


def test_the_cause_is_kept() -> None:
    with pytest.raises(InvalidInput) as caught:
        preprocessor().image("no/such/file.jpg")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@given(st.integers(0, 3000), st.integers(1, 255), st.sampled_from(["jpeg", "png"]))
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_is_read_or_refused_but_never_crashes(position: int, flip: int, kind: str) -> None:
    data = bytearray(SAME[kind])
    data[position % len(data)] ^= flip
    with contextlib.suppress(InvalidInput):
        assert preprocessor().image(bytes(data)).shape == (*TARGET, 3)
