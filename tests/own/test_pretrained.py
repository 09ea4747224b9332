"""Common text encoders with their own tokenizers: from a file to an answer over the wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import pytest
import tokenizers
from keras import layers

from duoserve import Client, InvalidInput, PreprocessingSpec, Preprocessor, UnsupportedModel
from duoserve.cli import main as duoserve
from export.cli import main
from export.own.prepare import prepare
from export.own.reasons import MisfitError
from export.own.settings import OwnModel
from export.own.tokenizers import read_file
from serving.local.testing import LocalServer
from tests.own import zoo
from tests.training.conftest import COLOURS, SHAPES

TEXTS = [f"A {colour} {shape}, naïve" for colour in COLOURS for shape in SHAPES]
LENGTH = 10


@pytest.fixture(scope="module")
def files(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each way in which tokenizers lie about, as their trainers write them."""
    root = tmp_path_factory.mktemp("tokenizers")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({*"".join(TEXTS).lower()} - {*" ï"})
    pieces = [*special, *words, *(f"##{each}" for each in words), "red", "##ed", "square", "naive"]
    (root / "bert").mkdir()
    (root / "bert" / "vocab.txt").write_text("\n".join(dict.fromkeys(pieces)) + "\n")
    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator(TEXTS, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    (root / "roberta").mkdir()
    bpe.save_model(str(root / "roberta"))
    (root / "gpt2").mkdir()
    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator(TEXTS, vocab_size=300, special_tokens=["<|endoftext|>"])
    bpe.save_model(str(root / "gpt2"))
    # CLIP's: every byte, every byte that ends a word, what was merged of them, and the two marks.
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("r", "e"),
        ("re", "d</w>"),
        ("s", "q"),
        ("Ã", "©"),
        ("Ã", "¯"),
        ("b", "l"),
        ("bl", "u"),
        ("blu", "e</w>"),
    ]
    pieces = [
        *alphabet,
        *(f"{each}</w>" for each in alphabet),
        *map("".join, merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (root / "clip").mkdir()
    (root / "clip" / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (root / "clip" / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]))
    unigram = tokenizers.SentencePieceUnigramTokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    unigram.train_from_iterator(TEXTS, vocab_size=60, special_tokens=special, unk_token="<unk>")
    unigram.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    (root / "xlm").mkdir()
    unigram.save(str(root / "xlm" / "tokenizer.json"))
    return root


def build(backbone: str) -> keras.Model:
    """A text backbone of KerasHub with random weights beside a few convolutions."""
    options = {"vocabulary_size": 400, "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
    keras.utils.set_random_seed(3)
    image = zoo.photo()
    if backbone == "clip":
        encoder = keras_hub.models.CLIPTextEncoder(600, 16, 16, 1, 2, 32, max_sequence_length=LENGTH)
        inputs = {"token_ids": keras.Input((LENGTH,), dtype="int32", name="token_ids")}
        read = encoder(inputs)
    else:
        kind = {"bert": keras_hub.models.BertBackbone, "distilbert": keras_hub.models.DistilBertBackbone}[backbone]
        encoder = kind(**options, max_sequence_length=LENGTH)
        inputs = {name: keras.Input((LENGTH,), dtype="int32", name=name) for name in encoder.input}
        read = encoder(inputs)
        read = read["sequence_output"] if isinstance(read, dict) else read
    read = layers.GlobalAveragePooling1D()(read)
    return keras.Model({**inputs, "photo": image}, zoo.joined(zoo.scaled(image), read))


def own(shelf: Path, backbone: str, tokenizer: Path, **options: object) -> OwnModel:
    return OwnModel(
        "tests.own.test_pretrained:build",
        {"backbone": backbone},
        tokenizer=tokenizer,
        labels=shelf / "labels.txt",
        samples=shelf / "squares",
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("backbone", ["bert", "distilbert"])
def test_masks_and_segments_follow_from_the_tokens(shelf: Path, files: Path, backbone: str) -> None:
    prepared = prepare(own(shelf, backbone, files / "bert"))
    notes = dict(prepared.notes)
    assert notes["mask"] == "input 'padding_mask', int32, 1 where the tokens are not 0"
    assert ("segments" in notes) == (backbone == "bert")
    spec = prepared.trained.spec
    assert spec.tokenizer_kind == "wordpiece" and spec.serving_bytes
    tokens = np.stack([Preprocessor(spec).tokens(text) for text in ("a red square", "a")])
    image = np.zeros((2, 20, 24, 3), np.uint8)
    inputs = {"token_ids": tokens, "padding_mask": np.int32(tokens != 0), "photo": image}
    if backbone == "bert":
        inputs["segment_ids"] = np.zeros_like(tokens)
    expected = build(backbone)(inputs)
    np.testing.assert_allclose(prepared.trained.model({"image": image, "tokens": tokens}), expected, atol=1e-6)


def test_a_pad_that_ends_every_text_can_not_be_masked(shelf: Path, files: Path) -> None:
    with pytest.raises(MisfitError, match="a padding id that the tokenizer does not put around texts") as caught:
        prepare(own(shelf, "bert", files / "bert", pad_id=3))
    assert len(caught.value.findings) == 1


@pytest.fixture(scope="module")
def store(shelf: Path, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models: `words` has a WordPiece tokenizer, `bytes` a byte-level BPE."""
    root = tmp_path_factory.mktemp("store")
    for name, backbone, tokenizer in (
        ("words", "bert", files / "bert" / "vocab.txt"),
        ("bytes", "clip", files / "clip" / "vocab.json"),
    ):
        settings = root / f"{backbone}.toml"
        settings.write_text(
            f'model = "tests.own.test_pretrained:build"\ntokenizer = "{tokenizer}"\nlabels = "{shelf}/labels.txt"\n'
            f'samples = "{shelf}/squares"\npad_id = 0\n[arguments]\nbackbone = "{backbone}"\n'
        )
        line = ["export", "--settings", str(settings), "--name", name, "--store", str(root), "--batch-sizes", "1"]
        assert main([*line, "--explain"]) == 0
    return root


def test_a_version_without_raw_input_is_served_and_says_so(
    store: Path, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((shelf / "squares").rglob("*.png"))
    config = store / "models.config"
    models = [
        f"config {{name: '{name}' base_path: '{store / name}' model_platform: 'tensorflow'}}"
        for name in ("words", "bytes")
    ]
    config.write_text(f"model_config_list {{{' '.join(models)}}}")
    with LocalServer(f"--model_config_file={config}", timeout=240) as server:

        def client(model: str, **options: Any) -> Client:
            return Client(server.address, model=model, **options)

        with client("words", send="bytes") as raw, client("words", send="tensors") as prepared:
            answers = [each.predict(image, "A réd square [SEP]").probability for each in (raw, prepared)]
            assert answers[0] == pytest.approx(answers[1], abs=1e-6)
            words = raw.explain(image, "a réd, naïve!").words
        assert [word.text for word in words] == ["a", "réd", ",", "naïve", "!"]
        with (
            client("bytes", send="bytes") as raw,
            pytest.raises(InvalidInput, match=r"no signature serving_bytes .* bpe tokenizer"),
        ):
            raw.predict(image, "a red square")
        with client("bytes") as auto:
            assert auto.predict(image, "a red square").sent == "tensors"
            assert [word.text for word in auto.explain(image, "a réd, naïve").words] == ["a", "réd", ",", "naïve"]
            assert not auto.predict_batch([(image, "a"), (image, "b")]).errors
            with pytest.raises(UnsupportedModel):
                auto.run("serving_bytes", {"image_bytes": np.array([b""], object), "text": np.array([b""], object)})
        where = ["--server", server.address, "--model", "bytes"]
        assert duoserve(["describe", *where]) == 0
        said = capsys.readouterr().out
        assert "tokenizer     bpe" in said and "not accepted (no serving_bytes)" in said
    card = json.loads((store / "bytes" / "1" / "assets.extra" / "card.json").read_text())
    assert card["training"]["understood"]["raw input"].startswith("none, as the graph can't compute these ids")


@pytest.mark.parametrize(
    ("name", "kind", "around", "note"),
    [
        ("bert", "wordpiece", ("[CLS]", "[SEP]"), "wordpiece, lower case, without accents, from its pieces"),
        ("bert/vocab.txt", "wordpiece", ("[CLS]", "[SEP]"), "wordpiece, lower case"),
        ("roberta", "bpe", ("<s>", "</s>"), "bpe, as RoBERTa's"),
        ("gpt2/vocab.json", "bpe", (), "bpe, as GPT-2's"),
        ("clip/vocab.json+merges.txt", "bpe", ("<|startoftext|>", "<|endoftext|>"), "bpe, as CLIP's"),
        ("xlm", "unigram", ("<s>", "</s>"), "unigram"),
    ],
)
def test_a_kind_is_recognised_by_its_files(
    files: Path, name: str, kind: str, around: tuple[str, ...], note: str
) -> None:
    found, data, _, said = read_file(files / name)
    assert found == kind and said.startswith(note)
    spec = PreprocessingSpec(1, 1, 40, data, ("a",), 1, tokenizer_kind=kind)
    tokenizer = Preprocessor(spec).tokenizer
    assert tuple(map(tokenizer.piece, (*tokenizer.prefix, *tokenizer.suffix))) == around
    text = "A réd square, naïve 猫"
    words = Preprocessor(spec).words(text)
    assert "".join(text[begin:end] for begin, end, _ in words) == text.replace(" ", "")
    assert Preprocessor(PreprocessingSpec.from_json(spec.to_json())).tokens(text).tolist() == (
        Preprocessor(spec).tokens(text).tolist()
    )


def test_keras_hubs_clip_tokenizer_makes_the_same_ids(files: Path) -> None:
    data = read_file(files / "clip")[1]
    theirs = keras_hub.models.CLIPTokenizer(
        json.loads((files / "clip" / "vocab.json").read_text()),
        (files / "clip" / "merges.txt").read_text().splitlines()[1:],
    )
    ours = Preprocessor(PreprocessingSpec(1, 1, 40, data, ("a",), 1, tokenizer_kind="bpe")).tokenizer
    texts = [*map(str.lower, TEXTS), "a  réd\tsquare's, 猫!"]  # capitals are for their preprocessor to lower
    assert [[*map(int, row)] for row in theirs(texts)] == [ours.encode(text) for text in texts]
