"""JPEG files in the graph: headers read as libjpeg reads them, then decoded. Twin: `duoserve.preprocessing.jpeg`."""

from collections.abc import Callable

import tensorflow as tf

from duoserve.preprocessing.exif import EXIF_PREFIX
from duoserve.preprocessing.image_headers import MAX_PARTS, Refused
from export.graph.image_headers import File, big_endian, check, size_errors

_RATIOS = (1, 2, 4, 8)
_WINDOW = 1024
"""Bytes that are searched for a marker in one step; other bytes before one are skipped."""

_APP1, _EOI, _SOS, _PROGRESSIVE = 0xE1, 0xD9, 0xDA, 0xC2
_SMOOTHED = 10


def decode_jpeg(data: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels, uint8 array of shape (any, any, 3), RGB, as stored; and the EXIF block, string scalar, empty without one.

    A large image comes at a half, quarter or eighth: `duoserve.preprocessing.image_headers.decode_ratio`.

    Args:
        data: string scalar, the file.
        height: Rows that it will be resized to.
        width: Columns that it will be resized to.
    """
    file = File(data)
    frame_at, exif_at, stop_at, segment_count, is_rare = _segments(file)
    frame = file.read(frame_at, 22)
    stored = big_endian(frame[5:7]), big_endian(frame[7:9])
    count = frame[9]
    errors = {
        Refused.JPEG_KIND: is_rare | ((frame_at > 0) & (frame[4] != 8)),
        "Expected image to be a whole JPEG. Received: one without a size": frame_at == 0,
        Refused.JPEG_COMPONENTS: (count != 1) & (count != 3) & (count != 4),
        **size_errors(*stored),
        Refused.PARTS: segment_count > MAX_PARTS,
        Refused.JPEG_SCANS: tf.cond(
            frame[1] == _PROGRESSIVE, lambda: ~_complete(file, frame, stop_at), lambda: tf.constant(False)
        ),
    }
    shorter, longer = tf.minimum(*stored), max(height, width)
    # The ratio is an attribute of the operation, not an input: one branch for each.
    branch = sum(tf.cast(shorter >= 2 * ratio * longer, tf.int32) for ratio in _RATIOS[1:])
    with tf.control_dependencies([check(errors)]):
        pixels = tf.switch_case(branch, [_decoded(data, ratio) for ratio in _RATIOS])
    exif_size = tf.where(exif_at > 0, big_endian(file.read(exif_at + 2, 2)) - 2, 0)
    return pixels, file.slice(exif_at + 4, exif_size)


def _decoded(data: tf.Tensor, ratio: int) -> Callable[[], tf.Tensor]:
    # INTEGER_ACCURATE is what Pillow uses; TensorFlow's default is up to 8 levels off.
    return lambda: tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _segments(file: File) -> tuple[tf.Tensor, ...]:
    """Where the frame header and the first EXIF segment begin, 0 where there is none; where the first scan
    begins, or what no reader understands; how many segments there are up to it; and whether the frame is
    of a kind that is refused."""

    def more(at: tf.Tensor, count: tf.Tensor, stop: tf.Tensor, rare: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return ~stop & ~rare & (at + 4 <= file.size) & (count <= MAX_PARTS)

    def step(at: tf.Tensor, count: tf.Tensor, *found: tf.Tensor) -> tuple[tf.Tensor, ...]:
        octets = file.octets(at, _WINDOW)
        second = octets[1:]
        # Markers without a segment are skipped like other bytes.
        marks = (octets[:-1] == 0xFF) & (second > 1) & (second != 0xFF) & ((second < 0xD0) | (second > 0xD7))
        skipped = tf.where(tf.reduce_any(marks), tf.argmax(marks, output_type=tf.int32), _WINDOW - 1)
        here = skipped == 0
        head = tf.cast(octets[:10], tf.int32)
        marker = head[1]
        is_frame = (marker >= 0xC0) & (marker <= 0xCF) & (marker != 0xC4) & (marker != 0xC8) & (marker != 0xCC)
        after = at + 2 + tf.maximum(head[2] * 256 + head[3], 2)
        known = ((marker >= 0xC0) & (marker < 0xDE) & (marker != 0xC8) & (marker != 0xD8) & (marker != 0xD9)) | (
            (marker >= 0xE0) & (marker < 0xF0)
        )
        stop = here & ((marker == _SOS) | (~known & (marker != 0xFE)) | (after > file.size))
        is_exif = (marker == _APP1) & (after >= at + 10) & tf.reduce_all(head[4:] == [*EXIF_PREFIX])
        goes = here & ~stop
        _, _, frame, exif = found
        return (
            tf.where(stop, at, tf.where(here, after, at + skipped)),
            count + tf.cast(here, tf.int32),
            stop,
            here & is_frame & (marker > _PROGRESSIVE),
            tf.where(goes & is_frame & (frame == 0), at, frame),
            tf.where(goes & is_exif & (exif == 0), at, exif),
        )

    zero, no = tf.constant(0), tf.constant(False)
    at, count, _, rare, frame, exif = tf.while_loop(more, step, (tf.constant(2), zero, no, no, zero, zero))
    return frame, exif, at, count, rare


def _complete(file: File, frame: tf.Tensor, scan: tf.Tensor) -> tf.Tensor:
    """Whether the low coefficients of every component of a progressive JPEG come with all their bits."""
    octets = tf.concat([tf.io.decode_raw(file.slice(scan, file.size), tf.uint8), tf.zeros([16], tf.uint8)], 0)
    size = tf.size(octets, tf.int64)
    markers = tf.where(octets[:-1] == 0xFF, octets[1:], 0)
    end = tf.concat([tf.where(markers == _EOI)[:, 0], [size]], 0)[0]
    scans = tf.where(markers[:end] == _SOS)
    heads = tf.cast(tf.gather(octets, tf.minimum(scans + tf.range(14, dtype=tf.int64), size - 1)), tf.int32)
    count = heads[:, 4]
    spectrum = tf.gather(heads, tf.minimum(5 + 2 * count[:, None] + tf.range(3), 13), batch_dims=1)
    first, last, exact = spectrum[:, 0], spectrum[:, 1], spectrum[:, 2] % 16 == 0
    places = tf.range(_SMOOTHED)
    has_places = (first[:, None] <= places) & (last[:, None] >= places) & exact[:, None]
    has_components = tf.reduce_any(
        (heads[:, None, 5:13:2] == frame[10:22:3][None, :, None]) & (tf.range(4) < count[:, None, None]), -1
    )
    covered = tf.reduce_any(has_components[:, :, None] & has_places[:, None, :], 0)
    return tf.reduce_all(covered | (tf.range(4) >= frame[9])[:, None])
