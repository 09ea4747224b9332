"""Checks that refuse a command, with a reason, before anything is changed."""

from __future__ import annotations

import time

from duoserve import DuoserveError
from serving.rollout.command import Command
from serving.rollout.errors import Refused
from serving.rollout.package import Package, contract_of, incompatible
from serving.rollout.replicas.sync import differences, shown

__all__ = [
    "refuse_beside_another",
    "refuse_incompatible",
    "refuse_out_of_sync",
    "refuse_unavailable",
    "refuse_without_canary",
]


def refuse_beside_another(command: Command, version: int) -> None:
    """Refuses while another version is under way, or this one is stable already."""
    state, labels = command.state(), command.settings.labels
    if state.stable == version:
        raise Refused("is-stable", f"expected another version than {labels.stable}. Received: {version}")
    canary = state.labels.get(labels.canary)
    if canary not in (None, state.stable, version):
        raise Refused(
            "other-rollout",
            f"expected no other version under way. Received: {labels.canary} is at {canary}"
            " (promote it or roll it back first)",
        )


def refuse_out_of_sync(command: Command, version: int) -> None:
    """Refuses while replicas are missing or differ from the file in more than this version."""
    begin = time.monotonic()
    state = command.state()
    while True:
        views = command.watcher.look(state)
        found = [str(one) for one in differences(state, views) if not one.versions or one.versions - {version}]
        found += command.watcher.short(views)
        if not found:
            return
        # A run that was killed right after an edit leaves replicas that have not read it yet.
        if command.dry_run or time.monotonic() - begin > command.settings.waits.missing:
            raise Refused("replicas", "expected every replica to answer and to follow the file. Received:", found)
        command.reporter.progress("replicas", 0, len(views), found[0])
        time.sleep(command.settings.waits.poll)


def refuse_incompatible(command: Command, package: Package) -> None:
    """Refuses a contract that clients of the stable version can't follow. The check asks the live version again."""
    stable = command.against(package.version)
    for address in command.fleet.addresses() if not command.allow_contract else ():
        try:
            old = command.fleet.client(address, stable).preprocessor().spec
        except DuoserveError:
            continue  # ask another replica
        findings = incompatible(contract_of(old), package.contract, command.settings.clients)
        if findings:
            raise Refused(
                "contract",
                f"expected version {package.version} to fit the clients of version {stable}. Received:",
                findings,
            )
        return


def refuse_unavailable(command: Command, version: int) -> None:
    """Refuses a version that does not serve on every replica."""
    if command.dry_run and command.pretends:
        return
    state = command.state()
    views = command.watcher.look(state)
    findings = [
        f"{view.address}: {view.error or shown(view, version)}" for view in views if not view.available(version)
    ]
    if state.versions is not None and version not in state.versions:
        findings.append("models.config does not name it")
    findings += command.watcher.short(views)
    if findings:
        raise Refused(
            "not-available", f"expected version {version} to be AVAILABLE on every replica. Received:", findings
        )


def refuse_without_canary(command: Command, version: int) -> None:
    """Refuses to promote a version that is not the canary."""
    canary = command.settings.labels.canary
    at = command.state().labels.get(canary)
    if at != version:
        received = at or "no such label"
        raise Refused(
            "no-canary",
            f"expected {canary} at version {version}. Received: {received} (run `canary {version}` first)",
        )
