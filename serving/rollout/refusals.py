"""What is refused, by name, before anything is changed."""

from __future__ import annotations

import time

from duoserve import DuoserveError
from serving.rollout.errors import Refused
from serving.rollout.package import Package, contract_of, incompatible
from serving.rollout.replicas.sync import drift, shown
from serving.rollout.session import Session

__all__ = [
    "refuse_unless_available",
    "refuse_unless_calm",
    "refuse_unless_canary",
    "refuse_unless_compatible",
    "refuse_unless_free",
]


def refuse_unless_free(session: Session, version: int) -> None:
    """Refuses while another version is under way, or this one is stable already."""
    state = session.state()
    if state.stable == version:
        raise Refused(
            "is-stable", f"expected another version than {session.settings.labels.stable}. Received: {version}"
        )
    canary = state.labels.get(session.settings.labels.canary)
    if canary not in (None, state.stable, version):
        raise Refused(
            "other-rollout",
            f"expected no other version under way. Received: {session.settings.labels.canary} is at {canary}"
            " (promote it or roll it back first)",
        )


def refuse_unless_calm(session: Session, version: int) -> None:
    """Refuses while replicas are missing or differ from the file in more than this version."""
    begin = time.monotonic()
    state = session.state()
    while True:
        views = session.watcher.look(state)
        found = [str(one) for one in drift(state, views) if not one.versions or one.versions - {version}]
        found += session.watcher.short(views)
        if not found and views:
            return
        # A run that was killed right after an edit left replicas that have not read it yet.
        if session.dry_run or time.monotonic() - begin > session.settings.waits.missing:
            raise Refused(
                "replicas",
                "expected every replica to answer and to follow the file. Received:",
                found or ["no replicas"],
            )
        session.reporter.progress("replicas", 0, len(views), found[0] if found else "no replicas")
        time.sleep(session.settings.waits.poll)


def refuse_unless_compatible(session: Session, package: Package) -> None:
    """Refuses a contract that clients of the stable version can't follow. The gate asks the live version again."""
    stable = session.against(package.version)
    for address in session.fleet.addresses() if not session.allow_contract else ():
        try:
            old = session.fleet.client(address, stable).preprocessor().spec
        except DuoserveError:
            continue  # another replica will do
        findings = incompatible(contract_of(old), package.contract, session.settings.clients)
        if findings:
            raise Refused(
                "contract",
                f"expected clients of version {stable} to get along with {package.version}. Received:",
                findings,
            )
        return


def refuse_unless_available(session: Session, version: int) -> None:
    """Refuses a version that does not serve on every replica."""
    if session.dry_run and session.pretends:
        return
    state = session.state()
    views = session.watcher.look(state)
    findings = [
        f"{view.address}: {view.error or shown(view, version)}" for view in views if not view.available(version)
    ]
    if state.versions is not None and version not in state.versions:
        findings.append("models.config does not name it")
    findings += session.watcher.short(views)
    if findings or not views:
        raise Refused(
            "not-available",
            f"expected version {version} to be AVAILABLE on every replica. Received:",
            findings or ["no replicas"],
        )


def refuse_unless_canary(session: Session, version: int) -> None:
    """Refuses to promote what was no canary."""
    at = session.state().labels.get(session.settings.labels.canary)
    if at != version:
        raise Refused(
            "no-canary",
            f"expected {session.settings.labels.canary} at version {version}."
            f" Received: {at or 'no such label'} (run `canary {version}` first)",
        )
