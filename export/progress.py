"""Progress bars."""

from typing import Any

from tqdm import tqdm


def progress_bar(items: Any, description: str, progress: bool | None, *, unit: str = "row", **options: Any) -> Any:
    """The items under a bar; `progress` is whether to draw it, None draws it on a terminal only."""
    return tqdm(items, description, unit=unit, disable=None if progress is None else not progress, **options)
