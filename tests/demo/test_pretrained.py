"""The pretrained demo's readers of weights and its encoders, on tiny made-up weights; no package with real ones."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from demo.pretrained.efficientnet_lite import image_encoder
from demo.pretrained.head import fit
from demo.pretrained.minilm import text_encoder
from demo.pretrained.weights import WeightsError, read_torch

TORCH_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_DTYPES = {"float32": "FloatStorage", "int64": "LongStorage"}


class _Torch:
    """Pickles as torch's classes and functions do, by name alone."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]  # the one whose save can be told of globals
    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, _Torch):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        else:
            super().save(value, save_persistent_id)

    def persistent_id(self, value: Any) -> Any:
        return value[1:] if isinstance(value, tuple) and value[:1] == ("persistent",) else None


class _Stored:
    """An array as torch reduces a tensor: a view of a storage."""

    def __init__(self, key: str, array: np.ndarray, strides: tuple[int, ...] | None = None) -> None:
        self.key, self.array = key, array
        self.strides = strides or tuple(each // array.itemsize for each in array.strides)

    def arguments(self) -> tuple[Any, ...]:
        kind = _Torch("torch", _DTYPES[str(self.array.dtype)])
        storage = ("persistent", "storage", kind, self.key, "cpu", self.array.size, None)
        return storage, 0, self.array.shape, self.strides, False, OrderedDict()


def _save(path: Path, tensors: dict[str, _Stored], *, cut: int = 0, magic: int = 0x1950A86A20F9469CFC6C) -> Path:
    """As torch.save wrote before 1.6."""

    class Pickler(_Pickler):
        def save(self, value: Any, save_persistent_id: bool = True) -> None:
            if isinstance(value, _Stored):
                self.save(_Torch("torch._utils", "_rebuild_tensor_v2"))
                super().save(value.arguments())
                self.write(pickle.REDUCE)
            else:
                super().save(value, save_persistent_id)

    with path.open("wb") as file:
        for value in (
            magic,
            1001,
            {"little_endian": True},
            OrderedDict(tensors),
            [each.key for each in tensors.values()],
        ):
            Pickler(file, 2).dump(value)
        for each in tensors.values():
            file.write(struct.pack("<q", each.array.size) + each.array.tobytes())
        file.truncate(file.tell() - cut)
    return path


class TestTorch:
    def test_tensors_come_back(self, tmp_path: Path) -> None:
        arrays = {"one": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(7, np.int64)}
        found = read_torch(_save(tmp_path / "a.pth", {name: _Stored(name, array) for name, array in arrays.items()}))
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)

    def test_strides_count(self, tmp_path: Path) -> None:
        columns = _Stored("one", np.arange(4, dtype=np.float32).reshape(2, 2), strides=(1, 2))
        np.testing.assert_array_equal(read_torch(_save(tmp_path / "a.pth", {"one": columns}))["one"], [[0, 2], [1, 3]])

    def test_no_code_is_run(self, tmp_path: Path) -> None:
        class Code:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "run",)

        (tmp_path / "a.pth").write_bytes(pickle.dumps(Code(), 2))
        with pytest.raises(WeightsError, match="no part of a tensor"):
            read_torch(tmp_path / "a.pth")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"cut": 3}, "bytes of a storage"),
            ({"magic": 1}, "magic number 1"),
            ({"strides": (3, 2)}, "reaches number 5 of a storage of 4"),
            ({"strides": (-1, 1)}, "a tensor that reaches"),
        ],
    )
    def test_a_damaged_file_is_refused(self, tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
        tensor = _Stored("one", np.zeros((2, 2), np.float32), wrong.pop("strides", None))
        with pytest.raises(WeightsError, match=said):
            read_torch(_save(tmp_path / "a.pth", {"one": tensor}, **wrong))

    def test_a_zip_and_a_missing_file_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "new.pth").write_bytes(b"PK\x03\x04" + bytes(99))
        for name in ("new.pth", "none.pth"):
            with pytest.raises(WeightsError, match=name):
                read_torch(tmp_path / name)


def test_minilm_takes_weights_as_hugging_face_names_them() -> None:
    from keras_hub.models import BertBackbone

    theirs = BertBackbone(50, 2, 2, 8, 16, dropout=0, max_sequence_length=9)
    rng = np.random.default_rng(0)
    theirs.set_weights([rng.normal(size=each.shape).astype(np.float32) for each in theirs.get_weights()])
    ids = np.array([[2, 7, 9, 3, 0, 0], [2, 3, 0, 0, 0, 0]], np.int32)
    mask = (ids != 0).astype(np.int32)
    inputs = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": mask}
    sequence = theirs(inputs)["sequence_output"].numpy()
    expected = (sequence * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    ours = text_encoder(6, _named(theirs), width=8, depth=2, heads=2, hidden=16, vocabulary=50)
    found = ours(ids)
    assert [tuple(each.shape) for each in found] == [(2, 8)] * 3
    # KerasHub approximates GELU by a tanh; MiniLM, and so the demo, does not.
    np.testing.assert_allclose(found[-1], expected, atol=1e-3)


def _named(backbone: keras.Model) -> dict[str, np.ndarray]:
    """KerasHub's weights under Hugging Face's names."""
    found: dict[str, np.ndarray] = {}

    def dense(name: str, layer: Any) -> None:
        kernel, bias = layer.get_weights()
        inputs = kernel.shape[0] * (kernel.shape[1] if kernel.ndim == 3 and "output" in name else 1)
        found[f"{name}.weight"] = kernel.reshape(inputs, -1).T
        found[f"{name}.bias"] = bias.reshape(-1)

    def norm(name: str, layer: Any) -> None:
        found[f"{name}.LayerNorm.weight"], found[f"{name}.LayerNorm.bias"] = layer.get_weights()

    (found["embeddings.word_embeddings.weight"],) = backbone.get_layer("token_embedding").get_weights()
    (found["embeddings.position_embeddings.weight"],) = backbone.get_layer("position_embedding").get_weights()
    (found["embeddings.token_type_embeddings.weight"],) = backbone.get_layer("segment_embedding").get_weights()
    norm("embeddings", backbone.get_layer("embeddings_layer_norm"))
    for number in range(2):
        layer, here = backbone.get_layer(f"transformer_layer_{number}"), f"encoder.layer.{number}"
        attention = layer._self_attention_layer
        for name in ("query", "key", "value"):
            dense(f"{here}.attention.self.{name}", getattr(attention, f"_{name}_dense"))
        dense(f"{here}.attention.output.dense", attention._output_dense)
        norm(f"{here}.attention.output", layer._self_attention_layer_norm)
        dense(f"{here}.intermediate.dense", layer._feedforward_intermediate_dense)
        dense(f"{here}.output.dense", layer._feedforward_output_dense)
        norm(f"{here}.output", layer._feedforward_layer_norm)
    return found


class TestEfficientNet:
    stages = ((1, 3, 1, 1, 8), (2, 3, 2, 6, 8))

    def weights(self, model: keras.Model) -> dict[str, np.ndarray]:
        """Random ones for a model, as PyTorch shapes them."""
        rng = np.random.default_rng(0)
        found = {}
        for layer in model.layers:
            for variable in layer.weights:
                name = TORCH_NAMES[variable.name]
                shape = tuple(variable.shape)
                if len(shape) == 4:
                    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                    shape = (*((shape[2], shape[3]) if depthwise else (shape[3], shape[2])), *shape[:2])
                shape = shape[::-1] if len(shape) == 2 else shape
                found[f"_{layer.name}.{name}"] = np.abs(rng.normal(size=shape)).astype(np.float32)
        return found

    def test_it_takes_weights_as_pytorch_names_them(self) -> None:
        options: dict[str, Any] = {"stem": 4, "stages": self.stages, "width": 16, "classes": 5}
        weights = self.weights(image_encoder(32, **options))
        model = image_encoder(32, weights, **options)
        kernel = model.get_layer("blocks.1._depthwise_conv").get_weights()[0]
        np.testing.assert_array_equal(kernel[0, 2, 7, 0], weights["_blocks.1._depthwise_conv.weight"][7, 0, 0, 2])
        kernel = model.get_layer("conv_stem").get_weights()[0]
        np.testing.assert_array_equal(kernel[0, 2, 1, 3], weights["_conv_stem.weight"][3, 1, 0, 2])
        assert model(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 5)

    def test_a_missing_or_other_weight_is_an_error(self) -> None:
        options: dict[str, Any] = {"stem": 4, "stages": self.stages, "width": 16}
        weights = self.weights(image_encoder(32, **options))
        with pytest.raises(WeightsError, match=r"_conv_head\.weight"):
            image_encoder(32, {name: each for name, each in weights.items() if name != "_conv_head.weight"}, **options)
        with pytest.raises(WeightsError, match="conv_stem"):
            image_encoder(32, weights, stem=8, stages=self.stages, width=16)


def test_the_head_learns_what_a_line_cannot_part() -> None:
    rng = np.random.default_rng(0)
    text, image = rng.choice([-1.0, 1.0], (2, 200, 1)) + rng.normal(0, 0.1, (2, 200, 4))
    classes = ((text[:, 0] > 0) ^ (image[:, 0] > 0)).astype(int)
    head = fit([text[:150], image[:150]], [False, True], classes[:150], [str(row // 2) for row in range(150)])
    assert np.mean(head([text[150:], image[150:]]).argmax(axis=1) == classes[150:]) > 0.95
