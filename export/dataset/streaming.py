"""Training rows whose images are decoded when a batch needs them: data that memory can't hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from duoserve.errors import InvalidInput
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import Arrays, encode_texts
from export.dataset.rows import DataError, Problem, Row

__all__ = ["StreamedImages", "stream"]


def stream(rows: Sequence[Row], preprocessor: Preprocessor) -> Arrays:
    """Like `encode`, but `images` is a `StreamedImages`, which can only be indexed by arrays of positions."""
    images = cast("npt.NDArray[np.uint8]", StreamedImages(rows, preprocessor))
    return Arrays(images, *encode_texts(rows, preprocessor))


class StreamedImages:
    """Images that are decoded on demand: `Arrays.images` for rows that memory can't hold.

    Attributes:
        problem: The first error, kept because TensorFlow does not pass on errors of this kind.
    """

    def __init__(self, rows: Sequence[Row], preprocessor: Preprocessor) -> None:
        self._rows = rows
        self._preprocessor = preprocessor
        self.problem: DataError | None = None

    def __getitem__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return np.stack([self._decoded(self._rows[position]) for position in positions])

    def _decoded(self, row: Row) -> npt.NDArray[np.uint8]:
        try:
            return self._preprocessor.decoded(row.image.read_bytes())
        except (InvalidInput, OSError) as error:
            self.problem = DataError(
                "Expected images not to change after they were checked. Received:", [Problem(row.line, str(error))]
            )
            raise self.problem from error
