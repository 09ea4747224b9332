"""A layer that the user names becomes the signature `embed`; an unsuitable one is refused with suitable ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from export.own.prepare import Prepared
from export.own.reasons import MisfitError
from export.publish.answers import answer_fn, embedding_length, serve
from tests.own import zoo
from tests.own.test_fitting import CASES, floats, rows


@pytest.mark.parametrize("name", ["plain", "swapped_logits"])
def test_the_named_layer_is_embedded_with(
    prepared: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made: list[keras.Model] = []
    build = getattr(zoo, name)
    monkeypatch.setattr(zoo, name, lambda: made.append(build()) or made[0])
    found = prepared(name, embed="both", **CASES[name][0])
    model = found.trained.model
    assert embedding_length(model) == 12
    assert dict(found.notes)["embed"] == "the output of layer 'both', 12 numbers"
    given = rows((20, 24), 7)
    part = keras.Model(made[0].input, made[0].get_layer("both").output)
    order = [given["image"], given["tokens"]] if name == "plain" else [given["tokens"], floats(given["image"])]
    features = part(order).numpy()
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    vectors = answer_fn(model, found.trained.spec)(given["image"], given["tokens"])["embedding"]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_without_a_name_there_is_none(prepared: Callable[..., Prepared]) -> None:
    assert embedding_length(prepared("plain").trained.model) == 0


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        (
            "plain",
            {"embed": "nope"},
            "Received: 'nope', which the model lacks. To fix: use one of the layers that do: 'both'",
        ),
        ("plain", {"embed": "photo"}, "Received: 'photo', of shape (batch, 20, 24, 3)"),
        ("nested_dict", {"embed": "mood", "output": "answer"}, "'mood', of shape (batch, 2), made of one input"),
        ("code", {"embed": "both"}, "Expected a model that is a graph of layers, for --embed. Received: "),
    ],
)
def test_an_unsuitable_layer_is_named(
    prepared: Callable[..., Prepared], model: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(MisfitError) as caught:
        prepared(model, **{**CASES.get(model, ({},))[0], **changes})
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["functional", "own", "inner", "image", "tokens", "cast", "probabilities", "fused"])
def test_a_model_and_the_models_in_it_may_have_any_name(
    prepared: Callable[..., Prepared], tmp_path: Path, name: str
) -> None:
    """Also one that a layer of the served model has, or an automatic one of another process."""
    model = zoo.models_of_one_name()
    model.name = name
    model.save(tmp_path / "mine.keras")
    given = rows((20, 24), 7)
    expected = model([given["image"], given["tokens"]]).numpy()
    for embed, length in ((None, 0), ("both", 12)):
        found = prepared(tmp_path / "mine.keras", embed=embed).trained
        assert embedding_length(found.model) == length
        served = serve(found.model, found.spec)
        np.testing.assert_allclose(served.answer(**given)["answer"], expected, atol=1e-5)
        assert {"lstm", "batch_norm"} == served.facts["rules"].keys(), "each layer is called once"
