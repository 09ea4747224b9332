"""A version goes out, is stopped when it is worse, and comes back: on two real replicas."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from serving.local.testing import free_port
from serving.rollout import Busy, OutOfSync, Refused, SettingsError, Stopped, steps
from serving.rollout.command import Command
from serving.rollout.edits import Edit, State
from serving.rollout.replicas.fleet import ReplicaView
from serving.rollout.replicas.watcher import Watcher
from tests.rollout import models
from tests.rollout.site import LIMITS, WAITS, Site


def named(site: Site) -> tuple[tuple[int, ...] | None, dict[str, int]]:
    with site.rollout() as rollout:
        state, _, found = rollout.status()
    assert not found
    return state.versions and tuple(sorted(state.versions)), dict(state.labels)


def interrupt_in(name: str) -> Callable[..., None]:
    """A watch that is interrupted in one of the steps, or a restoring."""

    def watch(command: Command, step: object, *_: object) -> None:
        if name in (step, "restore"):
            raise KeyboardInterrupt

    return watch


def test_a_good_version_becomes_stable_and_the_old_one_stays_for_a_rollback(site: Site) -> None:
    with site.rollout() as rollout:
        outcome = rollout.run(models.GOOD)
        assert [check.step for check in outcome.checks] == ["check", "bake", "watch"]
        assert not outcome.warnings
    assert named(site) == ((1, 2), {"stable": 2, "canary": 2, "previous": 1})
    text = site.config.read_text()
    assert "# Kept by hand. This line stays." in text
    assert "# what clients ask for" in text

    with site.rollout() as rollout:
        rollout.rollback()
    assert named(site) == ((1,), {"stable": 1, "canary": 1, "previous": 1})
    with site.rollout() as rollout:
        assert "nothing to roll back" in rollout.rollback().text


def test_canary_promote_and_retire_are_single_steps(site: Site) -> None:
    with site.rollout() as rollout:
        rollout.canary(models.GOOD)
        assert named(site) == ((1, 2), {"stable": 1, "canary": 2})
        with pytest.raises(Refused) as refused:
            rollout.retire(1)
        assert refused.value.reason == "label-in-use"
        rollout.promote()
        rollout.retire(1)
        rollout.retire(1)  # as after an interruption
    assert named(site) == ((2,), {"stable": 2, "canary": 2})


@pytest.mark.parametrize(
    ("version", "finding"), [(models.WORSE, "same class"), (models.SLOW, "latency")], ids=["worse", "slow"]
)
def test_a_worse_version_is_stopped_by_the_check_and_rolled_back(site: Site, version: int, finding: str) -> None:
    limits = dataclasses.replace(LIMITS, latency_tries=2)
    with site.rollout(limits=limits) as rollout, pytest.raises(Stopped) as stopped:
        rollout.run(version)
    assert stopped.value.step == "check"
    assert stopped.value.undone
    assert any(finding in line for line in stopped.value.findings)
    assert named(site) == ((1,), {"stable": 1})


def test_a_stable_version_is_not_rolled_back_by_the_same_command_again(site: Site) -> None:
    silent = f"127.0.0.1:{free_port()}"
    addresses = (*(replica.address for replica in site.replicas), silent)
    short = dataclasses.replace(WAITS, missing=0.5)
    with site.rollout() as rollout:
        rollout.run(models.GOOD)
        edits = [record for record in rollout.history() if record["event"] == "edit"]
        assert "nothing to do" in rollout.run(models.GOOD).text
    with site.rollout(replicas=addresses, waits=short) as rollout:
        for again in (rollout.run, rollout.promote):
            with pytest.raises(OutOfSync) as behind:
                again(models.GOOD)
            assert any(silent in line for line in behind.value.findings)
        with pytest.raises(OutOfSync):
            rollout.promote()
        assert [record for record in rollout.history() if record["event"] == "edit"] == edits
    assert named(site) == ((1, 2), {"stable": 2, "canary": 2, "previous": 1})


def test_an_interrupted_trial_is_repeated_and_reports_when_it_can_not_be_rolled_back(site: Site) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "watch", interrupt_in("watch"))
        with site.rollout() as rollout, pytest.raises(KeyboardInterrupt):
            rollout.run(models.GOOD)
    site.write(site.config.read_text().replace('version_labels { key: "previous" value: 1 }', ""))
    site.wait_until_in_sync()
    addresses = (*(replica.address for replica in site.replicas), f"127.0.0.1:{free_port()}")
    short = dataclasses.replace(WAITS, missing=0.5, watch=5)
    with site.rollout(replicas=addresses, waits=short) as rollout:
        with pytest.raises(Stopped) as stopped:
            rollout.run(models.GOOD)
        assert stopped.value.step == "watch"
        assert stopped.value.undone is False
        assert "expected a version before 2 to go back to" in stopped.value.advice
    assert named(site) == ((1, 2), {"stable": 2, "canary": 2})


def displaced(site: Site) -> None:
    """Version 2 is stable, 1 is there to go back to, and 3 was stopped, for which 1 had made room."""
    with site.rollout() as rollout:
        rollout.run(models.GOOD)
    with site.rollout() as rollout, pytest.raises(Stopped):
        rollout.canary(models.WORSE)


def test_the_version_unloaded_for_a_stopped_one_is_loaded_again(site: Site) -> None:
    displaced(site)
    assert named(site) == ((1, 2), {"stable": 2, "canary": 2, "previous": 1})
    with site.rollout() as rollout:
        rollout.rollback()
    assert named(site) == ((1,), {"stable": 1, "canary": 1, "previous": 1})


@pytest.mark.slow
def test_the_unloaded_version_is_loaded_again_after_an_interrupted_rollback(site: Site) -> None:
    loose = dataclasses.replace(LIMITS, agreement=0.0, drift=1.0)
    with site.rollout(limits=loose) as rollout:
        rollout.run(models.GOOD)
        rollout.canary(models.WORSE)
    assert named(site) == ((2, 3), {"stable": 2, "canary": 3, "previous": 2})
    with pytest.MonkeyPatch.context() as patch, site.rollout() as rollout:
        patch.setattr(steps, "restore", interrupt_in("restore"))
        with pytest.raises(KeyboardInterrupt):
            rollout.rollback()
    assert named(site) == ((2,), {"stable": 2, "canary": 2, "previous": 2})
    with site.rollout() as rollout:
        assert "loaded again" in rollout.rollback().text
    assert named(site) == ((1, 2), {"stable": 2, "canary": 2, "previous": 1})


@pytest.mark.slow
def test_an_unloaded_version_that_does_not_load_again_is_unnamed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    until_arrived = Watcher.until_arrived

    def stubborn(self: Watcher, step: str, state: State, version: int, before: Sequence[ReplicaView]) -> None:
        if step == "restore":
            raise Stopped(step, "the disk is broken")
        until_arrived(self, step, state, version, before)

    monkeypatch.setattr(Watcher, "until_arrived", stubborn)
    displaced(site)
    site.wait_until_in_sync()
    assert named(site) == ((2,), {"stable": 2, "canary": 2, "previous": 2})


@pytest.mark.slow
def test_an_unloaded_version_that_left_the_store_is_not_restored(site: Site, tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    for version in (models.GOOD, models.WORSE):
        (tmp_path / "pets" / str(version)).symlink_to(site.store / "pets" / str(version))
    with site.rollout() as rollout:
        rollout.run(models.GOOD)
    with site.rollout(store=tmp_path) as rollout, pytest.raises(Stopped) as stopped:
        rollout.canary(models.WORSE)
    assert stopped.value.undone
    assert named(site) == ((2,), {"stable": 2, "canary": 2, "previous": 2})


def test_a_version_without_a_known_class_is_refused_unless_allowed(site: Site) -> None:
    with site.rollout() as rollout, pytest.raises(Refused) as refused:
        rollout.canary(models.FEWER)
    assert refused.value.reason == "contract"
    assert named(site) == ((1,), {"stable": 1})
    loose = dataclasses.replace(LIMITS, agreement=0.0, drift=1.0)
    with site.rollout(allow_contract=True, limits=loose) as rollout:
        rollout.canary(models.FEWER)
    assert named(site)[1]["canary"] == models.FEWER


def test_a_change_of_shape_is_refused_for_fixed_clients(site: Site) -> None:
    with site.rollout(clients="fixed") as rollout, pytest.raises(Refused) as refused:
        rollout.canary(models.GOOD)
    assert refused.value.reason == "contract"
    assert any("image" in line for line in refused.value.findings)


def test_each_refusal_has_a_reason(site: Site) -> None:
    with site.rollout() as rollout:
        for command, version, reason in (
            (rollout.canary, 99, "unknown-version"),
            (rollout.canary, 1, "is-stable"),
            (rollout.promote, models.GOOD, "not-available"),
            (rollout.retire, 1, "label-in-use"),
            (rollout.retire, 99, "not-named"),
        ):
            with pytest.raises(Refused) as refused:
                command(version)
            assert refused.value.reason == reason
    assert named(site) == ((1,), {"stable": 1})


def test_a_silent_replica_is_reported(site: Site) -> None:
    silent = f"127.0.0.1:{free_port()}"
    addresses = (*(replica.address for replica in site.replicas), silent)
    short = dataclasses.replace(WAITS, missing=0.5)
    with site.rollout(replicas=addresses, waits=short) as rollout, pytest.raises(Refused) as refused:
        rollout.canary(models.GOOD)
    assert refused.value.reason == "replicas"
    assert any(silent in line for line in refused.value.findings)


def test_a_rollback_does_not_wait_for_missing_replicas(site: Site) -> None:
    with site.rollout() as rollout:
        rollout.canary(models.GOOD)
    silent = f"127.0.0.1:{free_port()}"
    addresses = (*(replica.address for replica in site.replicas), silent)
    short = dataclasses.replace(WAITS, missing=0.5)
    with site.rollout(replicas=addresses, waits=short) as rollout:
        outcome = rollout.rollback()
    assert [line for line in outcome.warnings if silent in line]
    assert named(site) == ((1,), {"stable": 1, "canary": 1})


def test_a_dry_run_shows_every_edit_and_makes_none(site: Site) -> None:
    before = site.config.read_text()
    with site.rollout(dry_run=True) as rollout:
        outcome = rollout.run(models.GOOD)
        assert [step for step, _ in outcome.edits] == ["load", "canary", "stable"]
        assert [step for step, _ in rollout.plan(models.GOOD)] == ["load", "canary", "stable"]
        assert rollout.history() == []
    assert '+    version_labels { key: "canary" value: 2 }' in outcome.edits[1][1]
    assert site.config.read_text() == before


def test_the_history_has_who_did_what_with_which_figures(site: Site) -> None:
    with site.rollout() as rollout:
        rollout.canary(models.GOOD)
        with pytest.raises(Refused):
            rollout.canary(models.WORSE)
        records = rollout.history()
    assert [record["event"] for record in records] == [
        "started", "edit", "check", "edit", "finished", "started", "refused",
    ]  # fmt: skip
    assert all(record["who"] and record["time"] and record["version"] in (2, 3) for record in records)
    check = records[2]["figures"]
    assert {figures["address"] for figures in check["replicas"]} == {replica.address for replica in site.replicas}
    assert check["comparison"]["agreement"] == 1.0
    assert all(figures["latency"]["new_p99"] > 0 for figures in check["replicas"])
    assert records[-1]["reason"] == "other-rollout"


def test_a_failing_hook_stops_the_rollout(site: Site) -> None:
    hook = (sys.executable, "-c", "import os; raise SystemExit(f\"errors on {os.environ['DUOSERVE_VERSION']}\")")
    with site.rollout(hook=hook) as rollout, pytest.raises(Stopped) as stopped:
        rollout.canary(models.GOOD)
    assert any("errors on 2" in line for line in stopped.value.findings)
    assert named(site) == ((1,), {"stable": 1})


def test_a_failure_after_an_edit_is_rolled_back_as_failed_not_stopped(site: Site, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text("no program")
    hook.chmod(0o755)
    with site.rollout(hook=(str(hook),)) as rollout, pytest.raises(SettingsError) as failed:
        rollout.run(models.GOOD)
    assert failed.value.undone
    assert named(site) == ((1,), {"stable": 1})
    with site.rollout() as rollout:
        last = rollout.history()[-1]
    assert (last["event"], last["undone"]) == ("failed", True)


def test_an_edit_by_somebody_else_during_a_rollout_is_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Command.write

    def late(self: Command, edit: Edit, *, urgent: bool = False) -> None:
        if edit.step == "canary":
            site.write(site.config.read_text().replace("Kept by hand", "Changed by hand"))
        write(self, edit, urgent=urgent)

    monkeypatch.setattr(Command, "write", late)
    with site.rollout() as rollout, pytest.raises(Busy) as busy:
        rollout.run(models.GOOD)
    assert busy.value.undone is False
    assert "see `status`" in busy.value.advice
    assert named(site) == ((1, 2), {"stable": 1})
    assert "Changed by hand" in site.config.read_text()


@pytest.mark.parametrize("step", ["adopt", "load"])
def test_an_edit_of_an_older_file_is_not_made(site: Site, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    make, texts = getattr(State, step), []

    def late(self: State, *facts: object) -> Edit | None:
        edit: Edit | None = make(self, *facts)
        texts.append(f"{site.config.read_text()}# Added by hand.\n")
        site.write(texts[-1])
        return edit

    if step == "adopt":
        site.write(site.config.read_text().replace('    version_labels { key: "stable" value: 1 }\n', ""))
    monkeypatch.setattr(State, step, late)
    with site.rollout() as rollout, pytest.raises(Busy):
        rollout.adopt() if step == "adopt" else rollout.canary(models.GOOD)
    assert site.config.read_text() == texts[-1]


def test_adopt_names_what_serves_under_the_policy_latest(site: Site) -> None:
    alone = site.config.parent / "alone"
    alone.mkdir()
    (alone / "1").symlink_to(site.store / "pets" / "1")
    site.write(
        site.config.read_text()
        .replace("model_version_policy { specific { versions: 1 } }", "model_version_policy { latest {} }")
        .replace('    version_labels { key: "stable" value: 1 }\n', "")
        .replace(f"{site.store}/pets", str(alone))
    )
    site.wait_until_in_sync()
    with site.rollout() as rollout:
        with pytest.raises(Refused) as refused:
            rollout.canary(models.GOOD)
        assert refused.value.reason == "not-adopted"
        rollout.adopt()
        (alone / "2").symlink_to(site.store / "pets" / "2")
        rollout.canary(models.GOOD)
    assert named(site) == ((1, 2), {"stable": 1, "canary": 2})
