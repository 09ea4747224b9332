"""The model card: how a version was made, as JSON for people and scripts; and the list of a store's versions."""

import json
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf

from duoserve.console import aligned
from duoserve.contract import PreprocessingSpec, signatures
from export.errors import StoreError
from export.measures import FIGURES, as_text
from export.publish.store import ModelStore

CARD_PATH: Final = "assets.extra/card.json"
"""Relative to the version's folder."""


def make_card(
    *,
    name: str,
    spec: PreprocessingSpec,
    server_version: str,
    parameters: int,
    weights: dict[str, Any],
    graph: dict[str, Any],
    facts: dict[str, Any],
) -> str:
    """JSON with software versions, the contract, and what is known about the model.

    That is the server's TensorFlow, the number of `parameters`, the type and cost of its `weights`, how the `graph` was
    optimised, and `facts` about its training.
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
        "weights": weights,
        "graph": graph,
        "training": facts,
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


def list_versions(root: Path, name: str | None = None) -> list[dict[str, Any]]:
    """A record for each version, by model name and number: size, date, origin and quality.

    Raises:
        StoreError: `root` is not a readable folder, or has no model of that name.
    """
    try:
        names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise StoreError(f"Expected {root} to be a folder with models. Received: {error}") from error
    if name is not None and name not in names:
        raise StoreError(f"Expected a model named {name} in {root}. Received: {', '.join(names) or 'no models'}")
    stores = [ModelStore(root, each) for each in names if name in (None, each)]
    return [_record(store, version) for store in stores for version in store.versions()]


def table(rows: list[dict[str, Any]]) -> str:
    """The records as a table."""
    cells = [("MODEL", "VERSION", "CREATED", "SIZE", "QUALITY", "DIGEST")]
    for row in rows:
        quality = "-"
        if row["quality"] is not None:
            quality = f"{FIGURES[row['measure']]} {as_text(row['measure'], row['quality'])}"
        size, digest = f"{row['bytes'] / 1e6:.1f} MB", (row["digest"] or "-")[:12]
        cells.append((row["name"], str(row["version"]), row["created"] or "-", size, quality, digest))
    return aligned(cells)


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


def _record(store: ModelStore, version: int) -> dict[str, Any]:
    path = store.path_of(version)
    card = read_card(path)
    metrics = card.get("training", {}).get("metrics", {})
    measure = next((each for each in FIGURES if metrics.get(each) is not None), None)
    return {
        "name": store.name,
        "version": version,
        "path": str(path),
        "created": card.get("created"),
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "accuracy": metrics.get("accuracy"),
        "measure": measure,
        "quality": None if measure is None else metrics[measure],
        "digest": card.get("contract", {}).get("digest"),
    }
