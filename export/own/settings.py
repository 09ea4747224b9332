"""What has to be said about a model of your own: by options, or in a TOML file. Pure data, without TensorFlow."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from export.errors import ExportError
from export.options import count, names, positive

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ANSWERS", "SCALES", "OwnModel", "add_arguments", "is_function", "own_model", "read_settings"]

SCALES: Final = ("0..255", "0..1", "tf", "torch", "caffe")
"""How a model takes its pixels. The last three are the modes of `keras.applications`: `tf` is -1 to 1,
`torch` is 0 to 1 less ImageNet's mean, over its deviation, `caffe` is BGR from 0 to 255 less ImageNet's mean."""

ANSWERS: Final = ("probabilities", "logits")
"""What a model's output is."""

_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclasses.dataclass(frozen=True, slots=True)
class OwnModel:
    """A Keras model that was not made by `export.training.train`, and what is known about it.

    What is None is taken from the model, where the model says it.

    Attributes:
        model: A file (`.keras`, or a whole model in `.h5`), or "module:function" that returns a model.
        arguments: Keyword arguments of the function.
        weights: A file for `model.load_weights`.
        custom_objects: Modules to import first; their layers, models and functions are known to the file.
        tokenizer: See `export.own.tokenizer_files.read_file`.
        pad_id: The id that fills a row of tokens after the text; None takes the tokenizer's own.
        labels: A file with a class a line, or JSON; in the order of the output's columns.
        samples: A folder with `manifest.csv`, as for training: held-out pairs, of which some become golden samples.
        image_input: Name of the input that takes the picture.
        text_input: Name of the input that takes the token ids.
        output: Name of the output that has the answer.
        output_is: One of ANSWERS; logits get a softmax.
        image_scale: One of SCALES.
        image_size: Height and width in pixels.
        token_length: Length of a row of tokens.
        optional: Which of "image" and "text" may be missing, because the model was trained for it.
        embed: The layer whose output is what the signature `embed` gives; None: no such signature.
        folder: Where modules are looked for, beside the current folder.
    """

    model: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Path | None = None
    custom_objects: tuple[str, ...] = ()
    tokenizer: Path | None = None
    pad_id: int | None = None
    labels: Path | None = None
    samples: Path | None = None
    image_input: str | None = None
    text_input: str | None = None
    output: str | None = None
    output_is: str | None = None
    image_scale: str | None = None
    image_size: tuple[int, int] | None = None
    token_length: int | None = None
    optional: tuple[str, ...] = ()
    embed: str | None = None
    folder: Path = Path()


def is_function(model: str) -> bool:
    """Whether `model` says "module:function"; a file of that name goes first."""
    return bool(_FUNCTION.fullmatch(model)) and not Path(model).exists()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m export export` that describe a model of your own."""
    group = parser.add_argument_group("a Keras model of your own, instead of RUN (export/OWN_MODEL.md)")
    group.add_argument("--settings", type=Path, metavar="TOML", help="the options below in a file, '_' for '-'")
    for name, (read, metavar, said) in _OPTIONS.items():
        flag = "--argument" if name == "arguments" else f"--{name.replace('_', '-')}"
        if name in _REPEATED:
            said += "; may be repeated"
            group.add_argument(flag, dest=name, type=read, action="append", metavar=metavar, help=said)
        else:
            group.add_argument(flag, type=read, metavar=metavar, help=said)


def own_model(options: argparse.Namespace) -> OwnModel | None:
    """The model that the options and their settings file describe; None where they don't.

    Raises:
        ExportError: The settings file is no use, or there are options about a model and no model.
    """
    given = {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}
    if "arguments" in given:
        given["arguments"] = dict(given["arguments"])
    if options.settings is None and not given:
        return None
    content: dict[str, Any] = {**(read_settings(options.settings) if options.settings is not None else {}), **given}
    if "model" not in content:
        raise ExportError(f"Expected a model, by --model or in the settings. Received: {', '.join(content)}, no model")
    return OwnModel(**{**content, "custom_objects": tuple(content.get("custom_objects", ()))})


def read_settings(path: Path) -> dict[str, Any]:
    """The entries of a settings file, checked: fields of `OwnModel`. Paths are relative to the file.

    Raises:
        ExportError: It can't be read, or has entries that are unknown or wrong: all of them are named.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"Expected {path} to be a readable TOML file. Received: {error}") from error
    values: dict[str, Any] = {"folder": path.parent}
    problems = [f"expected one of {', '.join(_OPTIONS)}, received {name}" for name in content.keys() - _OPTIONS.keys()]
    for name in content.keys() & _OPTIONS.keys():
        try:
            values[name] = _entry(name, content[name], path.parent)
        except (TypeError, argparse.ArgumentTypeError) as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ExportError("\n  - ".join([f"Expected {path} to have good entries only. Received:", *sorted(problems)]))
    return values


def _entry(name: str, value: Any, base: Path) -> Any:
    """A value of the file as the option of that name would read it."""
    read = _OPTIONS[name][0]
    if name == "arguments":
        if not isinstance(value, dict):
            raise TypeError(f"expected a table, received {value!r:.60}")
        return value
    if name in _REPEATED:
        return tuple(read(_entry_text(each)) for each in (value if isinstance(value, list) else [value]))
    if name == "model":
        return value if is_function(_entry_text(value)) else str(base / value)
    if read is Path:
        return base / _entry_text(value)
    if isinstance(value, (bool, float, list, dict)):
        raise TypeError(f"expected a text or an integer, received {value!r:.60}")
    return read(str(value))


def _entry_text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a text, received {value!r:.60}")
    return value


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


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(choices)}, received {text!r}")
        return text

    return read


_REPEATED: Final = ("arguments", "custom_objects")

_OPTIONS: Final[Mapping[str, tuple[Callable[[str], Any], str, str]]] = MappingProxyType(
    {
        "model": (str, "FILE|MODULE:FUNCTION", "a .keras file, or a function that returns the model"),
        "arguments": (_argument, "NAME=VALUE", "for the function; VALUE is JSON or a word"),
        "weights": (Path, "FILE", "load these weights into the model"),
        "custom_objects": (str, "MODULE", "has layers that the file is made of"),
        "tokenizer": (Path, "FILE", "a SentencePiece model, tokenizer.json, vocab.txt or vocab.json"),
        "pad_id": (count, "N", "fills a row of tokens after the text; default: the tokenizer's own"),
        "labels": (Path, "FILE", "a class a line, or JSON, in the order of the output's columns"),
        "samples": (Path, "FOLDER", "has manifest.csv, as for training, with held-out pairs"),
        "image_input": (str, "NAME", "default: the one of shape (batch, height, width, 3)"),
        "text_input": (str, "NAME", "default: the one of shape (batch, length)"),
        "output": (str, "NAME", "default: the only one"),
        "output_is": (_one_of(*ANSWERS), "|".join(ANSWERS), "logits get a softmax; default: as the last layer says"),
        "image_scale": (
            _one_of(*SCALES),
            "|".join(SCALES),
            "what the model takes; default: 0..255 if it scales itself",
        ),
        "image_size": (_size, "HxW", "default: the model's"),
        "token_length": (positive, "N", "default: the model's"),
        "optional": (names, "image,text", "may be missing, one or both: the model was trained for it"),
        "embed": (str, "LAYER", "has the joined features, for the signature `embed`; default: none"),
    }
)
"""By name, a field of `OwnModel`: how its text is read, what stands for it, and the help."""
