"""The content of a version beside its graph."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from duoserve.artifact.releases import SERVER_VERSION
from duoserve.contract import signatures
from export.errors import ExportError
from export.publish.savedmodel import Published
from export.publish.session import SessionModel
from export.publish.warmup import WARMUP_PATH, read_warmup


def test_warmup_has_every_signature_at_every_batch_size(published: Published) -> None:
    requests = read_warmup(published.path / WARMUP_PATH)
    seen = {
        (request.model_spec.signature_name, next(iter(request.inputs.values())).tensor_shape.dim[0].size)
        for request in requests
    }
    assert seen == {(name, rows) for name in signatures(published.spec) for rows in (1, 4)}


def test_the_card_says_where_the_version_came_from(published: Published) -> None:
    card = json.loads((published.path / "assets.extra" / "card.json").read_text())
    assert card["tensorflow"] == tf.__version__
    assert card["server"] == SERVER_VERSION
    assert card["keras"] == keras.__version__
    assert card["version"] == 1
    assert card["training"] == {"accuracy": 0.5}
    assert card["contract"]["digest"] == published.spec.digest
    assert card["contract"]["signatures"]["serving_default"]["inputs"] == {
        "image": "uint8 array of shape (batch, 24, 32, 3)",
        "tokens": "int32 array of shape (batch, 6)",
    }


def test_sha256sum_reads_the_checksums(published: Published) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "assets.extra/MANIFEST.sha256"], cwd=published.path, check=True)


def test_the_second_export_describes_itself_as_version_2(export: Callable[..., Published]) -> None:
    first, second = export(), export()
    assert (first.path.name, second.path.name) == ("1", "2")
    assert first.spec.digest == second.spec.digest
    with SessionModel(second.path) as loaded:
        (spec,) = loaded.run("describe", {"key": np.array([b""], object)})["spec"]
    assert json.loads(spec)["version"] == 2


def test_serving_bytes_names_the_class(published: Published, samples: list[tuple[bytes, str]]) -> None:
    images, texts = zip(*samples, strict=True)
    feeds = {"image_bytes": np.array(images, object), "text": np.array([text.encode() for text in texts], object)}
    with SessionModel(published.path) as loaded:
        outputs = loaded.run("serving_bytes", feeds)
    best = outputs["probabilities"].argmax(axis=1)
    assert [label.decode() for label in outputs["label"]] == [published.spec.labels[each] for each in best]


@pytest.mark.parametrize("sizes", [(), (0,), tuple(range(1, 400))])
def test_batch_sizes_that_can_not_be_warmed_up_are_refused(
    export: Callable[..., Published], sizes: tuple[int, ...]
) -> None:
    with pytest.raises(ExportError, match=r"Expected (batch sizes of at least 1|at most 1000 warmup records)"):
        export(batch_sizes=sizes)


def test_no_samples_are_refused_before_a_version_is_taken(
    export: Callable[..., Published], model: keras.Model, spec, tmp_path
) -> None:
    from export.publish.savedmodel import export_version
    from export.publish.store import ModelStore

    store = ModelStore(tmp_path / "store", "pets")
    with pytest.raises(ExportError, match="Expected at least one sample"):
        export_version(model, spec, [], store)
    assert not store.path.exists()
