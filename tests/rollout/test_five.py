"""Five replicas under constant load: a good version goes out, each bad one is stopped, no user notices."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.rollout import models
from tests.rollout.load import Load
from tests.rollout.scenario import FAULTS, copy_half, play
from tests.rollout.site import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_no_call_fails_or_is_wrong_during_seven_rollouts(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    copy_half(tmp_path / "store")
    with running(tmp_path / "store", tmp_path, FAULTS) as site:
        addresses = [replica.address for replica in site.replicas]
        with Load(addresses, site.store, site.config) as load:
            acts = {act.name: act for act in play(site)}
        assert {name: act.ended for name, act in acts.items()} == {
            "good version": "out",
            "rolled back": "back",
            "worse answers": "check, undone",
            "slow": "check, undone",
            "fails to load on one replica": "load, undone",
            "crashes a server": "load, undone",
            "half copied": "refused: checksums",
        }
        assert addresses[3] in acts["fails to load on one replica"].findings[0]
        assert addresses[4] in acts["crashes a server"].findings[0]
        assert site.replicas[4].starts > 1
        assert [replica.starts for replica in site.replicas[:4]] == [1] * 4
    assert load.failed() == []
    assert load.wrong() == []
    assert {call.version for call in load.calls if call.label == "stable"} == {1, 2}
    assert models.GOOD in {call.version for call in load.calls if call.label == "canary"}
