"""No faulty version is published: the gate's checks and their messages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from duoserve.artifact.checksums import write_checksums
from duoserve.artifact.samples import GOLDEN_PATH
from duoserve.contract import SERVING_DEFAULT, PreprocessingSpec
from export.cli import main
from export.errors import ExportError, GateError
from export.publish import answers, gate
from export.publish.answers import ANSWER
from export.publish.gate import check
from export.publish.ops import forbidden_ops
from export.publish.savedmodel import Published
from export.publish.session import SessionModel
from tests.export.conftest import build_model


def findings(folder: Path, *names: str, **options: str) -> dict[str, str]:
    """What these checks find, with those that they depend on; what all find, without a name."""
    chosen = [each for each in gate.CHECKS if not names or each[0] in names or each[2]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "CHECKS", chosen)
        return {result.name: "; ".join(result.findings) for result in check(folder, **options) if not result.passed}


def change_graph(folder: Path, change: Callable[[saved_model_pb2.SavedModel], None]) -> None:
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(model)
    path.write_bytes(model.SerializeToString())
    write_checksums(folder)


def test_a_published_version_passes_again(published: Published) -> None:
    results = check(published.path)
    assert [result.findings for result in results] == [()] * len(results)
    assert {result.name for result in results} >= {
        "files",
        "loads",
        "operations",
        "contract",
        "golden",
        "parity",
        "warmup",
    }


def test_a_changed_file_is_named(copied: Path) -> None:
    (copied / "assets.extra" / "card.json").write_text("{}")
    assert "assets.extra/card.json: expected SHA-256" in findings(copied, "files")["files"]


def test_a_half_copied_version_is_refused(copied: Path) -> None:
    shutil.rmtree(copied / "variables")
    found = findings(copied, "files")
    assert "variables/variables.index: in the checksums, not in the folder" in found["files"]
    assert "Expected" in found["loads"]


def test_a_truncated_graph_is_refused(copied: Path) -> None:
    path = copied / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "to load in a Session" in findings(copied, "loads")["loads"]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "to load in a Session" in findings(tmp_path, "loads")["loads"]


def test_an_exporter_newer_than_the_server_is_refused(published: Published) -> None:
    assert findings(published.path, server_version="2.19.1") == {
        "not newer": (
            f"expected a TensorFlow no newer than the server's 2.19.1. Received: {tf.__version__}, whose operations"
            " that server may lack (if yours is newer, set DUOSERVE_SERVER_VERSION)"
        )
    }
    minor = tf.__version__.rpartition(".")[0]
    assert not findings(published.path, server_version=minor), "a patch release brings no operations"


def test_an_export_for_an_older_server_is_refused_at_once(export: Callable[..., Published], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"Expected a TensorFlow no newer than the server's 2\.19\. Received: 2\."):
        export(server_version="2.19")
    assert not list(tmp_path.rglob("saved_model.pb"))


def test_a_model_that_only_python_can_load_is_refused(
    model: keras.Model, spec: PreprocessingSpec, tmp_path: Path
) -> None:
    """What `tf.saved_model.save` makes of a Keras 3 model: variables that a Session does not find."""
    answer = answers.answer_fn(model, spec)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, spec.image_height, spec.image_width, 3], tf.uint8, "image"),
            tf.TensorSpec([None, spec.token_length], tf.int32, "tokens"),
        ]
    )
    def serving(image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(image, tokens)

    tf.saved_model.save(model, str(tmp_path), signatures={SERVING_DEFAULT: serving})
    feeds = {"image": np.zeros((1, 24, 32, 3), np.uint8), "tokens": np.zeros((1, 6), np.int32)}
    tf.saved_model.load(str(tmp_path)).signatures[SERVING_DEFAULT](**{k: tf.constant(v) for k, v in feeds.items()})
    with SessionModel(tmp_path) as loaded, pytest.raises(ExportError, match=r"Received: Could not find variable"):
        loaded.run(SERVING_DEFAULT, feeds)


def test_an_operation_that_writes_files_is_refused(
    export: Callable[..., Published], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = answers.answer_fn

    def leaking(model: keras.Model, spec: PreprocessingSpec) -> answers.Answer:
        answer = whole(model, spec)

        def spy(image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.control_dependencies([tf.io.write_file(str(tmp_path / "leak"), tf.io.serialize_tensor(tokens))]):
                return {name: tf.identity(each) for name, each in answer(image, tokens).items()}

        return spy

    monkeypatch.setattr(answers, "answer_fn", leaking)
    with pytest.raises(GateError, match=r"operations: WriteFile, in serving_default: it reads or writes files"):
        export()
    assert not list((tmp_path / "store" / "pets").glob("[0-9]*"))


def test_an_operation_that_runs_python_is_refused(
    export: Callable[..., Published], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pythonic(model: keras.Model, spec: PreprocessingSpec) -> answers.Answer:
        def answer(image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
            row = np.array([[0.2, 0.3, 0.5]], np.float32)
            found = tf.numpy_function(lambda ids: np.repeat(row, len(ids), 0), [tokens], tf.float32)
            return {ANSWER: tf.ensure_shape(found, [None, 3])}

        return answer

    monkeypatch.setattr(answers, "answer_fn", pythonic)
    with pytest.raises(GateError, match=r"runs Python, which the server lacks"):
        export()


def test_an_operation_that_needs_cudnn_is_refused(published: Published) -> None:
    """As a Keras layer leaves it that was exported on a GPU host: inside a function that a signature calls."""
    meta_graph = saved_model_pb2.SavedModel.FromString((published.path / "saved_model.pb").read_bytes()).meta_graphs[0]
    functions = meta_graph.graph_def.library.function
    called = next(each for each in functions if "inference_serving_default" in each.signature.name)
    called.node_def.add(name="rnn", op="CudnnRNNV3")
    found = forbidden_ops(meta_graph, [SERVING_DEFAULT])
    assert found == ["CudnnRNNV3, in serving_default: it needs a GPU with cuDNN (build the layer with use_cudnn=False)"]


@pytest.mark.parametrize("name", ["serving_default", "serving_bytes", "describe"])
def test_a_missing_signature_is_named(copied: Path, name: str) -> None:
    def drop(model: saved_model_pb2.SavedModel) -> None:
        del model.meta_graphs[0].signature_def[name]

    change_graph(copied, drop)
    assert name in findings(copied, "contract")["contract"]


def test_a_signature_of_another_shape_is_named(copied: Path) -> None:
    def widen(model: saved_model_pb2.SavedModel) -> None:
        inputs = model.meta_graphs[0].signature_def[SERVING_DEFAULT].inputs
        inputs["image"].tensor_shape.dim[1].size = 99

    change_graph(copied, widen)
    assert (
        "serving_default, input 'image': expected uint8 array of shape (batch, 24, 32, 3)."
        " Received: uint8 array of shape (batch, 99, 32, 3)"
    ) in findings(copied, "contract")["contract"]


@pytest.mark.parametrize(
    ("output", "value", "said"),
    [
        ("words", ["{}", "{}"], "Received: array(None"),
        ("spec", "{}", "Received: array(b'{}'"),
        ("spec", [], "Received: array([]"),
        ("spec", [1, 1], "Received: array([1, 1]"),
        ("spec", ["{}", "[]"], "Received: array([b'{}', b'[]']"),
        ("spec", ["1", "1"], "Expected a PreprocessingSpec as a JSON object"),
    ],
)
def test_a_foreign_describe_is_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, value: object, said: str
) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "key")])
    def describe(key: tf.Tensor) -> dict[str, tf.Tensor]:
        return {output: tf.constant(value) if value else tf.zeros([0], tf.string)}

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures={"describe": describe})
    assert main(["check", str(tmp_path)]) == 1
    assert said in capsys.readouterr().out


def test_a_version_in_the_wrong_folder_is_named(copied: Path) -> None:
    moved = copied.rename(copied.with_name("7"))
    assert "expected version 7, the name of the folder. Received: 1" in findings(moved, "contract")["contract"]


def test_other_answers_than_recorded_are_refused(copied: Path) -> None:
    path = copied / GOLDEN_PATH
    record = json.loads(path.read_text())
    record["samples"][2]["probabilities"] = [0.1, 0.2, 0.7]
    path.write_text(json.dumps(record))
    write_checksums(copied)
    assert "serving_default, row 2: expected probabilities within 1e-05" in findings(copied, "golden")["golden"]


def test_other_token_ids_than_recorded_are_refused(copied: Path) -> None:
    path = copied / GOLDEN_PATH
    record = json.loads(path.read_text())
    record["samples"][0]["tokens"][0] += 1
    path.write_text(json.dumps(record))
    write_checksums(copied)
    assert "sample 0: expected the token ids" in findings(copied, "golden")["golden"]


def test_preprocessing_that_differs_in_the_graph_is_refused(
    export: Callable[..., Published], monkeypatch: pytest.MonkeyPatch
) -> None:
    from export.graph.images import ImageDecoder

    whole = ImageDecoder.__call__
    monkeypatch.setattr(ImageDecoder, "__call__", lambda self, data: tf.reverse(255 - whole(self, data), [-1]))
    with pytest.raises(GateError, match=r"parity: serving_bytes, row"):
        export(build_model_that_looks())


def build_model_that_looks() -> keras.Model:
    """A model whose answer is the mean colour, so that any other picture gives another answer."""
    image = keras.Input((24, 32, 3), dtype="uint8", name="image")
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    colour = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 64)(image))
    length = keras.layers.GlobalAveragePooling1D()(
        keras.layers.Embedding(1000, 3, embeddings_initializer="zeros")(tokens)
    )
    return keras.Model([image, tokens], keras.layers.Softmax()(keras.layers.Add()([colour, length])))


def test_a_model_that_is_not_finite_is_refused(export: Callable[..., Published], spec: PreprocessingSpec) -> None:
    broken = build_model(spec)
    broken.layers[-1].bias.assign([float("nan")] * 3)
    with pytest.raises(GateError, match=r"golden: serving_default: expected finite probabilities"):
        export(broken)


def test_a_failing_warmup_record_is_named(copied: Path, spec: PreprocessingSpec) -> None:
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "pets", "serving_bytes"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"no image"]))
    request.inputs["text"].CopyFrom(tf.make_tensor_proto([b"cat"]))
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    with tf.io.TFRecordWriter(str(copied / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    write_checksums(copied)
    found = findings(copied, "warmup")["warmup"]
    assert "record 0: serving_bytes: expected it to run. Received: assertion failed: [Expected image" in found
    assert "expected a record for each signature at each batch size. Received: none for describe of 1 row(s)" in found


def test_warmup_records_that_are_cut_off_are_refused(copied: Path) -> None:
    path = copied / "assets.extra" / "tf_serving_warmup_requests"
    path.write_bytes(path.read_bytes()[:-10])
    write_checksums(copied)
    assert "to be a whole TFRecord file" in findings(copied, "warmup")["warmup"]


@pytest.mark.parametrize(
    ("name", "dtype", "said"),
    [
        ("words", "int32", r"Expected the model to have an input named 'tokens', int32 array of shape \(batch, 6\)"),
        ("tokens", "float32", r"input 'tokens' to be int32 array of shape \(batch, 6\)\. Received: float32"),
    ],
)
def test_a_model_with_other_inputs_is_refused(
    export: Callable[..., Published], name: str, dtype: str, said: str
) -> None:
    image, other = keras.Input((24, 32, 3), dtype="uint8", name="image"), keras.Input((6,), dtype=dtype, name=name)
    seen = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    read = keras.layers.Dense(3)(keras.layers.Rescaling(1.0)(other))
    with pytest.raises(ExportError, match=said):
        export(keras.Model([image, other], keras.layers.Add()([seen, read])))


def test_a_model_with_another_number_of_classes_is_refused(
    export: Callable[..., Published], model: keras.Model
) -> None:
    with pytest.raises(ExportError, match=r"Expected the model's output to be float32 array of shape \(batch, 2\)"):
        export(model, labels=("one", "two"))
