"""A model that can't be served is refused with every reason, each with what to do, before anything is written."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import pytest

from export.own.prepare import Prepared
from export.own.reasons import MisfitError
from tests.own import zoo


def findings(prepared: Callable[..., Prepared], model: str | Path, **changes: object) -> str:
    with pytest.raises(MisfitError) as caught:
        prepared(model, **changes)
    for finding in caught.value.findings:
        assert "Expected" in finding and "Received" in finding and "To fix: " in finding
        assert finding in str(caught.value)
    return "\n".join(caught.value.findings)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("one_input", "Expected two inputs, an image and token ids. Received: 1: 'photo', uint8 array"),
        (
            "three_inputs",
            "masks of padding and segment ids are computed here, where they have the shape (batch, length)",
        ),
        ("two_pictures", "name them with --image-input and --text-input: 'photo', 'other'"),
        ("ragged", "Expected a dense input 'words', as requests have them. Received: a ragged one"),
        ("fixed_batch", "Expected any batch size at the input 'photo'. Received: only 4"),
        ("four_classes", "to be of shape (batch, 3), a column for each label. Received: shape (batch, 4) and 3 labels"),
        ("one_probability", "Received: shape (batch, 1), one column. To fix: give --answer yes-no and two labels"),
        (
            "several_at_once",
            "Received: a sigmoid for each label. To fix: give --answer tags",
        ),
        ("a_sequence", "Received: shape (batch, 7, 3). To fix: pool it over the sequence"),
        ("two_outputs_in_a_list", "'mood' of shape (batch, 3); 'classes' of shape (batch, 3). To fix: give --output"),
        ("bare", "give --image-scale, as in training: one of 0..255, 0..1, tf, torch, caffe"),
        ("any_size", "give --image-size HxW, the size that the model was trained on"),
        ("any_size", "give --token-length N, to which shorter texts are padded and longer ones cut"),
        ("never_called", "takes one argument, 'inputs', and that was never called"),
        (
            "few_ids",
            "embedding of 282 ids, as the tokenizer has. Received: one of 100 ids. To fix: give the tokenizer that",
        ),
        ("unlike_probabilities", "and no softmax in the last layer. To fix: give --output-is logits"),
        ("no_words_no_answer", "Received: NaN or infinity for a text without tokens"),
        ("rounded_ids", "float16 does not round, up to 2048"),
        ("fails", "Received: RuntimeError: no GPU"),
        ("not_a_model", "Expected a keras.Model. Received: dict"),
        ("no_such_function", "Expected a function no_such_function in tests.own.zoo"),
    ],
)
def test_a_misfit_is_reported_with_its_fix(prepared: Callable[..., Prepared], model: str, said: str) -> None:
    assert said in findings(prepared, model)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("leaky", "Expected a row's answer not to depend on the other rows"),
        ("dicing", "Expected the same answer to the same input"),
    ],
)
def test_misfits_that_only_running_shows_are_found(prepared: Callable[..., Prepared], model: str, said: str) -> None:
    assert said in findings(prepared, model, image_scale="0..255")


def test_every_reason_is_in_the_list_not_the_first_only(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("red\n\nred\n")
    said = findings(
        prepared,
        "grey_channels_first_and_texts",
        labels=tmp_path / "labels.txt",
        tokenizer=tmp_path / "none.model",
        samples=None,
    )
    for one in (
        "none.model",
        "none at number 2",
        "red more than once",
        "--samples to be a folder with held-out rows, images and manifest.csv of image,text,label. Received: none",
        "shape (batch, 20, 24, 1)",
        "no layer that scales it",
        "'words' to be token ids of shape (batch, length). Received: texts (string)",
        "Expected one output with the answer. Received: 2",
    ):
        assert one in said
    assert len(said.splitlines()) == 8


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("plain", {"image_size": (32, 32)}, "Expected the image's size, 20x24. Received: --image-size 32x32"),
        ("plain", {"token_length": 9}, "Expected the model's token length, 7. Received: --token-length 9"),
        ("plain", {"image_scale": "tf"}, "--image-scale tf and the model's layer 'rescaling"),
        ("plain", {"output_is": "logits"}, "rows that are probabilities already"),
        ("plain", {"image_input": "picture"}, "--image-input to name an input of the model. Received: 'picture'"),
        ("plain", {"image_input": "words"}, "'words' to be of shape (batch, height, width, 3)"),
        ("plain", {"image_input": "photo", "text_input": "photo"}, "Received: 'photo' twice"),
        ("plain", {"output": "answer"}, "they are 'classes' of shape (batch, 3)"),
        ("plain", {"optional": ("sound",)}, "Expected optional to be a tuple"),
        ("swapped_logits", {"output_is": "probabilities"}, "rows that add up to"),
        ("few_ids", {"pad_id": 400}, "of 282 ids, as the tokenizer has, and the padding id 400. Received: one of 100"),
        ("plain", {"pad_id": 320}, "Expected an embedding with the padding id 320. Received: 320 ids, from 0"),
        ("plain", {"arguments": {"depth": 3}}, "Received: TypeError"),
        ("plain", {"custom_objects": ("no.such",)}, "Expected the module no.such to import"),
        ("plain", {"weights": Path("no.weights.h5")}, "Expected --weights to be a file"),
    ],
)
def test_options_are_checked_against_the_model(
    prepared: Callable[..., Prepared], model: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(MisfitError) as caught:
        prepared(model, **options)
    assert said in str(caught.value)


def test_files_that_are_not_models_get_their_own_error(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    model = zoo.plain()
    model.save_weights(tmp_path / "plain.weights.h5")
    model.export(tmp_path / "saved", verbose=False)
    (tmp_path / "cut.keras").write_bytes(b"PK\3\4")
    image, tokens = zoo.photo(), zoo.words()
    seen = keras.layers.Lambda(lambda pixels: pixels / 255, output_shape=(20, 24, 3))(image)
    keras.Model([image, tokens], zoo.joined(zoo.colours(seen), zoo.reading(tokens))).save(tmp_path / "lambda.keras")
    zoo.with_unregistered_layer().save(tmp_path / "unregistered.keras")
    with h5py.File(tmp_path / "old.h5", "w") as file:  # what tf_keras writes, of which Keras 3 reads the weights alone
        file.attrs["keras_version"] = b"2.15.0"
        file.attrs["model_config"] = json.dumps({"class_name": "TFOpLambda", "config": {}})
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.20.1"}))
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {}}))
        archive.writestr("model.weights.h5", b"")
    for name, said in (
        ("plain.weights.h5", "give it as --weights"),
        ("saved", "a SavedModel has no Keras layers"),
        ("old.h5", f"give --model module:function and --weights {tmp_path / 'old.h5'}"),
        ("old.keras", "Keras 2.20.1 wrote it, and 3."),
        ("cut.keras", "to load"),
        ("none.keras", "the file does not exist"),
        ("lambda.keras", "a Lambda layer is code, and code in a file is not run"),
        ("unregistered.keras", "name the module that defines it with --custom-objects"),
    ):
        assert said in findings(prepared, tmp_path / name), name


def test_weights_of_another_model_are_refused(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    zoo.four_classes().save_weights(tmp_path / "other.weights.h5")
    assert "to fit the model" in findings(prepared, "plain", weights=tmp_path / "other.weights.h5")


def test_a_tokenizer_without_padding_needs_one(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    import sentencepiece

    with (tmp_path / "nopad.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a red box", "a green tile"] * 20),
            model_writer=file,
            vocab_size=24,
            hard_vocab_limit=False,
            minloglevel=4,
        )
    assert "give --pad-id N" in findings(prepared, "plain", tokenizer=tmp_path / "nopad.model")
    spec = prepared("plain", tokenizer=tmp_path / "nopad.model", pad_id=0).trained.spec
    assert spec.pad_id == 0
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "JSON that is neither a tokenizer.json nor a vocab.json" in findings(
        prepared, "plain", tokenizer=tmp_path / "tokenizer.json"
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("labels.json", "[1, 2, 3]", "expected a list of names"),
        ("labels.json", '{"red": 0, "green": 2, "blue": 3}', "expected the columns 0 to 2"),
        ("labels.json", "{", "Expecting property name"),
        (
            "labels.txt",
            "red\ngreen\npurple\n",
            "Received: line 43: label 'blue'; line 49: label 'blue'; line 55: ",
        ),
    ],
)
def test_invalid_labels_are_refused(
    prepared: Callable[..., Prepared], tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MisfitError) as caught:
        prepared("plain", labels=tmp_path / name)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "content", [["red", "green", "blue"], {"red": 0, "blue": 2, "green": 1}, {"2": "blue", "0": "red", "1": "green"}]
)
def test_labels_as_json(prepared: Callable[..., Prepared], tmp_path: Path, content: object) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert prepared("plain", labels=tmp_path / "labels.json").trained.spec.labels == ("red", "green", "blue")


def test_bad_samples_are_named_by_line(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("image,text,label\nnone.png,a red box,red\nother.png,,red\n")
    said = findings(prepared, "plain", samples=tmp_path)
    assert "line 2: image 'none.png' does not exist; line 3: text is empty" in said


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize(
    "manifest",
    [
        "image,text,label\nnone.png,a red box,red|blue\n",
        "image,text,label,split\nnone.png,a red box,red,train\n",
        "image,text,label,split\nnone.png,a red box,red,val\n",
        "image,text,price\nnone.png,a red box,1.5\n",
        None,
    ],
)
def test_nothing_is_said_of_an_answer_whose_kind_the_samples_do_not_show(
    prepared: Callable[..., Prepared], tmp_path: Path, manifest: str | None, columns: int
) -> None:
    if manifest is not None:
        (tmp_path / "manifest.csv").write_text(manifest)
    (tmp_path / "labels.txt").write_text("\n".join(["red", "blue", "green"][: max(columns, 2)]))
    given = {"columns": columns, "activation": "sigmoid"}
    said = findings(prepared, "answering", samples=tmp_path, labels=tmp_path / "labels.txt", arguments=given)
    assert len(said.splitlines()) == 1 and "--samples to be a folder" in said


def test_an_unreadable_manifest_hides_no_wrong_shape(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    assert "Received: shape (batch, 4) and 3 labels" in findings(prepared, "four_classes", samples=tmp_path)
    said = findings(prepared, "several_at_once", samples=tmp_path, answer="class")
    assert "a sigmoid for each label" in said, "the kind is known"


def test_a_tokenizer_that_pads_on_the_left_is_refused(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    record = {"model": {"type": "BPE"}, "padding": {"direction": "Left"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(record))
    said = findings(prepared, "plain", tokenizer=tmp_path / "tokenizer.json")
    assert "Received: padding on the left. To fix: train the model with padding on the right" in said
