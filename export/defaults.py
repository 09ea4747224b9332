"""Assumptions of the command line and the gate about the server. Pure data: `--help` reads it without TensorFlow."""

from typing import Final

BACKGROUND: Final = (255, 255, 255)
"""Red, green and blue under the transparent pixels of images."""

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32)
"""`allowed_batch_sizes` of serving/config/batching.config."""

EXPLAIN_GRID: Final = (8, 8)
"""Rows and columns of `explain`, if the image has as many pixels."""

WEIGHTS: Final = ("float32", "float16", "int8")
"""How a version can store its weights. It computes in float32 with each."""
