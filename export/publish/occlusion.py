"""The expected outputs of `explain`, computed row by row from a model's answers, for the gate."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from duoserve.contract import IMAGE
from duoserve.preprocessing.preprocessor import Preprocessor
from export.measures import Array

Answers = Callable[[Array, Array], Array]
"""Images and tokens to answers, each with a batch dimension."""


def relevances(answers: Answers, preprocessor: Preprocessor, image: Array, tokens: Array) -> Mapping[str, Array]:
    """The outputs of `explain` for the most probable class (the first score) of one row, without their batch dimension.

    Takes a uint8 array of shape (height, width, 3), and an int32 array of shape (token_length,).
    """
    spec = preprocessor.spec
    assert spec.explain_grid is not None
    number = preprocessor.word_rule.numbers(tokens, spec.pad_id)
    pixels = image.reshape(-1, 3).astype(np.int64)
    mean = np.uint8(0) if spec.audio else ((pixels.sum(0) + len(pixels) // 2) // len(pixels)).astype(np.uint8)
    nothing = np.broadcast_to(np.uint8(0) if spec.audio or IMAGE in spec.optional else mean, image.shape)
    no_text = preprocessor.no_text()
    patched = list(_patched(image, mean, spec.explain_grid))
    spoken = [_without(tokens, number != word, spec.pad_id) for word in range(number.max() + 1)]
    rows = [
        *((image, tokens), (nothing, tokens), (image, no_text), (nothing, no_text)),
        *((painted, tokens) for painted in patched),
        *((image, words) for words in spoken),
    ]
    found = np.concatenate([answers(seen[None], words[None]) for seen, words in rows])
    best = found[0].argmax() if spec.answer.decided else 0
    whole, no_image, no_words, neither = found[:4, best]
    fall = whole - found[4:, best]
    by_image = ((whole - no_image) + (no_words - neither)) / 2
    by_text = ((whole - no_words) + (no_image - neither)) / 2
    of_words = np.append(fall[len(patched) :], 0.0)  # the last one is padding's, -1
    return {
        "class_id": np.array(best),
        spec.answer.value: np.array(whole),
        "image_relevance": fall[: len(patched)].reshape(spec.explain_grid),
        "token_relevance": of_words[number],
        "input_relevance": np.array([by_image, by_text]),
    }


def _patched(image: Array, colour: Any, grid: tuple[int, int]) -> Iterator[Array]:
    row = np.arange(image.shape[0]) * grid[0] // image.shape[0]
    column = np.arange(image.shape[1]) * grid[1] // image.shape[1]
    for down in range(grid[0]):
        for across in range(grid[1]):
            changed = image.copy()
            changed[np.ix_(row == down, column == across)] = colour
            yield changed


def _without(tokens: Array, kept: Array, pad_id: int) -> Array:
    found = np.full_like(tokens, pad_id)
    found[: kept.sum()] = tokens[kept]
    return found
