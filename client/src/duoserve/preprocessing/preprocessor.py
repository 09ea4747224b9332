"""From raw input to the tensors of one model version, exactly as in the model's own graph."""

import functools

import numpy as np
import numpy.typing as npt

from duoserve._transport.fork import Lock
from duoserve.contract import AUDIO, IMAGE, TEXT, PreprocessingSpec
from duoserve.errors import InvalidInput
from duoserve.preprocessing.audio import AudioSource, Clip, Spectrogram, as_clip
from duoserve.preprocessing.image_headers import EncodedImage
from duoserve.preprocessing.images import ImageSource, as_pil, check_array, opened, resize
from duoserve.preprocessing.sources import utf8
from duoserve.preprocessing.tokenizers.kinds import Tokenizer, load_tokenizer
from duoserve.preprocessing.wav import EncodedAudio
from duoserve.preprocessing.words import WordRule

__all__ = ["Preprocessor"]


class Preprocessor:
    """Prepares raw input for the versions with `spec`. Thread-safe."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        self.spec = spec
        self.digest = spec.digest
        self._target = spec.image_height, spec.image_width
        self._lock = Lock()
        self._tokenizer: Tokenizer | None = None

    def image(self, source: ImageSource | EncodedImage | Clip | EncodedAudio | None) -> npt.NDArray[np.uint8]:
        """uint8 array of shape (height, width, 3), RGB, 0-255, of the size in the spec.

        The EXIF orientation is applied; alpha is composited on the background of the spec, or dropped where
        it has none; grey and palette images become RGB, 16-bit PNGs keep the upper byte, CMYK JPEGs are
        converted as TensorFlow does it. A JPEG much larger than the model's input is shrunk while it is
        decoded (`image_headers.decode_ratio`). For a Clip see `audio`; a missing image, None, is zeros.

        Raises:
            InvalidInput: Another format, an animated, truncated or broken image, more than 89 megapixels, an
                array of another shape or dtype, None where the spec has no "image" in `optional`, an image
                where it takes audio, or the reverse.
        """
        if source is None:
            self._check_optional(IMAGE)
            return np.zeros((*self._target, 3), np.uint8)
        medium = AUDIO if isinstance(source, (Clip, EncodedAudio)) else IMAGE
        if self.spec.medium != medium:
            raise InvalidInput(f"Expected {self.spec.medium}, which the model takes. Received: {medium}")
        if isinstance(source, (Clip, EncodedAudio)):
            return self._spectrogram.image(source.opened() if isinstance(source, Clip) else source)
        source = opened(source)
        if isinstance(source, np.ndarray) and source.shape[:2] == self._target:
            check_array(source)
            return source
        return resize(as_pil(source, self.spec.background, self._target), *self._target)

    def audio(self, source: AudioSource) -> npt.NDArray[np.uint8]:
        """uint8 array of shape (height, width, 3), grey, 0-255: the spectrogram of a clip.

        By `spec.audio`, the channels are mixed, the clip is resampled, and cut at the end or padded
        with silence; high tones are at the top, and the loudest cell is white.

        Raises:
            InvalidInput: Not a WAV, FLAC or OGG, a truncated or broken one, without samples, of more than
                MOST_SAMPLES, samples that are not finite, an array without its rate or of another dtype or
                shape, or the spec takes images.
        """
        return self.image(as_clip(source))

    def decoded(self, data: bytes | None) -> npt.NDArray[np.uint8]:
        """Like `image`, for the bytes of a file: of an image, or of a clip where the spec has `audio`."""
        return self.image(data if data is None or self.spec.audio is None else Clip(data))

    def tokens(self, text: str | None) -> npt.NDArray[np.int32]:
        """int32 array of shape (token_length,): the ids of the text, cut or padded with `pad_id`.

        Raises:
            InvalidInput: Not a str, one with lone surrogates, or None where the spec has no "text" in `optional`.
        """
        if text is None:
            self._check_optional(TEXT)
            return np.full(self.spec.token_length, self.spec.pad_id, np.int32)
        utf8(text)
        tokenizer = self.tokenizer
        most = self.spec.token_length - len(tokenizer.prefix) - len(tokenizer.suffix)
        ids = [*tokenizer.prefix, *tokenizer.encode(text)[:most], *tokenizer.suffix]
        row = np.full(self.spec.token_length, self.spec.pad_id, np.int32)
        row[: len(ids)] = ids
        return row

    @property
    def tokenizer(self) -> Tokenizer:
        """The spec's tokenizer, loaded once. Raises what `load_tokenizer` raises."""
        if self._tokenizer is None:
            with self._lock:
                if self._tokenizer is None:
                    self._tokenizer = load_tokenizer(self.spec)
        return self._tokenizer

    def no_text(self) -> npt.NDArray[np.int32]:
        """The row of tokens that stands for a left-out text in `explain`: a missing one, or one without words."""
        return self.tokens(None if TEXT in self.spec.optional else "")

    @property
    def word_rule(self) -> WordRule:
        """Which token ids begin a word, for `explain`."""
        return self.tokenizer.words

    def words(self, text: str) -> list[tuple[int, int, int]]:
        """The positions of the words of a text, in order: first character, the one after the last, first token.

        A word that is cut, because it is beyond `token_length` tokens, has -1 as its token.
        """
        tokenizer = self.tokenizer
        numbers = tokenizer.words.numbers(np.array(tokenizer.encode(text), np.int32), -1)
        first, end_of_row = len(tokenizer.prefix), self.spec.token_length - len(tokenizer.suffix)
        found: list[tuple[int, int, int]] = []
        for position, (begin, end) in enumerate(tokenizer.spans(text)):
            if numbers[position] < 0:
                continue
            if not position or numbers[position] != numbers[position - 1]:
                token = first + position
                found.append((begin, end, token if token < end_of_row else -1))
            else:
                found[-1] = found[-1][0], end, found[-1][2]
        # Spaces before a word are in its first token.
        stripped = ((end - len(text[begin:end].lstrip()), end, token) for begin, end, token in found)
        return [word for word in stripped if word[0] < word[1]]

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest token id, padding included."""
        return max(self.tokenizer.size, self.spec.pad_id + 1)

    def _check_optional(self, name: str) -> None:
        if name not in self.spec.optional:
            raise InvalidInput(f"Expected {name}: the model was always trained with it. Received: None")

    @functools.cached_property
    def _spectrogram(self) -> Spectrogram:
        assert self.spec.audio is not None
        return Spectrogram(self.spec.audio, self.spec.image_height, self.spec.image_width)
