"""WAV files of any kind that the client reads."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from duoserve.preprocessing.wav import CODINGS, GUID_TAIL


def wav_file(
    samples: npt.NDArray[np.float64],
    sample_rate: int,
    coding: str,
    *,
    extensible: bool = False,
    before: Sequence[tuple[bytes, bytes]] = (),
    size: int | None = None,
) -> bytes:
    """A WAV of any kind that the client reads.

    Args:
        samples: float64 array of shape (frames, channels), -1 to 1.
        sample_rate: Samples a second.
        coding: One of `duoserve.preprocessing.wav.CODINGS`.
        extensible: Whether its header is a WAVE_FORMAT_EXTENSIBLE.
        before: Names and contents of chunks before the samples.
        size: The size of the samples in its header, as a writer into a pipe would set it, without padding.
    """
    tag, bits = next(key for key, value in CODINGS.items() if value == coding)
    numbers = (
        samples
        if tag == 3
        else np.clip(np.rint(samples * 2.0 ** (bits - 1)), -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
    )
    if coding == "int24":
        data = numbers.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    else:
        data = (numbers + 128 if bits == 8 else numbers).astype(np.dtype(coding).newbyteorder("<")).tobytes()
    channels = samples.shape[1]
    block = channels * bits // 8
    layout = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else tag, channels, sample_rate, sample_rate * block, block, bits
    )
    if extensible:
        layout += struct.pack("<HHIH", 22, bits, 0, tag) + GUID_TAIL
    chunks = [(b"fmt ", layout), *before]
    if size is None:
        chunks.append((b"data", data))
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for name, content in chunks
    )
    if size is not None:
        body += b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body
