"""Raw input to the tensors of one model version, exactly as the model's own graph does it.

Images: JPEG and PNG (as a path, bytes or a file object), numpy arrays and Pillow images
become uint8 pixels, within 1 level of `serving_bytes`; where the model takes clips instead,
`duoserve.preprocessing.audio` says how. Text becomes the ids of the spec's tokenizer, identical to it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from duoserve._transport.fork import Lock
from duoserve.contract import AUDIO, IMAGE, TEXT, PreprocessingSpec
from duoserve.errors import InvalidInput
from duoserve.preprocessing.audio import AudioSource, Clip, Spectrogram, as_clip
from duoserve.preprocessing.image_headers import MAX_PIXELS, EncodedImage, decode_ratio, exif_orientation, inspect
from duoserve.preprocessing.recordings import inspect_audio
from duoserve.preprocessing.sources import kind_of, read_bytes
from duoserve.preprocessing.tokenizers.kinds import Tokenizer, load_tokenizer
from duoserve.preprocessing.wav import EncodedAudio
from duoserve.preprocessing.words import WordRule

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageSource", "Preprocessor", "decode_ratio", "exif_orientation", "open_image", "read_encoded"]

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | npt.NDArray[np.uint8] | Image.Image"
)
"""A path, the bytes of a JPEG or PNG, a file object, a uint8 array (height, width, 3), or a PIL image."""


def read_encoded(source: Any) -> bytes | None:
    """The encoded bytes behind a path, bytes or file object; None for arrays and PIL images.

    Raises:
        InvalidInput: A file that can't be read, or a source of no known kind.
    """
    if isinstance(source, np.ndarray) or _is_pil(source):
        return None
    return read_bytes(source, IMAGE, ", a numpy array or a PIL image")


def open_image(source: ImageSource) -> Image.Image:
    """A PIL image in RGB, upright, in its own size, as `Preprocessor.image` reads it.

    Raises:
        InvalidInput: See there.
    """
    from PIL import Image

    data = read_encoded(source)
    if data is None:
        if isinstance(source, np.ndarray):
            _check_array(source)
            return Image.fromarray(np.ascontiguousarray(source))
        return _upright(_checked(cast("Image.Image", source)))
    facts = inspect(data)
    try:
        with Image.open(io.BytesIO(data), formats=(facts.format,)) as image:
            image.load()
            return _turned(_rgb(image), facts.orientation)
    except InvalidInput:
        raise
    except Exception as error:  # see Preprocessor.encoded
        raise InvalidInput(f"Expected image to be a whole {facts.format}. Received: {error}") from error


class Preprocessor:
    """Prepares raw input for the versions that carry `spec`. Safe for many threads.

    Attributes:
        spec: The specification that it follows.
        digest: `spec.digest`, computed once.
    """

    def __init__(self, spec: PreprocessingSpec) -> None:
        self.spec = spec
        self.digest = spec.digest
        self._lock = Lock()
        self._tokenizer: Tokenizer | None = None

    def image(self, source: ImageSource | Clip | None) -> npt.NDArray[np.uint8]:
        """uint8 array of shape (height, width, 3), RGB, 0-255, of the size in the spec.

        A Clip, where the spec has `audio`: see there. None, where the spec's `optional` has
        "image": a missing image, zeros.

        Encoded images: the EXIF orientation of a JPEG is applied (of a PNG it is not: the
        graph does not read it), alpha is dropped, grey and palette images become RGB, 16-bit
        PNGs keep the upper byte, CMYK JPEGs are converted as TensorFlow does it. A JPEG much
        larger than the model's input is shrunk while it is decoded (`decode_ratio`).
        A PIL image is taken as the pixels it has, turned as its EXIF data says.

        Raises:
            InvalidInput: Another format, an animated, truncated or broken image, more than
                89 megapixels, an array of another shape or dtype, None where an image is needed,
                an image where the spec takes audio, or the other way round.
        """
        if source is None:
            self._check_optional(IMAGE)
            return np.zeros((self.spec.image_height, self.spec.image_width, 3), np.uint8)
        if isinstance(source, Clip):
            return self.audio(source)
        self._check_medium(IMAGE)
        data = read_encoded(source)
        if data is not None:
            return self.encoded(data, inspect(data))
        if isinstance(source, np.ndarray):
            return self._array(source)
        return self._resized(_upright(_checked(cast("Image.Image", source))))

    def audio(self, source: AudioSource) -> npt.NDArray[np.uint8]:
        """uint8 array of shape (height, width, 3), grey, 0-255: the spectrogram of a clip.

        The channels are mixed, the clip is resampled, cut at the end or followed by silence, as
        `spec.audio` says, and drawn with high tones above and the loudest white.

        Raises:
            InvalidInput: Not a WAV, FLAC or OGG, a truncated or broken one, without samples, of
                more than `duoserve.preprocessing.audio.MOST_SAMPLES`, samples that are not finite, an array
                without its rate or of another dtype or shape, or the spec takes images.
        """
        self._check_medium(AUDIO)
        clip = as_clip(source)
        data = clip.read()
        return self._spectrogram.clip(clip) if data is None else self.encoded(data, inspect_audio(data))

    def decoded(self, data: bytes | None) -> npt.NDArray[np.uint8]:
        """Like `image`, for the bytes of a file: of an image, or of a clip where the spec has `audio`."""
        return self.image(data if data is None or self.spec.audio is None else Clip(data))

    def encoded(self, data: bytes, facts: EncodedImage | EncodedAudio) -> npt.NDArray[np.uint8]:
        """Like `image`, for bytes that `inspect` or `inspect_audio` has passed."""
        if isinstance(facts, EncodedAudio):
            self._check_medium(AUDIO)
            return self._spectrogram.encoded(data, facts)
        self._check_medium(IMAGE)
        from PIL import Image

        target = self.spec.image_height, self.spec.image_width
        try:
            with Image.open(io.BytesIO(data), formats=(facts.format,)) as image:
                if facts.format == "JPEG":
                    ratio = decode_ratio(facts.height, facts.width, *target)
                    image.draft(None, (facts.width // ratio, facts.height // ratio))
                image.load()
                return self._resized(_turned(_rgb(image), facts.orientation))
        except InvalidInput:
            raise
        except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, ValueError, zlib.error …
            raise InvalidInput(f"Expected image to be a whole {facts.format}. Received: {error}") from error

    def tokens(self, text: str | None) -> npt.NDArray[np.int32]:
        """int32 array of shape (token_length,): the ids of the text, padded with `pad_id` or cut.

        None, where the spec's `optional` has "text": a missing text, `pad_id` alone.

        Raises:
            InvalidInput: Not a str, one with lone surrogates, which UTF-8 can't carry, or None
                where a text is needed.
        """
        if text is None:
            self._check_optional(TEXT)
            return np.full(self.spec.token_length, self.spec.pad_id, np.int32)
        if not isinstance(text, str):
            raise InvalidInput(f"Expected text to be a str. Received: {kind_of(text)}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidInput(f"Expected text to be valid Unicode. Received: {error.reason}") from error
        tokenizer = self.tokenizer
        most = self.spec.token_length - len(tokenizer.prefix) - len(tokenizer.suffix)
        ids = [*tokenizer.prefix, *tokenizer.encode(text)[:most], *tokenizer.suffix]
        row = np.full(self.spec.token_length, self.spec.pad_id, np.int32)
        row[: len(ids)] = ids
        return row

    @property
    def tokenizer(self) -> Tokenizer:
        """The spec's tokenizer, loaded once.

        Raises:
            ContractError: It can't be loaded.
            UnsupportedModel: It needs a package that is not installed.
        """
        if self._tokenizer is None:
            with self._lock:
                if self._tokenizer is None:
                    self._tokenizer = load_tokenizer(self.spec)
        return self._tokenizer

    def no_text(self) -> npt.NDArray[np.int32]:
        """The row of tokens that `explain` takes for the text being left out: a missing one, or one without words."""
        return self.tokens(None if TEXT in self.spec.optional else "")

    @property
    def word_rule(self) -> WordRule:
        """Which token ids begin a word, for `explain`."""
        return self.tokenizer.words

    def words(self, text: str) -> list[tuple[int, int, int]]:
        """Where the words of a text are, in order: first character, the one after the last, first token.

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
            raise InvalidInput(f"Expected {name}: the model was trained with it always. Received: None")

    @functools.cached_property
    def _spectrogram(self) -> Spectrogram:
        assert self.spec.audio is not None
        return Spectrogram(self.spec.audio, self.spec.image_height, self.spec.image_width)

    def _check_medium(self, medium: str) -> None:
        if self.spec.medium != medium:
            raise InvalidInput(f"Expected {self.spec.medium}, as the model takes that. Received: {medium}")

    def _array(self, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        _check_array(array)
        height, width = array.shape[:2]
        if (height, width) == (self.spec.image_height, self.spec.image_width):
            return array
        from PIL import Image

        return self._resized(Image.fromarray(np.ascontiguousarray(array)))

    def _resized(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        from PIL import Image

        size = self.spec.image_width, self.spec.image_height
        # The graph does the same arithmetic: rows, then columns. So does Pillow, but since release 12
        # for pictures over 100 times as high as wide, which are therefore resized in two steps here.
        if image.height > 100 * image.width:
            image = image.resize((size[0], image.height), Image.Resampling.BILINEAR)
        return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))


def _is_pil(source: Any) -> bool:
    # Without importing Pillow: an image can only come from a module that is there already.
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(source).__mro__)


def _checked(image: Image.Image) -> Image.Image:
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise InvalidInput(f"Expected image to be a still image. Received: an animated {image.format} (copy one frame)")
    if 0 in image.size:
        raise InvalidInput(f"Expected image to have pixels. Received: a PIL image of size {image.size}")
    _check_pixels(image.height, image.width)
    try:
        image.load()
    except Exception as error:  # see Preprocessor.encoded
        raise InvalidInput(f"Expected image to be a whole {image.format}. Received: {error}") from error
    return image


def _check_array(array: npt.NDArray[Any]) -> None:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InvalidInput(
            "Expected image to be a uint8 array of shape (height, width, 3), RGB, 0-255."
            f" Received: {array.dtype} array of shape {array.shape}"
        )
    _check_pixels(*array.shape[:2])


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise InvalidInput(f"Expected image of at most {MAX_PIXELS} pixels. Received: {width}x{height}")


def _upright(image: Image.Image) -> Image.Image:
    orientation = 1
    if image.format != "PNG":
        with contextlib.suppress(Exception):  # Pillow has many: as of a JPEG, what can't be read turns nothing
            orientation = image.getexif().get(0x0112, 1)
    return _turned(_rgb(image), orientation if orientation in range(1, 9) else 1)


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    if orientation == 1:
        return image
    from PIL.Image import Transpose

    return image.transpose(
        {
            2: Transpose.FLIP_LEFT_RIGHT,
            3: Transpose.ROTATE_180,
            4: Transpose.FLIP_TOP_BOTTOM,
            5: Transpose.TRANSPOSE,
            6: Transpose.ROTATE_270,
            7: Transpose.TRANSVERSE,
            8: Transpose.ROTATE_90,
        }[orientation]
    )


def _rgb(image: Image.Image) -> Image.Image:
    """RGB as TensorFlow's decoders make it."""
    from PIL import Image

    if image.mode == "RGB":
        return image
    if image.mode == "CMYK":
        inks = 255 - np.asarray(image).astype(np.uint16)
        return Image.fromarray((inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8))
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise InvalidInput(f"Expected image of 8 bits a channel. Received: a PIL image of mode {image.mode}")
    return image.convert("RGB")
