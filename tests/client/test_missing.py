"""One input alone: answered by a version that was trained for it, refused by our own error where it was not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duoserve import Canary, InvalidInput, PreprocessingSpec, Preprocessor, UnsupportedModel
from duoserve.cli import main
from tests.client.conftest import encoded, photo
from tests.client.fake import FakeServer, Version

MakeClient = Callable[..., Any]
BOTH, EITHER = 1, 2  # what the two versions need


def refused(missing: str) -> Any:
    return pytest.raises(
        UnsupportedModel, match=rf"without modality dropout. Received: no {missing} \[.*version {BOTH}"
    )


@pytest.fixture
def server(spec1: PreprocessingSpec) -> Any:
    """Two versions that prepare alike, but one was trained without modality dropout."""
    either = dataclasses.replace(spec1, version=EITHER, optional=("image", "text"))
    with FakeServer(Version(spec1), Version(either), labels={"stable": EITHER}) as running:
        yield running


def expected(spec: PreprocessingSpec, image: bytes | None, text: str | None) -> np.ndarray:
    preprocessor = Preprocessor(dataclasses.replace(spec, optional=("image", "text")))
    return Version(spec).probabilities(preprocessor.image(image)[None], preprocessor.tokens(text)[None])[0]


@pytest.mark.parametrize("send", ["tensors", "bytes", "auto"])
def test_one_input_alone_is_answered(
    make_client: MakeClient, server: FakeServer, spec1: PreprocessingSpec, jpeg: bytes, send: str
) -> None:
    client = make_client(server.address, label="stable", send=send)
    for image, text in ((None, "red heart"), (jpeg, None), (jpeg, "red heart")):
        answer = client.predict(image=image, text=text)
        np.testing.assert_allclose(answer.probabilities, expected(spec1, image, text), rtol=1e-6)
        assert answer.version == EITHER
    assert client.predict(text="red heart").sent == ("tensors" if send == "tensors" else "bytes")


@pytest.mark.parametrize("send", ["tensors", "bytes"])
@pytest.mark.parametrize("missing", ["image", "text"])
def test_a_version_that_needs_both_refuses_before_anything_is_sent(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, send: str, missing: str
) -> None:
    given = {"image": jpeg, "text": "red heart"}
    del given[missing]
    client = make_client(server.address, version=BOTH, send=send)
    for _ in range(2):
        with refused(missing):
            client.predict(**given)
    assert not server.predictions() and not server.predictions("serving_bytes")


def test_neither_is_refused(make_client: MakeClient, server: FakeServer) -> None:
    client = make_client(server.address, label="stable")
    with pytest.raises(InvalidInput, match=r"Expected an image, a text or both\. Received: neither"):
        client.predict()
    # A text of which the tokenizer makes no token is none, if there is no image to go by.
    with pytest.raises(InvalidInput, match="Expected text to have a token"):
        make_client(server.address, label="stable", send="tensors").predict(text="\u200b")
    assert not server.predictions()


@pytest.mark.parametrize("send", ["tensors", "bytes"])
@pytest.mark.parametrize("missing", ["image", "text"])
def test_a_moved_label_changes_what_may_be_missing(
    make_client: MakeClient, server: FakeServer, spec1: PreprocessingSpec, jpeg: bytes, send: str, missing: str
) -> None:
    """The client knows another version behind the label than the one that is there: either way round."""
    given = {"image": jpeg, "text": "red heart"}
    pair = {**given, missing: None}
    client = make_client(server.address, label="stable", send=send)
    for _ in range(2):
        server.labels["stable"] = BOTH
        with refused(missing):
            client.predict(**pair)
        assert client.predict(**given).version == BOTH
        server.labels["stable"] = EITHER
        answer = client.predict(**pair)
        assert answer.version == EITHER
        np.testing.assert_allclose(answer.probabilities, expected(spec1, **pair), rtol=1e-6)
        assert client.predict(**given).version == EITHER


def test_in_a_batch_only_what_lacks_an_input_is_refused(
    make_client: MakeClient, server: FakeServer, spec1: PreprocessingSpec, jpeg: bytes
) -> None:
    pairs = [(jpeg, "red heart"), (None, "grinning"), (photo(), None), (None, None), (jpeg, "face")]
    client = make_client(server.address, label="stable")
    found = client.predict_batch(pairs)
    assert set(found.errors) == {3} and isinstance(found.errors[3], InvalidInput)
    for i in (0, 1, 4):
        np.testing.assert_allclose(found[i].probabilities, expected(spec1, *pairs[i]), rtol=1e-6)
    server.labels["stable"] = BOTH
    found = client.predict_batch(pairs)
    assert {i: type(error) for i, error in found.errors.items()} == {
        1: UnsupportedModel,
        2: UnsupportedModel,
        3: InvalidInput,
    }
    assert found[0].version == found[4].version == BOTH


def test_prepared_tensors_with_neither_are_refused(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, label="stable")
    preprocessor = client.preprocessor()
    images = np.stack([preprocessor.image(jpeg), preprocessor.image(None)])
    tokens = np.stack([preprocessor.tokens(None), preprocessor.tokens("red heart")])
    assert len(client.predict_tensors(images, tokens, preprocessor).probabilities) == 2
    with pytest.raises(InvalidInput, match="Expected an image, a text or both in each row"):
        client.predict_tensors(images, tokens[[0, 0]], preprocessor)


def test_a_preprocessor_makes_nothing_of_none_unless_the_spec_says_so(spec1: PreprocessingSpec) -> None:
    needing = Preprocessor(spec1)
    with pytest.raises(InvalidInput, match=r"Expected image: the model was always trained with it\. Received: None"):
        needing.image(None)
    with pytest.raises(InvalidInput, match=r"Expected text: the model was always trained with it\. Received: None"):
        needing.tokens(None)
    padded = Preprocessor(dataclasses.replace(spec1, pad_id=5, optional=("image", "text")))
    assert padded.tokens(None).tolist() == [5] * spec1.token_length
    assert padded.image(None).shape == (16, 16, 3) and not padded.image(None).any()


def test_from_a_shell(server: FakeServer, jpeg: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = [f"--server={server.address}", "--model=pairs", "--json"]
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(jpeg)
    assert main(["predict", *where, "--label=stable", "--text", "red heart"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == EITHER
    assert main(["predict", *where, "--label=stable", "--image", str(picture)]) == 0
    assert main(["describe", *where, "--label=stable"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["optional"] == ["image", "text"]
    assert main(["predict", *where, "--label=stable"]) == 2
    assert main(["predict", *where, "--version=1", "--text", "red heart"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"] == "UnsupportedModel"


def test_a_canary_that_needs_both_leaves_the_call_to_the_stable_version(
    make_client: MakeClient, server: FakeServer
) -> None:
    server.labels["canary"] = BOTH
    client = make_client(server.address, label="stable", canary=Canary(label="canary", percent=100, fallback=True))
    assert client.predict(text="red heart").version == EITHER
    assert client.predict(encoded(photo()), "red heart").version == BOTH
