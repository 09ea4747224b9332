"""Versions whose tokenizer is not SentencePiece: the package that they need, and those that accept no bytes."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
import tokenizers

from duoserve import ContractError, InvalidInput, PreprocessingSpec, Preprocessor, UnsupportedModel
from duoserve.contract import BPE, WORDPIECE, pack_tokenizer
from tests.client.conftest import encoded, photo
from tests.client.fake import FakeServer, Version
from tests.client.test_following import check

MakeClient = Callable[..., Any]


@pytest.fixture(scope="module")
def bpe() -> PreprocessingSpec:
    """Version 2: byte-level BPE, no `serving_bytes`."""
    found = tokenizers.ByteLevelBPETokenizer()
    found.train_from_iterator(["red heart", "blue car"], vocab_size=300, special_tokens=["<pad>"])
    data = pack_tokenizer(found.to_str())
    return PreprocessingSpec(16, 16, 8, data, ("cat", "dog", "owl"), 2, tokenizer_kind=BPE, serving_bytes=False)


def test_a_label_that_moves_to_a_version_without_bytes_is_followed(
    make_client: MakeClient, spec1: PreprocessingSpec, bpe: PreprocessingSpec
) -> None:
    specs, small = {1: spec1, 2: bpe}, encoded(photo(5, 5), "PNG")
    with FakeServer(Version(spec1), Version(bpe), labels={"stable": 1}) as server:
        auto, raw = (make_client(server.address, label="stable", send=send) for send in ("auto", "bytes"))
        for version, sent in ((1, "bytes"), (2, "tensors"), (1, "bytes")):
            server.labels["stable"] = version
            batch = auto.predict_batch([(small, "red heart"), (small, "a red car")])
            for answer in (auto.predict(small, "red heart"), *batch):
                assert answer.version == version
                check(answer, specs, small, "red heart" if answer is not batch[1] else "a red car")
            assert auto.predict(small, "red heart").sent == sent
        assert raw.predict(small, "red heart").sent == "bytes"
        server.labels["stable"] = 2
        with pytest.raises(UnsupportedModel):  # what was known of the label is of yesterday
            raw.predict(small, "red heart")
        raw.describe()
        with pytest.raises(InvalidInput, match=r"send to be auto or tensors, as this version has no signature"):
            raw.predict(small, "red heart")


def test_without_the_package_an_error_names_the_extra(
    make_client: MakeClient, spec1: PreprocessingSpec, bpe: PreprocessingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with FakeServer(Version(spec1), Version(bpe), labels={}) as server:
        assert make_client(server.address, version=1).predict(encoded(photo()), "red heart").version == 1
        with pytest.raises(UnsupportedModel, match=r"pip install 'duoserve\[tokenizers\]'"):
            make_client(server.address, version=2).predict(encoded(photo()), "red heart")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokenizer": b"neither"}, "packed tokenizer.json. Received: Error"),
        ({"tokenizer": pack_tokenizer("x" * 99)[:-3]}, "packed tokenizer.json"),
        ({"tokenizer": pack_tokenizer("{}")}, "a tokenizer.json. Received"),
        ({"tokenizer": pack_tokenizer(json.dumps({"model": {"type": "BPE"}}))}, "a tokenizer.json. Received"),
        ({"tokenizer_kind": WORDPIECE}, "a tokenizer of the kind wordpiece. Received: bpe"),
    ],
)
def test_a_broken_tokenizer_is_an_error_of_ours(bpe: PreprocessingSpec, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ContractError, match=said):
        Preprocessor(dataclasses.replace(bpe, **changes)).tokens("x")


def test_the_kind_is_in_the_json_and_what_is_unknown_asks_for_an_update(
    bpe: PreprocessingSpec, spec1: PreprocessingSpec
) -> None:
    record = json.loads(bpe.to_json())
    assert (record["format"], record["tokenizer_kind"], record["serving_bytes"]) == (3, "bpe", False)
    assert json.loads(spec1.to_json())["format"] == 1 and "tokenizer_kind" not in spec1.to_json()
    assert dataclasses.replace(bpe, serving_bytes=True).digest == bpe.digest
    with pytest.raises(ContractError, match="update duoserve"):
        PreprocessingSpec.from_json(json.dumps({**record, "tokenizer_kind": "morse"}))
