"""Finds the image and the text among a model's inputs, whatever their names and order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import keras

from export.own.calling import Input, find_calling, shown
from export.own.derived import DERIVED, MASK, Derived, find_derived
from export.own.graph import Place, functional
from export.own.reasons import reason
from export.own.scaling import FLOATS, IMAGE_DTYPES, find_scaling
from export.own.settings import SCALES, OwnModel
from export.own.tokenizers import Tokenizer

__all__ = ["Inputs", "find_inputs"]

_TOKEN_DTYPES: Final = ("int32", "uint32", "int64", "float32", "float64")
"""Dtypes that hold any token id."""

_EXACT: Final = {"float16": 2048, "bfloat16": 256}
"""The largest number up to which half precision holds every whole number."""


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """How an image and a text go into a model.

    Attributes:
        call: Takes symbolic tensors in the order of `names`; returns the outputs.
        names: The model's inputs.
        image: Name of the image's input.
        image_dtype: Its dtype.
        height: In pixels.
        width: In pixels.
        scale: One of SCALES.
        tokens: Name of the token ids' input.
        tokens_dtype: Its dtype.
        token_length: Length of a row.
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

    def check_padding(self, tokenizer: Tokenizer, reasons: list[str]) -> None:
        """Adds a reason if a mask can't distinguish padding from the text."""
        masks = [each.name for each in self.derived if each.kind == MASK]
        if masks and tokenizer.pad_id in tokenizer.around:
            received = f"{tokenizer.pad_id} for both, and the input {masks[0]!r}"
            fix = "give --pad-id N, another id: the model ignores masked tokens"
            reasons.append(reason("a padding id that the tokenizer does not put around texts", received, fix))


def find_inputs(model: keras.Model, own: OwnModel, reasons: list[str]) -> Inputs | None:
    """The inputs, or None with every reason why they do not fit."""
    before = len(reasons)
    calling = find_calling(model, own, reasons)
    if calling is None:
        return None
    found, call = calling
    for one in found:
        _check_batches(one, reasons)
    primary, derived = find_derived(found, own)
    if len(primary) != 2:
        reasons.append(_not_two(found))
        return None
    position = _image(primary, own, reasons)
    if position is None:
        return None
    image, tokens = primary[position], primary[1 - position]
    size = _image_size(image, own, reasons)
    scale = _scale(model, image, own, reasons)
    length = _token_length(tokens, own, reasons)
    _check_exact(model, tokens, reasons)
    if size is None or scale is None or length is None or len(reasons) > before:
        return None
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


def _check_batches(one: Input, reasons: list[str]) -> None:
    if getattr(one.tensor, "ragged", False) or getattr(one.tensor, "sparse", False):
        kind = "ragged" if one.tensor.ragged else "sparse"
        fix = f"build the model with keras.Input(…, {kind}=False) and pad texts to one length"
        reasons.append(reason(f"a dense input {one.name!r}, as requests have them", f"a {kind} one", fix))
    if one.shape and one.shape[0] is not None:
        fix = "build the model with keras.Input(shape=…), without batch_shape or batch_size"
        reasons.append(reason(f"any batch size at the input {one.name!r}", f"only {one.shape[0]}", fix))


def _not_two(found: list[Input]) -> str:
    listed = "; ".join(map(str, found)) or "none"
    fix = "a model with one input can't be served under a contract for two"
    if len(found) > 2:
        fix = (
            "build a model around it that computes the others from the two; masks of padding and segment ids are"
            f" computed here, where they have the shape (batch, length) and a name such as {', '.join(DERIVED)}"
        )
    return reason("two inputs, an image and token ids", f"{len(found)}: {listed}", fix)


def _image(found: list[Input], own: OwnModel, reasons: list[str]) -> int | None:
    """Which of the two inputs is the image."""
    names = [one.name for one in found]
    before = len(reasons)
    for option, name in (("--image-input", own.image_input), ("--text-input", own.text_input)):
        if name is not None and name not in names:
            reasons.append(
                reason(f"{option} to name an input of the model", repr(name), f"they are {', '.join(map(repr, names))}")
            )
    if own.image_input is not None and own.image_input == own.text_input:
        reasons.append(reason("two inputs to be named", f"{own.image_input!r} twice", "name the other one"))
    if len(reasons) > before:
        return None
    if own.image_input is not None:
        return names.index(own.image_input)
    if own.text_input is not None:
        return 1 - names.index(own.text_input)
    ranks = [len(one.shape) if one.shape is not None else 0 for one in found]
    if ranks[0] == ranks[1]:
        fix = f"name them with --image-input and --text-input: {', '.join(map(repr, names))}"
        reasons.append(reason("to identify the image and the text by their shapes", "; ".join(map(str, found)), fix))
        return None
    return ranks.index(max(ranks))


def _image_size(image: Input, own: OwnModel, reasons: list[str]) -> tuple[int, int] | None:
    expected = f"the image's input {image.name!r} to be of shape (batch, height, width, 3)"
    if image.shape is not None and (len(image.shape) != 4 or image.shape[3] not in (3, None)):
        fix = "build the model, or one around it, on RGB images"
        if len(image.shape) == 4 and image.shape[1] == 3:
            fix = "channels go last: keras.config.set_image_data_format('channels_last')"
        reasons.append(reason(expected, shown(image.shape), fix))
        return None
    height, width = image.shape[1:3] if image.shape is not None else (None, None)
    if own.image_size is not None and (height, width) not in ((None, None), own.image_size):
        fix = "leave --image-size out: the model has a fixed size"
        given = f"--image-size {own.image_size[0]}x{own.image_size[1]}"
        reasons.append(reason(f"the image's size, {height}x{width}", given, fix))
        return None
    if own.image_size is not None:
        return own.image_size
    if height is None or width is None:
        fix = "give --image-size HxW, the size that the model was trained on"
        reasons.append(reason("to know the image's height and width", f"{image}", fix))
        return None
    return height, width


def _scale(model: keras.Model, image: Input, own: OwnModel, reasons: list[str]) -> str | None:
    if image.dtype not in (None, *IMAGE_DTYPES):
        fix = "build the model with keras.Input(…, dtype='float32') or 'uint8'"
        reasons.append(reason(f"pixels from 0 to 255 to go into {image.name!r}", f"{image.dtype}", fix))
        return None
    graph = functional(model)
    scaling = find_scaling(Place(graph, image.tensor)) if graph is not None else None
    whole = image.dtype is not None and image.dtype not in FLOATS
    if own.image_scale is None:
        if scaling or whole:
            return SCALES[0]
        reasons.append(
            reason(
                "to know how the model takes its pixels",
                f"{image}, and no layer that scales it",
                f"give --image-scale, as in training: one of {', '.join(SCALES)}",
            )
        )
        return None
    if own.image_scale != SCALES[0] and (scaling or whole):
        why = f"the model's layer {scaling!r}, which scales" if scaling else f"an input of {image.dtype}"
        fix = f"give --image-scale {SCALES[0]}, or leave it out"
        reasons.append(reason("pixels to be scaled once", f"--image-scale {own.image_scale} and {why}", fix))
        return None
    return own.image_scale


def _token_length(tokens: Input, own: OwnModel, reasons: list[str]) -> int | None:
    expected = f"the text's input {tokens.name!r} to be token ids of shape (batch, length)"
    if tokens.dtype == "string":
        fix = "give the part of the model that follows its tokenizer, and a tokenizer with the same ids"
        reasons.append(reason(expected, "texts (string)", fix))
        return None
    if tokens.dtype not in (None, *_TOKEN_DTYPES):
        fix = "build the model with keras.Input(…, dtype='int32')"
        reasons.append(reason(f"token ids to go into {tokens.name!r}", f"{tokens.dtype}", fix))
        return None
    if tokens.shape is not None and len(tokens.shape) != 2:
        fix = "the embedding has to be part of the model"
        reasons.append(reason(expected, shown(tokens.shape), fix))
        return None
    if getattr(tokens.tensor, "ragged", False):  # reported already
        return None
    said = tokens.shape[1] if tokens.shape is not None else None
    if own.token_length is None:
        if said is None:
            fix = "give --token-length N, to which shorter texts are padded and longer ones cut"
            reasons.append(reason("to know the length of a row of tokens", f"{tokens}", fix))
        return said
    if said not in (None, own.token_length):
        fix = "leave --token-length out: the model has a fixed length"
        reasons.append(reason(f"the model's token length, {said}", f"--token-length {own.token_length}", fix))
        return None
    return own.token_length


def _check_exact(model: keras.Model, tokens: Input, reasons: list[str]) -> None:
    """Keras casts a float input to a layer's half precision: id 2049 would silently become 2048."""
    if tokens.dtype not in FLOATS:
        return
    for layer in model._flatten_layers():
        exact = _EXACT.get(layer.compute_dtype)
        if exact is not None and isinstance(layer, keras.layers.Embedding) and layer.input_dim > exact + 1:
            fix = f"build the model with keras.Input(…, dtype='int32', name={tokens.name!r})"
            reasons.append(
                reason(
                    f"token ids that {layer.compute_dtype} does not round, up to {exact}",
                    f"a {tokens.dtype} input {tokens.name!r} and the layer {layer.name!r} of {layer.input_dim} ids",
                    fix,
                )
            )
