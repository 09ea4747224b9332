"""A clip to the `image` input: how long client and graph take, and how many of their pixels differ.

python -m benchmarks.speech
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf

from benchmarks._rounds import interleave, microseconds, times
from duoserve import AudioSpec, PreprocessingSpec, Preprocessor
from export.graph.audio import AudioDecoder
from export.publish.probes import wav_file

SPEC = PreprocessingSpec(64, 96, 16, b"not needed for clips", ("a",), 1, audio=AudioSpec())
RATES = (16_000, 22_050, 44_100, 48_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=1000, help="to compare the pixels of (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()

    preprocessor = Preprocessor(SPEC)
    decode = tf.function(AudioDecoder(SPEC), input_signature=[tf.TensorSpec([None], tf.string)])
    draw = np.random.default_rng(0)
    cases = {}
    for rate in RATES:
        data = _clip(draw, rate, seconds=2.0)
        cases[f"client, {rate} Hz"] = lambda data=data: times(lambda: preprocessor.audio(data), 3)
        cases[f"graph, {rate} Hz"] = lambda data=data: times(lambda: decode([data]), 3)
    found = {"microseconds": microseconds(interleave(cases, options.rounds)), **_pixels(draw, decode, options.clips)}
    if options.json:
        print(json.dumps(found))
        return
    for name, each in found["microseconds"].items():
        print(f"{name:<18} {each['p50'] / 1000:6.1f} ms (p95 {each['p95'] / 1000:.1f})")
    print(f"{found['different']} of {found['pixels']:,} pixels differ, by {found['most']} levels at most")


def _clip(draw: np.random.Generator, rate: int, seconds: float) -> bytes:
    """Noise whose colour changes, a WAV of 16-bit integers."""
    frames = max(1, round(rate * seconds))
    noise = np.cumsum(draw.standard_normal(frames)) * draw.uniform(0, 0.05) + draw.standard_normal(frames)
    noise *= np.linspace(1, draw.uniform(0, 1), frames) / max(np.abs(noise).max(), 1e-9)
    return wav_file(noise[:, None], rate, "int16")


def _pixels(draw: np.random.Generator, decode: tf.types.experimental.GenericFunction, clips: int) -> dict[str, int]:
    preprocessor = Preprocessor(SPEC)
    different = most = 0
    for _ in range(clips):
        data = _clip(draw, int(draw.choice([*RATES, draw.integers(4000, 96_000)])), draw.uniform(0.01, 2.2))
        apart = np.abs(preprocessor.audio(data)[..., 0].astype(int) - decode([data]).numpy()[0, ..., 0])
        different += np.count_nonzero(apart)
        most = max(most, int(apart.max()))
    return {
        "clips": clips,
        "pixels": clips * SPEC.image_height * SPEC.image_width,
        "different": different,
        "most": most,
    }


if __name__ == "__main__":
    main()
