"""The tool is killed at every step and run again: it continues, and no user notices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rollout import models
from tests.rollout.load import Load
from tests.rollout.site import Site

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MOMENTS = [
    "before:load",
    "after:load",
    "during:check",
    "before:canary",
    "after:canary",
    "during:bake",
    "before:stable",
    "after:stable",
    "during:watch",
]


def command(site: Site, *arguments: str, kill: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.rollout.killed", *arguments, "--settings", site.settings_file(), "--json"],
        cwd=ROOT,
        env={**os.environ, "DUOSERVE_TEST_KILL": kill},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_rollout_killed_at_every_step_continues_when_run_again(site: Site) -> None:
    with Load([replica.address for replica in site.replicas], site.store, site.config) as load:
        for moment in MOMENTS:
            assert command(site, "run", str(models.GOOD), kill=moment).returncode == -signal.SIGKILL, moment
        done = command(site, "run", str(models.GOOD))
        assert done.returncode == 0, done.stderr
        status = json.loads(command(site, "status").stdout)
        assert status["config"]["labels"] == {"stable": 2, "canary": 2, "previous": 1}
        assert status["out_of_sync"] == []
        assert command(site, "rollback", kill="before:withdraw").returncode == -signal.SIGKILL
        assert command(site, "rollback", kill="after:withdraw").returncode == -signal.SIGKILL
        assert command(site, "rollback").returncode == 0
    assert len(load.calls) > 100
    assert load.failed() == []
    assert load.wrong() == []
    assert {call.version for call in load.calls if call.label == "stable"} == {1, 2}
    assert models.GOOD in {call.version for call in load.calls if call.label == "canary"}
    status = json.loads(command(site, "status").stdout)
    assert status["config"] == {"versions": [1], "labels": {"stable": 1, "canary": 1, "previous": 1}}


@pytest.mark.parametrize("moment", ["after:load", "after:canary", "after:stable"])
def test_a_killed_rollout_can_be_rolled_back(site: Site, moment: str) -> None:
    assert command(site, "run", str(models.GOOD), kill=moment).returncode == -signal.SIGKILL
    done = command(site, "rollback")
    assert done.returncode == 0, done.stderr
    status = json.loads(command(site, "status").stdout)
    assert status["config"]["labels"]["stable"] == 1
    assert status["config"]["versions"] == [1]
    site.wait_until_in_sync()  # a server that read the file just before the edit loads the version first, then drops it
