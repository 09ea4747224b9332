"""A settings file has the same settings as the options, with paths relative to it; every invalid entry is named."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from export.errors import ExportError
from export.own.settings import OwnModel, add_arguments, own_model, read_settings

WHOLE = """
model = "mine.keras"
custom_objects = ["mine.layers"]
weights = "mine.weights.h5"
tokenizer = "spm.model"
pad_id = 0
labels = "labels.txt"
samples = "held-out"
image_input = "photo"
text_input = "ids"
output = "scores"
output_is = "logits"
image_scale = "caffe"
image_size = "224x192"
token_length = 48
optional = "text"
arguments = { depth = 3, name = "b0" }
"""


def parsed(*arguments: str) -> OwnModel | None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    return own_model(parser.parse_args(arguments))


def test_file_and_options_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(WHOLE)
    from_file = parsed("--settings", str(tmp_path / "mine.toml"))
    paths = {name: str(tmp_path / name) for name in ("mine.keras", "mine.weights.h5", "spm.model", "labels.txt")}
    options = parsed(
        *("--model", paths["mine.keras"], "--weights", paths["mine.weights.h5"], "--tokenizer", paths["spm.model"]),
        *("--pad-id", "0", "--labels", paths["labels.txt"], "--samples", str(tmp_path / "held-out")),
        *("--image-input", "photo", "--text-input", "ids", "--output", "scores", "--output-is", "logits"),
        *("--image-scale", "caffe", "--image-size", "224x192", "--token-length", "48", "--optional", "text"),
        *("--argument", "depth=3", "--argument", "name=b0", "--custom-objects", "mine.layers"),
    )
    assert from_file is not None and options is not None
    assert {**vars_of(from_file), "folder": None} == {**vars_of(options), "folder": None}
    assert from_file.folder == tmp_path


def vars_of(own: OwnModel) -> dict[str, object]:
    return {name: getattr(own, name) for name in own.__slots__}


def test_options_go_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(WHOLE)
    own = parsed("--settings", str(tmp_path / "mine.toml"), "--model", "zoo:build", "--pad-id", "3")
    assert own is not None and (own.model, own.pad_id, own.image_scale) == ("zoo:build", 3, "caffe")


def test_a_function_is_not_read_as_a_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('model = "package.module:build"')
    assert read_settings(tmp_path / "mine.toml")["model"] == "package.module:build"


def test_without_options_there_is_no_model() -> None:
    assert parsed() is None


def test_options_without_a_model_are_refused() -> None:
    with pytest.raises(ExportError, match=r"Expected a model, by --model or in the settings\. Received: only pad_id"):
        parsed("--pad-id", "3")


def test_every_wrong_entry_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        "model = 3\npad_id = -1\ntoken_length = true\nimage_scale = '0..2'\nimagesize = 5\narguments = 1\n"
        "image_size = '5x'\noptional = 'sound'\n"
    )
    with pytest.raises(ExportError) as caught:
        read_settings(tmp_path / "mine.toml")
    said = str(caught.value)
    for one in (
        "Expected model to be a string, not empty. Received: 3",
        "Expected pad_id to be an integer of at least 0. Received: -1",
        "Expected token_length to be an integer of at least 1. Received: True",
        "Expected image_scale to be one of 0..255, 0..1, tf, torch, caffe. Received: '0..2'",
        f"{tmp_path / 'mine.toml'}: Expected valid settings.",
        "Expected only entries among answer, ",
        "Received: imagesize",
        "Expected arguments to be a table. Received: 1",
        "image_size: expected a number of at least 1, received ''",
        "optional: expected image, text or image,text, received 'sound'",
    ):
        assert one in said


@pytest.mark.parametrize("text", ["model = ", "\xff"])
def test_invalid_toml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ExportError, match="to be a readable TOML file"):
        read_settings(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    "arguments", [["--image-size", "0x3"], ["--pad-id", "-1"], ["--argument", "x"], ["--image-scale", "0..2"]]
)
def test_wrong_options_are_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(argparse.ArgumentError, match="expected"):
        parsed("--model", "m:f", *arguments)
