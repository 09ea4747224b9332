"""The result of `explain`, and how it is drawn: a heat map over the image, and coloured words.

Orange speaks for the class (tag, score), blue against it: its value is higher without that part.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from duoserve.contract import Answer
from duoserve.errors import NotAnswered

if TYPE_CHECKING:
    from PIL import Image

    from duoserve.preprocessing.images import ImageSource

__all__ = ["Explanation", "InputRelevance", "Word"]

_FOR: Final = (230, 97, 1)  # orange and blue: colour-blind people can distinguish them
_AGAINST: Final = (33, 102, 214)
_STRONGEST: Final = 0.75  # share of the colour over the most relevant patch or word
_SMALLEST: Final = 320  # pixels: a heat map over the small image that the version sees is enlarged


class Word(NamedTuple):
    """A word of the text.

    Attributes:
        text: The word, as in the text.
        start: Its position in the text, in characters.
        relevance: How much the explained value falls without it; 0 if the text was cut before it.
    """

    text: str
    start: int
    relevance: float


class InputRelevance(NamedTuple):
    """How much each input adds to the explained value: their Shapley values, which add up to what both add."""

    image: float
    text: float


@dataclasses.dataclass(frozen=True, eq=False)  # slots: see duoserve.results
class Explanation:
    """The explanation of one answer: what decided.

    Attributes:
        label: The class, tag or score that is explained.
        value: Its probability with both inputs, 0 to 1; of a score, the score.
        pixels: What the version saw: uint8 array of shape (height, width, 3), RGB, 0-255.
        image_relevance: How much the value falls without each patch: float32 array of shape (rows, columns).
        text: The text; empty when there was none.
        words: Its words, in order.
        input_relevance: How much each input adds to the value.
        kind: The kind of answer.
        version: The servable version that answered.
        target: The label or version that was asked for, None for the latest.
        background: The colour under transparent pixels, from the version's spec.
    """

    label: str
    value: float
    pixels: npt.NDArray[np.uint8] = dataclasses.field(repr=False)
    image_relevance: npt.NDArray[np.float32] = dataclasses.field(repr=False)
    text: str
    words: tuple[Word, ...] = dataclasses.field(repr=False)
    input_relevance: InputRelevance
    kind: Answer
    version: int
    target: int | str | None
    background: tuple[int, int, int] | None = None

    @property
    def probability(self) -> float:
        """The value, if it is a probability. Raises NotAnswered for a score."""
        if self.kind.value != "probability":
            raise NotAnswered("Expected the explanation of a class or tag. Received: one of a score (read value)")
        return self.value

    @property
    def image_share(self) -> float:
        """The image's part in the decision, 0 to 1; 0, like that of the text, if neither speaks for the class."""
        return _share(self.input_relevance.image, self.input_relevance.text)

    @property
    def text_share(self) -> float:
        """The text's part in the decision, 0 to 1."""
        return _share(self.input_relevance.text, self.input_relevance.image)

    def heat_map(self, image: ImageSource | None = None) -> Image.Image:
        """The image in grey under its relevance, a PIL image in RGB. The most relevant patch has the full colour.

        Args:
            image: What to draw on, as `predict` takes it, in its own size: the image that was explained.
                None: what the version saw, enlarged (for a clip, its spectrogram).
        """
        from PIL import Image

        from duoserve.preprocessing.images import open_image

        if image is None:
            height, width = self.pixels.shape[:2]
            factor = -(-_SMALLEST // max(height, width))
            seen = Image.fromarray(self.pixels)
            under = seen.resize((width * factor, height * factor), Image.Resampling.NEAREST)
        else:
            under = open_image(image, self.background)
        strength = Image.fromarray(_strength(self.image_relevance)).resize(under.size, Image.Resampling.BICUBIC)
        drawn = under.convert("L").convert("RGB")
        for colour, sign in ((_FOR, 1), (_AGAINST, -1)):
            cover = strength.point(lambda value, sign=sign: value * (sign * 255 * _STRONGEST)).convert("L")
            drawn.paste(colour, mask=cover)
        return drawn

    def html(self) -> str:
        """The text as escaped HTML, its words coloured."""

        def coloured(text: str, strength: float, relevance: float) -> str:
            red, green, blue = _FOR if strength > 0 else _AGAINST
            style = f"background: rgba({red}, {green}, {blue}, {abs(strength) * _STRONGEST:.2f})"
            return f'<span style="{style}" title="{relevance:+.3f}">{html.escape(text)}</span>'

        return self._drawn(html.escape, coloured)

    def ansi(self) -> str:
        """The text for a terminal with 24-bit colours. Control characters become spaces."""

        def plain(text: str) -> str:
            return "".join(character if character.isprintable() else " " for character in text)

        def coloured(text: str, strength: float, relevance: float) -> str:
            colour = _FOR if strength > 0 else _AGAINST
            red, green, blue = (round(255 + (part - 255) * abs(strength) * _STRONGEST) for part in colour)
            return f"\x1b[38;2;0;0;0;48;2;{red};{green};{blue}m{plain(text)}\x1b[0m"

        return self._drawn(plain, coloured)

    def _drawn(self, plain: Callable[[str], str], coloured: Callable[[str, float, float], str]) -> str:
        """The words coloured by strength, -1 to 1, and relevance; what is between them, plain."""
        strengths = _strength(np.array([word.relevance for word in self.words], np.float32))
        parts, end = list[str](), 0
        for word, strength in zip(self.words, strengths.tolist(), strict=True):
            parts += plain(self.text[end : word.start]), coloured(word.text, strength, word.relevance)
            end = word.start + len(word.text)
        return "".join([*parts, plain(self.text[end:])])


def _share(of: float, other: float) -> float:
    both = max(of, 0.0) + max(other, 0.0)
    return max(of, 0.0) / both if both else 0.0


def _strength(relevance: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Relevances divided by the largest, -1 to 1; zeros if nothing is relevant beyond rounding."""
    most = np.abs(relevance).max(initial=0.0)
    return relevance / most if most > 1e-6 else np.zeros_like(relevance)
