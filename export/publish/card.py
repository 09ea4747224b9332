"""The model card: how a version was made, as JSON for people and scripts."""

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
    server_version: str,
    parameters: int,
    weights: Mapping[str, Any],
    graph: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> str:
    """JSON with software versions, the contract and the training's report.

    Args:
        name: The model's name.
        spec: The spec of this version.
        server_version: The TensorFlow of the server that it is meant for.
        parameters: Number of weights.
        weights: How they are stored: `type`, and its cost, if any.
        graph: Which optimisation rules were applied, and where the weights are.
        facts: From the training: metrics, data digest, seed, preset … Must be JSON.
    """
    card = {
        "format": 1,
        "name": name,
        "version": spec.version,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "tensorflow": tf.__version__,
        "server": server_version,
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
    """The card of a version's folder; empty if there is no readable one."""
    try:
        card = json.loads((folder / CARD_PATH).read_bytes())
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _git_commit() -> str | None:
    """The commit of the exporting code, with "+" if it has changes; None outside a checkout."""
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
