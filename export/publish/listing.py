"""The content of a store, for people and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from export.errors import StoreError
from export.publish.card import read_card
from export.publish.store import ModelStore
from export.table import aligned

__all__ = ["list_versions", "table"]


def list_versions(root: Path, name: str | None = None) -> list[dict[str, Any]]:
    """A record for each version, by model name and number: size, date, origin and quality.

    Raises:
        StoreError: `root` is not a readable folder, or has no model of that name.
    """
    try:
        names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise StoreError(f"Expected {root} to be a folder with models. Received: {error}") from error
    if name is not None:
        if name not in names:
            raise StoreError(f"Expected a model named {name} in {root}. Received: {', '.join(names) or 'no models'}")
        names = [name]
    return [
        _record(store, version) for store in (ModelStore(root, each) for each in names) for version in store.versions()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The records as a table."""
    cells = [("MODEL", "VERSION", "CREATED", "SIZE", "ACCURACY", "DIGEST")]
    for row in rows:
        accuracy = row["accuracy"]
        cells.append(
            (
                row["name"],
                str(row["version"]),
                row["created"] or "-",
                f"{row['bytes'] / 1e6:.1f} MB",
                "-" if accuracy is None else f"{accuracy:.1%}",
                (row["digest"] or "-")[:12],
            )
        )
    return aligned(cells)


def _record(store: ModelStore, version: int) -> dict[str, Any]:
    path = store.path_of(version)
    card = read_card(path)
    return {
        "name": store.name,
        "version": version,
        "path": str(path),
        "created": card.get("created"),
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "accuracy": card.get("training", {}).get("metrics", {}).get("accuracy"),
        "digest": card.get("contract", {}).get("digest"),
    }
