"""The audit log, read by a command that runs again."""

from __future__ import annotations

from typing import Any

import pytest

from serving.rollout.storage.entries import Displaced, displaced, is_under_way, was_retired


def records(*events: str) -> list[dict[str, Any]]:
    """Entries from "COMMAND VERSION EVENT [STEP]"."""
    names = ("command", "version", "event", "step")
    found: list[dict[str, Any]] = [dict(zip(names, line.split(), strict=False)) for line in events]
    return [{**record, "version": int(record["version"])} for record in found]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], False),
        (["run 8 edit load", "run 8 edit canary"], False),
        (["run 8 edit stable"], True),
        (["run 8 edit stable", "run 8 started", "run 8 interrupted", "run 8 started"], True),
        (["run 8 edit stable", "run 8 finished"], False),
        (["run 8 edit stable", "run 8 finished", "run 8 started", "run 8 failed"], False),
        (["run 8 edit stable", "run 8 edit withdraw", "run 8 stopped"], False),
        (["promote 8 edit stable", "promote 8 finished"], False),
        (["run 8 edit stable", "run 9 started", "run 9 edit load"], False),
        (["run 7 edit stable"], False),
    ],
)
def test_a_trial_ends_with_its_command(events: list[str], expected: bool) -> None:
    assert is_under_way(records(*events), 8) is expected


def test_a_retired_version_is_known() -> None:
    found = records("retire 7 started", "retire 7 edit retire", "canary 8 edit load")
    assert was_retired(found, 7)
    assert not was_retired(found, 8)


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([], True),
        (["canary 8 edit canary", "canary 8 edit withdraw", "rollback 8 edit restore", "rollback 8 finished"], True),
        (["run 8 edit canary", "run 8 edit stable", "run 9 started", "run 9 refused"], True),
        (["canary 9 edit load"], False),
        (["retire 6 edit retire"], False),
        (["rollback 7 edit withdraw"], False),
    ],
)
def test_the_unloaded_version_is_known_until_another_version_is_edited(events: list[str], found: bool) -> None:
    load = {**records("run 8 edit load")[0], "room": {"made_by": [6], "stable": 7, "previous": 6}}
    assert displaced([load, *records(*events)]) == (Displaced(8, (6,), 7, 6) if found else None)


def test_a_load_that_unloaded_nothing_has_nothing_to_restore() -> None:
    assert displaced(records("run 8 edit load", "run 8 edit withdraw")) is None
