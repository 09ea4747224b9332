"""Faults on one replica, or in the folder: stopped at the right step, and rolled back. More: test_five.py."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from duoserve.artifact.checksums import write_checksums
from duoserve.artifact.samples import GOLDEN_PATH, dump_samples, load_samples
from duoserve.contract import ONE_CLASS
from serving.rollout import Refused, Stopped
from tests.rollout import models
from tests.rollout.site import WAITS, Replica, Site

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spoiled(pair: Site) -> Iterator[Site]:
    """A sound replica, and one beside it that dies when GOOD is asked and answers NaN as REFUSED."""
    replica = Replica(pair.config, pair.store, f"dies:{models.GOOD},nan:{models.REFUSED}")
    try:
        replica.server.wait_until_ready()
        yield Site(pair.store, pair.config, [pair.replicas[0], replica])
    finally:
        replica.stop()


@pytest.mark.parametrize(
    ("version", "said"),
    [(models.GOOD, "expected answers"), (models.REFUSED, "unusable")],
    ids=["crashes when it is asked", "NaN"],
)
def test_one_bad_replica_stops_the_rollout(spoiled: Site, version: int, said: str) -> None:
    site = spoiled
    site.reset()
    with site.rollout() as rollout, pytest.raises(Stopped) as stopped:
        rollout.run(version)
    assert stopped.value.step == "check"
    assert stopped.value.undone
    bad = site.replicas[1].address
    assert any(bad in line and said in line for line in stopped.value.findings), stopped.value.findings
    assert not any(site.replicas[0].address in line for line in stopped.value.findings)
    site.wait_until_in_sync()
    with site.rollout() as rollout:
        state, _, _ = rollout.status()
    assert state.versions == (1,)


def test_the_rehearsal_stops_a_crashing_version_before_any_replica_loads_it(site: Site) -> None:
    command = ("env", f"DUOSERVE_TEST_FAULT=crash:{models.GOOD}", sys.executable, "-m", "tests.rollout.faulty")
    starts = [replica.starts for replica in site.replicas]
    with site.rollout(rehearsal=command) as rollout, pytest.raises(Stopped) as stopped:
        rollout.run(models.GOOD)
    assert stopped.value.step == "rehearse"
    assert any("139" in line for line in stopped.value.findings)
    with site.rollout() as rollout:
        assert "edit" not in [record["event"] for record in rollout.history()]
    assert [replica.starts for replica in site.replicas] == starts


def test_the_rehearsal_passes_a_sound_version(site: Site) -> None:
    with site.rollout(rehearsal="auto") as rollout:
        rollout.canary(models.GOOD)


def test_a_restarting_replica_is_waited_for(site: Site) -> None:
    with site.rollout() as rollout:
        rollout.canary(models.GOOD)
    site.replicas[1].server.process.kill()
    with site.rollout(waits=dataclasses.replace(WAITS, bake=5)) as rollout:
        # It may be seen missing at once, which is refused; else it is waited for.
        try:
            rollout.promote()
        except Refused:
            site.wait_until_in_sync()
            rollout.promote()
    site.wait_until_in_sync()


def test_a_version_whose_answers_differ_from_export_is_stopped(site: Site, tmp_path: Path) -> None:
    version = str(models.SLOW)  # it has both signatures
    folder = Path(shutil.copytree(site.store / "pets" / version, tmp_path / "pets" / version))
    golden = load_samples((folder / GOLDEN_PATH).read_bytes())
    off = tuple(value + shift for value, shift in zip(golden[3].values, (0.002, -0.002, 0), strict=True))
    golden = (*golden[:3], dataclasses.replace(golden[3], values=off), *golden[4:])
    (folder / GOLDEN_PATH).write_text(dump_samples(golden, ONE_CLASS))
    write_checksums(folder)
    with site.rollout(store=tmp_path) as rollout, pytest.raises(Stopped) as stopped:
        rollout.canary(models.SLOW)
    assert stopped.value.step == "check"
    found = [line for line in stopped.value.findings if "golden sample 3" in line and "0.002 off" in line]
    assert len(found) == 2 * len(site.replicas)  # by tensors and by bytes, on every replica


@pytest.mark.skipif(not models.HAS_BFLOAT16, reason="this processor computes in float32 only")
def test_a_server_in_bfloat16_may_be_as_far_off_as_the_card_expects(site: Site, tmp_path: Path) -> None:
    """What is allowed is allowed there only: the same version with a card that expects nothing is stopped."""
    folder = Path(shutil.copytree(site.store / "pets" / "3", tmp_path / "pets" / "3"))
    card = folder / "assets.extra/card.json"
    content = json.loads(card.read_text())
    assert 1e-3 < content["graph"].pop("bfloat16")["difference"] < 0.1
    card.write_text(json.dumps(content))
    write_checksums(folder)
    server = (sys.executable, "-m", "serving.local", "--mixed_precision=bfloat16")
    for store, step in ((tmp_path, "rehearse"), (site.store, "check")):
        with site.rollout(rehearsal=server, store=store) as rollout, pytest.raises(Stopped) as stopped:
            rollout.canary(models.WORSE)
        assert stopped.value.step == step
        in_golden = [line for line in stopped.value.findings if "golden sample" in line and "within 0.001" in line]
        assert bool(in_golden) is (step == "rehearse"), stopped.value.findings


def of_a_newer_tensorflow(folder: Path) -> None:
    card = folder / "assets.extra" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"tensorflow": "2.99.0"}))
    write_checksums(folder)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda folder: shutil.rmtree(folder / "variables"), "checksums"),
        (lambda folder: (folder / "assets.extra/golden.json").unlink(), "missing-files"),
        (
            lambda folder: os.truncate(folder / "saved_model.pb", 1 + (folder / "saved_model.pb").stat().st_size),
            "checksums",
        ),
        (lambda folder: folder.rename(folder.with_name("3")), "card"),
        (of_a_newer_tensorflow, "newer"),
    ],
    ids=["half copied", "no samples", "tampered", "renamed", "exported for newer servers"],
)
def test_a_changed_folder_is_refused(site: Site, tmp_path: Path, harm: Callable[[Path], object], reason: str) -> None:
    folder = Path(shutil.copytree(site.store / "pets" / "2", tmp_path / "pets" / "2"))
    harm(folder)
    version = 2 if folder.exists() else 3
    with site.rollout(store=tmp_path) as rollout, pytest.raises(Refused) as refused:
        rollout.canary(version)
    assert refused.value.reason == reason
    with site.rollout() as rollout:
        assert rollout.status()[0].versions == (1,)
