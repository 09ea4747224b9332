"""The entries of the audit log: who did what, when, with which figures. One JSON object a line, never rewritten."""

import contextlib
import dataclasses
import getpass
import json
import os
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any


def line(record: Mapping[str, Any]) -> str:
    """An entry as a line of JSON."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def parse(text: str) -> list[dict[str, Any]]:
    """The entries in the text of a history."""
    found = []
    for text_line in text.split("\n"):
        with contextlib.suppress(ValueError):  # cut by a power failure
            found.append(json.loads(text_line))
    return [record for record in found if isinstance(record, dict)]


def entry(event: str, command: str, model: str, **facts: Any) -> dict[str, Any]:
    """An entry with the current time and user."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "who": operator(),
        "command": command,
        "model": model,
        "event": event,
        **facts,
    }


def was_retired(records: Sequence[Mapping[str, Any]], version: int) -> bool:
    """Whether a version was unnamed by `retire`."""
    return any(_edit(record) == "retire" and record.get("version") == version for record in records)


def is_under_way(records: Sequence[Mapping[str, Any]], version: int) -> bool:
    """Whether `stable` moved to a version in a command that has not finished: it is still on trial."""
    for record in reversed(records):
        if _edit(record) is not None:
            return _edit(record) == "stable" and bool(record.get("version") == version)
        if record.get("event") == "finished" and record.get("command") in ("run", "promote"):
            return False
    return False


@dataclasses.dataclass(frozen=True, slots=True)
class Displaced:
    """The versions that were unloaded for another one, `version`, and the labels at that time."""

    version: int
    made_by: tuple[int, ...]
    stable: int | None
    previous: int | None


def displaced(records: Sequence[Mapping[str, Any]]) -> Displaced | None:
    """The versions that the newest load unloaded; None if none, or if another version was edited since."""
    since: set[Any] = set()
    for record in reversed(records):
        step, version = _edit(record), record.get("version")
        if step == "load":
            facts = record.get("room")
            if not isinstance(facts, Mapping) or not isinstance(version, int) or since - {version}:
                return None
            return Displaced(version, tuple(facts.get("made_by", ())), facts.get("stable"), facts.get("previous"))
        if step in ("retire", "adopt"):
            return None
        since |= {version} if step is not None else set()
    return None


def _edit(record: Mapping[str, Any]) -> str | None:
    """The step of an entry about an edit; None for another entry."""
    return str(record.get("step")) if record.get("event") == "edit" else None


def operator() -> str:
    """user@host, process id."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"
