"""A missing input, from the graph to the client: the same answer in every way, or a clear refusal."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from duoserve import Client, RequestRejected, UnsupportedModel
from duoserve.artifact.samples import GOLDEN_PATH, load_samples
from duoserve.contract import SERVING_BYTES
from export.errors import GateError
from export.graph.images import ImageDecoder
from export.publish.savedmodel import Published, export_version
from export.publish.store import ModelStore
from serving.local.testing import LocalServer
from serving.rollout.package import contract_of, incompatible, open_package
from serving.rollout.settings import Signatures
from tests.export.conftest import build_model, encoded
from tests.signatures.conftest import BOTH, EITHER, NAME

PICTURE = encoded(90, 70, "JPEG", seed=5)
TEXT = "hot air balloon"


def post(server: LocalServer, version: int, image: bytes, text: str) -> Any:
    """What a REST caller gets."""
    row = {"image_bytes": {"b64": base64.b64encode(image).decode()}, "text": text}
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.rest_port}/v1/models/{NAME}/versions/{version}:predict",
        json.dumps({"signature_name": SERVING_BYTES, "instances": [row]}).encode(),
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)["predictions"][0]


@pytest.mark.parametrize(("image", "text"), [(None, TEXT), (PICTURE, None)], ids=["text alone", "image alone"])
def test_every_way_gives_the_same_answer(server: LocalServer, image: bytes | None, text: str | None) -> None:
    answers = []
    for send in ("tensors", "bytes"):
        with Client(server.address, model=NAME, version=EITHER, send=send) as client:
            answers.append(client.predict(image=image, text=text))
            both = client.predict(PICTURE, TEXT)
            assert not np.allclose(both.probabilities, answers[-1].probabilities, atol=1e-4)
    np.testing.assert_allclose(answers[0].probabilities, answers[1].probabilities, atol=1e-5)
    by_rest = post(server, EITHER, image or b"", text or "")
    np.testing.assert_allclose(by_rest["probabilities"], answers[0].probabilities, atol=1e-5)
    assert by_rest["label"] == answers[0].label


def test_a_version_that_needs_both_inputs_refuses_one(server: LocalServer) -> None:
    with Client(server.address, model=NAME, version=BOTH) as client:
        for pair in ((None, TEXT), (PICTURE, None)):
            with pytest.raises(UnsupportedModel, match="without modality dropout"):
                client.predict(*pair)
        found = client.predict_batch([(PICTURE, TEXT), (None, TEXT)])
        assert set(found.errors) == {1} and found[0].version == BOTH
        inputs = {"image_bytes": np.array([b""], object), "text": np.array([TEXT], object)}
        with pytest.raises(RequestRejected, match=r"Received: no bytes"):  # whoever asks the graph itself
            client.run(SERVING_BYTES, inputs)


def test_the_graph_refuses_a_row_with_neither(server: LocalServer) -> None:
    inputs = {"image_bytes": np.array([PICTURE, b""], object), "text": np.array([b"", b""], object)}
    with (
        Client(server.address, model=NAME, version=EITHER) as client,
        pytest.raises(RequestRejected, match="Expected image_bytes, text or both in each row"),
    ):
        client.run(SERVING_BYTES, inputs)


def test_golden_samples_have_each_input_missing_once(versions: dict[int, Published]) -> None:
    def pairs(version: int) -> list[tuple[bool, bool]]:
        samples = load_samples((versions[version].path / GOLDEN_PATH).read_bytes())
        return [(bool(image), bool(text)) for image, text in (sample.pair for sample in samples)]

    assert pairs(BOTH) == [(True, True)] * 2
    assert pairs(EITHER) == [*[(True, True)] * 2, (False, True), (True, False)]


def test_a_graph_that_takes_a_missing_image_for_another_is_not_published(
    versions: dict[int, Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = ImageDecoder._decode_any

    def grey(self: ImageDecoder, data: tf.Tensor) -> tf.Tensor:
        return tf.maximum(decode(self, data), tf.constant(99, tf.uint8))

    monkeypatch.setattr(ImageDecoder, "_decode_any", grey)
    spec = versions[EITHER].spec
    with pytest.raises(GateError, match="parity: serving_bytes"):
        export_version(build_model(spec), spec, [(PICTURE, TEXT)], ModelStore(tmp_path, NAME), batch_sizes=(1,))


def test_a_rollout_to_a_version_that_needs_more_is_incompatible(versions: dict[int, Published]) -> None:
    store = versions[BOTH].path.parents[1]
    live = {version: contract_of(each.spec) for version, each in versions.items()}
    carded = {version: open_package(store, NAME, version, Signatures()).contract for version in versions}
    for contracts in (live, carded):
        assert incompatible(contracts[BOTH], contracts[EITHER], "follow") == []
        assert incompatible(contracts[EITHER], contracts[BOTH], "follow") == [
            "inputs: expected image and text to stay optional. Received: needed always"
        ]
