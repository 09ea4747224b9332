"""The settings for your own model, by options or in a TOML file. Pure data, without TensorFlow."""

import argparse
import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from duoserve.arguments import count, positive
from duoserve.settings import SettingsFileError, checked, read_toml
from export.errors import ExportError
from export.options import colour, names

Scale: TypeAlias = Literal["0..255", "0..1", "tf", "torch", "caffe"]
SCALES: Final[tuple[str, ...]] = get_args(Scale)
"""How a model takes its pixels. The last three are the modes of `keras.applications`: `tf` is -1 to 1,
`torch` is 0 to 1 less ImageNet's mean, over its deviation, `caffe` is BGR from 0 to 255 less ImageNet's mean."""

PROBABILITIES: Final = "probabilities"
LOGITS: Final = "logits"
Output: TypeAlias = Literal["probabilities", "logits"]
"""What a model's output holds."""

Kind: TypeAlias = Literal["class", "tags", "yes-no", "scores"]
"""Keys of `duoserve.contract.ANSWERS`."""

_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def _argument(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, received {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _size(text: str) -> tuple[int, int]:
    height, separator, width = text.partition("x")
    return positive(height), positive(width if separator else height)


def _option(option: Callable[[str], Any], metavar: str, said: str, default: Any = None, **metadata: Any) -> Any:
    """A field that is an option of the command line, whose text `option` reads, and an entry of the settings file.

    The default ... means none; `metadata` is for `duoserve.settings`.
    """
    metadata["option"] = (option, metavar, said)
    if default is ...:
        return dataclasses.field(metadata=metadata)
    if default == {}:
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _choice(kind: Any, said: str) -> Any:
    """An option that takes one of the texts of a Literal."""
    choices = get_args(kind)

    def read(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(choices)}, received {text!r}")
        return text

    return _option(read, "|".join(choices), said)


@dataclasses.dataclass(frozen=True, slots=True)
class OwnModel:
    """A Keras model that was not made by `export.training.train`, with its settings.

    The text of each option explains its field; what is None is detected from the model where possible.

    Attributes:
        model: A file (`.keras`, or a whole model in `.h5`), or "module:function" that returns a model.
        custom_objects: Modules to import first; their layers, models and functions are known to the file.
        tokenizer: See `export.own.tokenizers.read_file`.
        labels: For yes or no, "no" comes first; a score may have a unit, as in "price [EUR]".
        image_size: Height and width in pixels.
        folder: The folder of modules, beside the current folder.
    """

    model: str = _option(str, "FILE|MODULE:FUNCTION", "a .keras file, or a function that returns the model", ...)
    arguments: Mapping[str, Any] = _option(_argument, "NAME=VALUE", "argument of it; VALUE is JSON or a word", {})
    weights: Path | None = _option(Path, "FILE", "load these weights into the model")
    custom_objects: tuple[str, ...] = _option(
        str, "MODULE", "module with the file's custom layers", (), read=lambda text: (text,)
    )
    tokenizer: Path | None = _option(Path, "FILE", "a SentencePiece model, tokenizer.json, vocab.txt or vocab.json")
    pad_id: int | None = _option(count, "N", "id that pads tokens after the text; default: the tokenizer's", least=0)
    answer: Kind | None = _choice(Kind, "kind of answer; default: detected from samples and output")
    labels: Path | None = _option(
        Path, "FILE", "a class (tag, score) a line, or JSON, in the order of the output's columns"
    )
    samples: Path | None = _option(Path, "FOLDER", "folder with manifest.csv, as for training, of held-out rows")
    image_input: str | None = _option(str, "NAME", "default: the input of shape (batch, height, width, 3)")
    text_input: str | None = _option(str, "NAME", "default: the input of shape (batch, length)")
    output: str | None = _option(str, "NAME", "output with the answer; default: the only one")
    output_is: Output | None = _choice(Output, "logits get a softmax or sigmoid; default: from the last layer")
    image_scale: Scale | None = _choice(Scale, "how the model takes pixels; default: 0..255 if its layers scale them")
    image_size: tuple[int, int] | None = _option(_size, "HxW", "default: the model's", read=_size)
    background: tuple[int, int, int] | None = _option(
        colour, "R,G,B", "colour under transparent pixels; default: 255,255,255, white", read=colour
    )
    token_length: int | None = _option(positive, "N", "default: the model's")
    optional: tuple[str, ...] = _option(
        names, "image,text", "inputs that may be missing, if the model was trained for it", (), read=names
    )
    embed: str | None = _option(str, "LAYER", "layer with the joined features, for `embed`; default: none")
    folder: Path = Path()


def is_function(model: str) -> bool:
    """Whether `model` is "module:function"; a file of that name takes precedence."""
    return bool(_FUNCTION.fullmatch(model)) and not Path(model).exists()


def _options() -> dict[str, tuple[Callable[[str], Any], str, str]]:
    return {field.name: field.metadata["option"] for field in dataclasses.fields(OwnModel) if field.metadata}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m export export` that describe your own model."""
    group = parser.add_argument_group("your own Keras model, instead of RUN (see export/OWN_MODEL.md)")
    group.add_argument("--settings", type=Path, metavar="TOML", help="the options below in a file, '_' for '-'")
    for name, (read, metavar, said) in _options().items():
        flag = "--argument" if name == "arguments" else f"--{name.replace('_', '-')}"
        if name in ("arguments", "custom_objects"):
            said += "; may be repeated"
            group.add_argument(flag, dest=name, type=read, action="append", metavar=metavar, help=said)
        else:
            group.add_argument(flag, type=read, metavar=metavar, help=said)


def own_model(options: argparse.Namespace) -> OwnModel | None:
    """The model that the options and the settings file describe; None if they describe none.

    Raises:
        ExportError: The settings file is invalid, or there are options for a model but no model.
    """
    given = {name: value for name in _options() if (value := getattr(options, name)) is not None}
    if options.settings is None and not given:
        return None
    content = {**(read_settings(options.settings) if options.settings is not None else {}), **given}
    if "model" not in content:
        raise ExportError(f"Expected a model, by --model or in the settings. Received: only {', '.join(content)}")
    if "custom_objects" in given:
        content["custom_objects"] = tuple(given["custom_objects"])
    if "arguments" in given:
        content["arguments"] = dict(given["arguments"])
    return OwnModel(**content)


def read_settings(path: Path) -> dict[str, Any]:
    """The entries of a settings file, checked: fields of `OwnModel`. Paths are relative to the file.

    Raises:
        ExportError: It can't be read, or has unknown or invalid entries; it lists all of them.
    """
    try:
        content = read_toml(path)
    except SettingsFileError as error:
        raise ExportError(str(error)) from error
    try:
        values = checked(OwnModel, content, path.parent)
    except SettingsFileError as error:
        raise ExportError(f"{path}: {error}") from error
    if "model" in values and not is_function(values["model"]):
        values["model"] = str(path.parent / values["model"])
    return {"folder": path.parent, **values}
