"""Finds the image and the text among a model's inputs, whatever their names and order, and the inputs that follow from
the text: masks of padding, and segment ids."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Final

import keras

from export.own.calling import Input, find_calling, shown
from export.own.graph import Place, functional
from export.own.reasons import Reasons, misfit
from export.own.scaling import FLOATS, IMAGE_DTYPES, find_scaling
from export.own.settings import SCALES, OwnModel
from export.own.tokenizers import Tokenizer

_TOKEN_DTYPES: Final = ("int32", "uint32", "int64", "float32", "float64")
"""Dtypes that hold any token id."""

_EXACT: Final = {"float16": 2048, "bfloat16": 256}
"""The largest number up to which half precision holds every whole number."""


_MASK: Final = "mask"
_SEGMENTS: Final = "segments"

_DERIVED: Final = {
    "padding_mask": _MASK,
    "attention_mask": _MASK,
    "input_mask": _MASK,
    "segment_ids": _SEGMENTS,
    "token_type_ids": _SEGMENTS,
    "input_type_ids": _SEGMENTS,
}
"""The names of these inputs in KerasHub, Hugging Face and TF Hub, whole or as the end of a longer name."""

_NAME: Final = re.compile(rf"(?:.*[^a-z])?({'|'.join(_DERIVED)})(?:_\d+)?")


@dataclasses.dataclass(frozen=True, slots=True)
class Derived:
    """An input that follows from the token ids; `kind` is "mask" or "segments"."""

    name: str
    kind: str
    dtype: str

    def of(self, tokens: Any, pad_id: int) -> Any:
        """The input for rows of token ids."""
        found = keras.ops.not_equal(tokens, pad_id) if self.kind == _MASK else keras.ops.zeros_like(tokens)
        return keras.ops.cast(found, self.dtype)

    def said(self, pad_id: int) -> str:
        """How it is computed, as text."""
        return f"1 where the tokens are not {pad_id}" if self.kind == _MASK else "0: each row is one text"


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """How an image and a text go into a model.

    Attributes:
        call: Takes symbolic tensors in the order of `names`; returns the outputs.
        names: The model's inputs.
        image: Name of the image's input; with its dtype, height and width in pixels, and one of SCALES.
        tokens: Name of the token ids' input; with its dtype, and the length of a row.
        derived: The other inputs, which follow from the tokens.
    """

    call: Callable[..., Any]
    names: tuple[str, ...]
    image: str
    image_dtype: str
    height: int
    width: int
    scale: str
    tokens: str
    tokens_dtype: str
    token_length: int
    derived: tuple[Derived, ...] = ()

    def given(self, pixels: Any, tokens: Any, pad_id: int) -> dict[str, Any]:
        """The value of each input, in the order of `names`.

        Args:
            pixels: The image, scaled as the model takes it.
            tokens: int32 token ids.
            pad_id: The id of padding.
        """
        of = {each.name: each.of(tokens, pad_id) for each in self.derived}
        of |= {self.image: pixels, self.tokens: keras.ops.cast(tokens, self.tokens_dtype)}
        return {name: of[name] for name in self.names}

    def check_padding(self, tokenizer: Tokenizer) -> None:
        """Raises MisfitError if a mask can't distinguish padding from the text."""
        masks = [each.name for each in self.derived if each.kind == _MASK]
        if masks and tokenizer.pad_id in tokenizer.around:
            received = f"{tokenizer.pad_id} for both, and the input {masks[0]!r}"
            fix = "give --pad-id N, another id: the model ignores masked tokens"
            raise misfit("a padding id that the tokenizer does not put around texts", received, fix)


def find_inputs(model: keras.Model, own: OwnModel) -> Inputs:
    """The inputs. Raises MisfitError with every reason why they do not fit."""
    found, call = find_calling(model, own)
    reasons = Reasons()
    for one in found:
        _check_dense(one, reasons)
    primary, derived = _find_derived(found, own)
    position = reasons.attempt(_image, found, primary, own)
    if position is not None:
        image, tokens = primary[position], primary[1 - position]
        size = reasons.attempt(_image_size, image, own)
        scale = reasons.attempt(_scale, model, image, own)
        length = reasons.attempt(_token_length, tokens, own)
        reasons.attempt(_check_exact, model, tokens)
    reasons.refuse()
    assert size is not None and scale is not None and length is not None
    return Inputs(
        call=call,
        names=tuple(one.name for one in found),
        image=image.name,
        image_dtype=image.dtype or "float32",
        height=size[0],
        width=size[1],
        scale=scale,
        tokens=tokens.name,
        tokens_dtype=tokens.dtype or "int32",
        token_length=length,
        derived=derived,
    )


def _find_derived(found: list[Input], own: OwnModel) -> tuple[list[Input], tuple[Derived, ...]]:
    """The inputs to be given, and those that follow from the tokens, by their names and shapes."""
    primary, derived = [], []
    for one in found:
        name = _NAME.fullmatch(one.name)
        rows = one.shape is None or len(one.shape) == 2
        if name and rows and one.name not in (own.image_input, own.text_input):
            derived.append(Derived(one.name, _DERIVED[name[1]], one.dtype or "int32"))
        else:
            primary.append(one)
    return primary, tuple(derived)


def _is_ragged(one: Input) -> bool:
    return bool(getattr(one.tensor, "ragged", False))


def _check_dense(one: Input, reasons: Reasons) -> None:
    if _is_ragged(one) or getattr(one.tensor, "sparse", False):
        kind = "ragged" if _is_ragged(one) else "sparse"
        fix = f"build the model with keras.Input(…, {kind}=False) and pad texts to one length"
        reasons.add(f"a dense input {one.name!r}, as requests have them", f"a {kind} one", fix)
    if one.shape and one.shape[0] is not None:
        fix = "build the model with keras.Input(shape=…), without batch_shape or batch_size"
        reasons.add(f"any batch size at the input {one.name!r}", f"only {one.shape[0]}", fix)


def _image(found: list[Input], primary: list[Input], own: OwnModel) -> int:
    """Which of the two primary inputs is the image."""
    if len(primary) != 2:
        fix = "a model with one input can't be served under a contract for two"
        if len(found) > 2:
            fix = (
                "build a model around it that computes the others from the two; masks of padding and segment ids are"
                f" computed here, where they have the shape (batch, length) and a name such as {', '.join(_DERIVED)}"
            )
        received = f"{len(found)}: {_listed(found) or 'none'}"
        raise misfit("two inputs, an image and token ids", received, fix)
    names = [one.name for one in primary]
    known = ", ".join(map(repr, names))
    reasons = Reasons()
    for option, name in (("--image-input", own.image_input), ("--text-input", own.text_input)):
        if name is not None and name not in names:
            reasons.add(f"{option} to name an input of the model", repr(name), f"they are {known}")
    reasons.refuse()
    if own.image_input is not None and own.image_input == own.text_input:
        raise misfit("two inputs to be named", f"{own.image_input!r} twice", "name the other one")
    if own.image_input is not None:
        return names.index(own.image_input)
    if own.text_input is not None:
        return 1 - names.index(own.text_input)
    ranks = [len(one.shape) if one.shape is not None else 0 for one in primary]
    if ranks[0] == ranks[1]:
        fix = f"name them with --image-input and --text-input: {known}"
        raise misfit("to identify the image and the text by their shapes", _listed(primary), fix)
    return ranks.index(max(ranks))


def _listed(found: list[Input]) -> str:
    return "; ".join(map(str, found))


def _image_size(image: Input, own: OwnModel) -> tuple[int, int]:
    expected = f"the image's input {image.name!r} to be of shape (batch, height, width, 3)"
    if image.shape is not None and (len(image.shape) != 4 or image.shape[3] not in (3, None)):
        fix = "build the model, or one around it, on RGB images"
        if len(image.shape) == 4 and image.shape[1] == 3:
            fix = "channels go last: keras.config.set_image_data_format('channels_last')"
        raise misfit(expected, shown(image.shape), fix)
    height, width = image.shape[1:3] if image.shape is not None else (None, None)
    if own.image_size is not None:
        if (height, width) not in ((None, None), own.image_size):
            fix = "leave --image-size out: the model has a fixed size"
            given = f"--image-size {own.image_size[0]}x{own.image_size[1]}"
            raise misfit(f"the image's size, {height}x{width}", given, fix)
        return own.image_size
    if height is None or width is None:
        fix = "give --image-size HxW, the size that the model was trained on"
        raise misfit("to know the image's height and width", f"{image}", fix)
    return height, width


def _scale(model: keras.Model, image: Input, own: OwnModel) -> str:
    if image.dtype not in (None, *IMAGE_DTYPES):
        fix = "build the model with keras.Input(…, dtype='float32') or 'uint8'"
        raise misfit(f"pixels from 0 to 255 to go into {image.name!r}", f"{image.dtype}", fix)
    graph = functional(model)
    scaling = find_scaling(Place(graph, image.tensor)) if graph is not None else None
    fixed = scaling or (image.dtype is not None and image.dtype not in FLOATS)
    if own.image_scale is None and not fixed:
        fix = f"give --image-scale, as in training: one of {', '.join(SCALES)}"
        raise misfit("to know how the model takes its pixels", f"{image}, and no layer that scales it", fix)
    if own.image_scale not in (None, SCALES[0]) and fixed:
        why = f"the model's layer {scaling!r}, which scales" if scaling else f"an input of {image.dtype}"
        fix = f"give --image-scale {SCALES[0]}, or leave it out"
        raise misfit("pixels to be scaled once", f"--image-scale {own.image_scale} and {why}", fix)
    return own.image_scale or SCALES[0]


def _token_length(tokens: Input, own: OwnModel) -> int:
    expected = f"the text's input {tokens.name!r} to be token ids of shape (batch, length)"
    if tokens.dtype == "string":
        fix = "give the part of the model that follows its tokenizer, and a tokenizer with the same ids"
        raise misfit(expected, "texts (string)", fix)
    if tokens.dtype not in (None, *_TOKEN_DTYPES):
        fix = "build the model with keras.Input(…, dtype='int32')"
        raise misfit(f"token ids to go into {tokens.name!r}", f"{tokens.dtype}", fix)
    if tokens.shape is not None and len(tokens.shape) != 2:
        raise misfit(expected, shown(tokens.shape), "the embedding has to be part of the model")
    length = tokens.shape[1] if tokens.shape is not None else None
    if own.token_length is not None and length not in (None, own.token_length):
        fix = "leave --token-length out: the model has a fixed length"
        raise misfit(f"the model's token length, {length}", f"--token-length {own.token_length}", fix)
    found = own.token_length or length
    if found is None and not _is_ragged(tokens):  # which is reported already
        fix = "give --token-length N, to which shorter texts are padded and longer ones cut"
        raise misfit("to know the length of a row of tokens", f"{tokens}", fix)
    return found or 0


def _check_exact(model: keras.Model, tokens: Input) -> None:
    """Keras casts a float input to a layer's half precision: id 2049 would silently become 2048."""
    for layer in model._flatten_layers() if tokens.dtype in FLOATS else ():
        exact = _EXACT.get(layer.compute_dtype)
        if exact is not None and isinstance(layer, keras.layers.Embedding) and layer.input_dim > exact + 1:
            raise misfit(
                f"token ids that {layer.compute_dtype} does not round, up to {exact}",
                f"a {tokens.dtype} input {tokens.name!r} and the layer {layer.name!r} of {layer.input_dim} ids",
                f"build the model with keras.Input(…, dtype='int32', name={tokens.name!r})",
            )
