"""Exported models on the embedded server, and the client: a rollout under load, both ways to send, batches."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duoserve import InvalidInput, ModelNotFound, PreprocessingSpec, Preprocessor, RequestRejected
from duoserve.contract import signatures
from export.publish.savedmodel import export_version
from export.publish.store import ModelStore
from export.training.tokenizer import train_tokenizer
from serving.local.testing import LocalServer
from tests.client.conftest import encoded, photo
from tests.client.fake import wait_until
from tests.export.conftest import build_model
from tests.export.image_files import with_right_checksums

CONFIG = """
model_config_list {{ config {{
  name: "pairs" base_path: "{base}" model_platform: "tensorflow"
  model_version_policy {{ all {{}} }}
  version_labels {{ key: "stable" value: {stable} }}
}} }}
"""
TEXTS = [f"{a} {b}" for a in ("red", "blue", "hot", "wild") for b in ("heart", "car", "air", "bird")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, PreprocessingSpec], dict[int, Any]]:
    """Two versions that differ in tokenizer, image size, token length and labels, and their Keras models."""
    root = tmp_path_factory.mktemp("exported")
    specs = {
        1: PreprocessingSpec(24, 32, 6, train_tokenizer(TEXTS, vocabulary=310), ("cat", "dog", "owl"), 1),
        2: PreprocessingSpec(
            28,
            20,
            8,
            train_tokenizer(TEXTS[::2], vocabulary=300),
            ("owl", "elk", "cat", "dog"),
            2,
            background=(255, 255, 255),
        ),
    }
    specs[2] = dataclasses.replace(specs[2], background=(255, 255, 255))
    models = {}
    for version, spec in specs.items():
        models[version] = build_model(spec, seed=version)
        samples = [(encoded(photo(seed=i)), text) for i, text in enumerate(TEXTS[:2])]
        store = ModelStore(root, "pairs")
        export_version(models[version], spec, samples, store, version=version, batch_sizes=(1, 2))
    return root / "pairs", specs, models


class Deployment:
    """A server whose versions and label a test moves."""

    def __init__(self, folder: Path, versions: Path) -> None:
        self.base = folder / "models" / "pairs"
        self.base.mkdir(parents=True)
        self.config = folder / "models.config"
        self._versions = versions
        self.add(1)
        self.label(1)
        self.server = LocalServer(
            f"--model_config_file={self.config}",
            "--model_config_file_poll_wait_seconds=1",
            "--file_system_poll_wait_seconds=1",
            "--allow_version_labels_for_unavailable_models=true",
        )

    def add(self, version: int) -> None:
        shutil.copytree(self._versions / str(version), self.base / f".{version}")
        (self.base / f".{version}").rename(self.base / str(version))

    def label(self, version: int) -> None:
        draft = self.config.with_suffix(".new")
        draft.write_text(CONFIG.format(base=self.base, stable=version))
        draft.rename(self.config)


@pytest.fixture
def deployment(tmp_path: Path, exported: Any) -> Iterator[Deployment]:
    made = Deployment(tmp_path, exported[0])
    with made.server:
        yield made


def expected(exported: Any, version: int, image: bytes, text: str) -> np.ndarray:
    _, specs, models = exported
    preprocessor = Preprocessor(specs[version])
    inputs = {"image": preprocessor.image(image)[None], "tokens": preprocessor.tokens(text)[None]}
    return np.asarray(models[version](inputs))[0]


def test_a_rollout_and_a_rollback_under_load(
    make_client: Callable[..., Any], deployment: Deployment, exported: Any
) -> None:
    """The label moves to a version that wants other input, the old one goes, then back. All right, none fails."""
    client = make_client(deployment.server.address, label="stable")
    inputs = [(encoded(photo(60 + i, 80, seed=i)), text) for i, text in enumerate(TEXTS[:4])]
    answers = {(v, i): expected(exported, v, *pair) for v in (1, 2) for i, pair in enumerate(inputs)}
    stop, seen, calls = threading.Event(), [], []

    def caller(worker: int) -> None:
        i = worker
        while not stop.is_set():
            i = (i + 1) % len(inputs)
            answer = client.predict(*inputs[i], timeout=20)
            np.testing.assert_allclose(answer.probabilities, answers[answer.version, i], atol=1e-4)
            assert answer.labels == exported[1][answer.version].labels
            seen.append(answer.version)
            calls.append(1)

    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(caller, worker) for worker in range(3)]
        try:
            wait_until(lambda: len(calls) > 20)
            deployment.add(2)
            wait_until(lambda: {s.version for s in client.status() if s.state == "AVAILABLE"} == {1, 2})
            deployment.label(2)
            wait_until(lambda: seen[-20:] == [2] * 20)
            shutil.rmtree(deployment.base / "1")
            wait_until(lambda: {s.version for s in client.status() if s.state == "AVAILABLE"} == {2})
            deployment.add(1)
            wait_until(lambda: {s.version for s in client.status() if s.state == "AVAILABLE"} == {1, 2})
            deployment.label(1)
            wait_until(lambda: seen[-20:] == [1] * 20)
        finally:
            stop.set()
        for done in callers:
            done.result()
    assert set(seen) == {1, 2}


def test_one_server_many_ways(make_client: Callable[..., Any], deployment: Deployment, exported: Any) -> None:
    address = deployment.server.address
    images = [encoded(photo(70, 90, seed=1)), encoded(photo(200, 160, seed=2)), encoded(photo(24, 32, seed=3), "PNG")]
    for send in ("tensors", "bytes"):
        client = make_client(address, label="stable", send=send, max_batch_size=2)
        found = client.predict_batch([(image, text) for image in images for text in TEXTS[:2]])
        pairs = [(image, text) for image in images for text in TEXTS[:2]]
        for answer, (image, text) in zip(found, pairs, strict=True):
            # In bytes the graph decodes: pixels within one level, hence answers nearly the same.
            np.testing.assert_allclose(answer.probabilities, expected(exported, 1, image, text), atol=1e-2)
            assert answer.sent == send
    client = make_client(address, version=1)
    assert client.describe() == exported[1][1]
    promised = signatures(exported[1][1])
    assert {name: set(spec.inputs) for name, spec in client.signatures().items() if name in promised} == {
        name: set(spec.inputs) for name, spec in promised.items()
    }


def test_the_client_reports_why_the_server_refuses(
    make_client: Callable[..., Any], deployment: Deployment, exported: Any, jpeg: bytes
) -> None:
    address = deployment.server.address
    for options in ({"version": 9}, {"label": "nope"}, {"model": "nope"}):
        with pytest.raises(ModelNotFound):
            make_client(address, **options).predict(jpeg, "red heart")
    client = make_client(address, label="stable", send="bytes")
    with pytest.raises(InvalidInput):
        client.predict(jpeg[:-5], "red heart")
    # Whole by its headers, but not to be decoded: only the graph can tell, and only that item fails.
    png = encoded(photo(), "PNG")
    damaged = with_right_checksums(png[:100] + bytes(40) + png[140:])
    found = client.predict_batch([(jpeg, "red heart"), (damaged, "red heart"), (png, "red heart")])
    assert set(found.errors) == {1} and isinstance(found.errors[1], RequestRejected)
    client = make_client(address, version=1)
    with pytest.raises(InvalidInput, match="datetime64"):
        client.run("serving_default", {"image": np.zeros(1, "M8[D]")})
    # Of a wrong size, or with so few dimensions that a convolution would end the server's process.
    for name, signature in signatures(exported[1][1]).items():
        dtypes = {each.name: "S1" if each.dtype == "string" else each.dtype for each in signature.inputs}
        row = {each.name: np.zeros([size or 1 for size in each.shape], dtypes[each.name]) for each in signature.inputs}
        with contextlib.suppress(RequestRejected):  # no rows: answered or refused; BlockLSTM ended the process
            client.run(name, {each: tensor[:0] for each, tensor in row.items()})
        for wrong, shape in itertools.product(row, [(), (0,), (1, 1), (24, 32, 3), (1, 5, 5, 3), (1, 1, 24, 32, 3)]):
            if len(shape) != 1 or row[wrong].ndim != 1:
                with pytest.raises(RequestRejected, match=r"Shape of tensor .* is not compatible"):
                    client.run(name, row | {wrong: np.zeros(shape, dtypes[wrong])})


def test_many_more_callers_than_the_server_has_threads(
    make_client: Callable[..., Any], exported: Any, jpeg: bytes
) -> None:
    """Most calls are turned away at first; none fails."""
    flags = "--model_name=pairs", f"--model_base_path={exported[0]}", "--grpc_max_threads=2"
    with LocalServer(*flags) as server, ThreadPoolExecutor(48) as pool:
        client = make_client(server.address, timeout=60)
        answers = list(pool.map(lambda _: client.predict(jpeg, "red heart"), range(240)))
    assert {answer.version for answer in answers} == {2}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_transparent_turned_image_has_one_answer_however_it_is_sent(
    make_client: Callable[..., Any], deployment: Deployment, exported: Any, kind: str
) -> None:
    deployment.add(2)
    icon = photo(40, 90).convert("RGBA")
    icon.putalpha(Image.linear_gradient("L").resize(icon.size))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(icon, kind, exif=exif.tobytes())
    clients = {
        send: make_client(deployment.server.address, version=2, send=send) for send in ("tensors", "bytes", "auto")
    }
    latest = make_client(deployment.server.address)
    wait_until(lambda: {s.version for s in latest.status() if s.state == "AVAILABLE"} == {1, 2})
    for client in clients.values():
        found = client.predict(data, TEXTS[0]).probabilities
        np.testing.assert_allclose(found, expected(exported, 2, data, TEXTS[0]), atol=1e-4)
