"""The part of the contract that defines how a clip becomes an image. Pure data, like all of `duoserve.contract`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from duoserve.contract.records import ContractError, check_int, take

__all__ = ["AudioSpec"]


@dataclasses.dataclass(frozen=True, slots=True)
class AudioSpec:
    """How a clip becomes the `image` input, its log-mel spectrogram, with three equal channels.

    `image_height` is the number of mel bands, from `low_hz` (the last row) to `high_hz` (the first);
    `image_width` is the number of frames, which determines the length of a clip.

    Attributes:
        sample_rate: Samples a second; other recordings are resampled.
        window: Length of a frame in samples, under a Hann window.
        hop: Samples from the start of a frame to that of the next.
        low_hz: Where the lowest band begins.
        high_hz: Where the highest band ends.
        range_db: Cells this far below the loudest cell of the clip, or further, are black.
    """

    sample_rate: int = 16_000
    window: int = 640
    hop: int = 320
    low_hz: int = 60
    high_hz: int = 7600
    range_db: int = 80

    def __post_init__(self) -> None:
        check_int("sample_rate", self.sample_rate, 4000, 192_000)
        check_int("window", self.window, 16, self.sample_rate)
        check_int("hop", self.hop, 1, self.window)
        check_int("low_hz", self.low_hz, 0, self.sample_rate // 2)
        check_int("high_hz", self.high_hz, self.low_hz + 1, self.sample_rate // 2)
        check_int("range_db", self.range_db, 1, 200)

    @property
    def fft_length(self) -> int:
        """Length of the Fourier transform: a window and zeros up to a power of two."""
        return 1 << (self.window - 1).bit_length()

    def clip_samples(self, frames: int) -> int:
        """The number of samples that this number of frames covers."""
        return (frames - 1) * self.hop + self.window

    def band_edges(self, bands: int) -> list[float]:
        """Hertz where the triangles of the bands begin, peak and end: bands + 2 of them, each two apart for one.

        Evenly spaced on the mel scale, 2595 log10(1 + hertz / 700). Raises ContractError for too many bands.
        """
        low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (self.low_hz, self.high_hz))
        edges = [
            700 * (10 ** ((low + (high - low) * position / (bands + 1)) / 2595) - 1) for position in range(bands + 2)
        ]
        step = self.sample_rate / self.fft_length
        for begin, end in zip(edges, edges[2:], strict=False):
            if (math.floor(begin / step) + 1) * step >= end:
                raise ContractError(
                    f"Expected fewer rows (mel bands) or a longer window: none of {bands} bands may be narrower than"
                    f" the {step:g} Hz that {self.fft_length} samples resolve. Received: {begin:.0f} to {end:.0f} Hz"
                )
        return edges

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> AudioSpec:
        """Reads the dictionary that `dataclasses.asdict` makes. Raises ContractError for another one."""
        return cls(**{field.name: take(record, field.name, int) for field in dataclasses.fields(cls)})
