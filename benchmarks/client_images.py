"""From a JPEG to the bytes of a request, compared with the usual Pillow path, and with libjpeg-turbo alone."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._rounds import interleave, microseconds, ratio, row, times
from duoserve import PreprocessingSpec, Preprocessor
from duoserve._wire import messages as _messages

SIZES = {"640x480": (480, 640, 5, 1.0), "12 megapixels": (3000, 4000, 1, 0.4)}


def images(rounds: int) -> dict[str, Any]:
    """JPEG bytes to a serialised request for a model of 224x224."""
    preprocessor = Preprocessor(PreprocessingSpec(224, 224, 32, b"not needed for images", ("a",), 1))
    rows, timings = [], {}
    for name, (height, width, count, aim) in SIZES.items():
        data = jpeg(height, width)

        def request(image: np.ndarray) -> bytes:
            return _messages.encode_predict("pairs", None, "serving_default", {"image": image[None]})

        def usual(data: bytes = data) -> bytes:
            image = Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
            return request(np.asarray(image))

        found = interleave(
            {
                "libjpeg-turbo decode": lambda data=data, count=count: times(
                    lambda: Image.open(io.BytesIO(data)).load(), count
                ),
                "usual Pillow path": lambda usual=usual, count=count: times(usual, count),
                "duoserve": lambda data=data, count=count: times(lambda: request(preprocessor.image(data)), count),
            },
            rounds,
        )
        rows.append(
            row(f"JPEG {name} to request", "usual Pillow path", ratio(found, "duoserve", "usual Pillow path"), aim)
        )
        rows.append(
            row(f"JPEG {name} to request", "full decode", ratio(found, "duoserve", "libjpeg-turbo decode"), None)
        )
        timings[name] = microseconds(found)
    return {"rows": rows, "microseconds": timings}


def jpeg(height: int, width: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
    return data.getvalue()
