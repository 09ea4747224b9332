"""The model card: how a version came to be, as JSON that people and scripts read."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf

from duoserve.contract import PreprocessingSpec, signatures

__all__ = ["CARD_PATH", "make_card", "read_card"]

CARD_PATH: Final = "assets.extra/card.json"
"""Relative to the version's folder."""


def make_card(
    *,
    name: str,
    spec: PreprocessingSpec,
    parameters: int,
    weights: Mapping[str, Any],
    graph: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> str:
    """JSON with the versions of everything, the contract and what the training reported.

    Args:
        name: The model's name.
        spec: The spec of this version.
        parameters: Number of weights.
        weights: How they are stored: `type`, and what that costs, where it costs something.
        graph: Which rules made it cheaper to serve, and where the weights are.
        facts: From the training: metrics, data digest, seed, preset … Must be JSON.
    """
    card = {
        "format": 1,
        "name": name,
        "version": spec.version,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
        "git_commit": _git_commit(),
        "parameters": parameters,
        "weights": dict(weights),
        "graph": dict(graph),
        "training": dict(facts),
        "contract": {
            "digest": spec.digest,
            "answer": spec.answer.record(),
            "labels": list(spec.labels),
            "optional": list(spec.optional),
            "signatures": {
                signature.name: {
                    "inputs": {tensor.name: str(tensor) for tensor in signature.inputs},
                    "outputs": {tensor.name: str(tensor) for tensor in signature.outputs},
                }
                for signature in signatures(spec).values()
            },
        },
    }
    return json.dumps(card, ensure_ascii=False, indent=1) + "\n"


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a version's folder; empty where there is none that can be read."""
    try:
        card = json.loads((folder / CARD_PATH).read_bytes())
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _git_commit() -> str | None:
    """The commit of the code that exports, with "+" where it has changes; None outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+"],  # noqa: S607  git, wherever it is
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
