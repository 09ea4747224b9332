"""A version on trial: the rehearsal before it is loaded, the gates after, the user's own command last."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from serving.rollout.errors import RolloutError, SettingsError, Stopped
from serving.rollout.package import Package, open_package
from serving.rollout.replicas.fleet import Fleet
from serving.rollout.session import Session
from serving.rollout.trial.gate import Gate
from serving.rollout.trial.rehearsal import can_rehearse, rehearse
from serving.rollout.trial.shadow import Input, from_samples, read_inputs

__all__ = ["hold_gate", "hold_rehearsal", "prepare"]

_FEW: Final = 100  # with fewer, an agreement of 90 % may as well be one of 85


def prepare(session: Session) -> None:
    """Looks up what the trial needs: after an edit, its lack would look like a version that is worse.

    Raises:
        SettingsError: A command that can't be run, or shadow inputs that can't be read.
    """
    settings = session.settings
    for name, command in (("rehearsal", settings.rehearsal), ("hook", settings.hook)):
        if isinstance(command, tuple) and command and shutil.which(command[0]) is None:
            raise SettingsError(f"Expected {name} to be a command that is here and executable. Received: {command[0]}")
    if settings.shadow is not None:
        session.inputs = read_inputs(settings.shadow, settings.limits.shadow_inputs)


def hold_rehearsal(session: Session, package: Package) -> None:
    """Loads the version in a server of its own.

    Raises:
        Stopped: It does not load there, crashes, or answers wrongly. No replica has heard of it.
    """
    settings = session.settings

    def check(address: str) -> list[str]:
        with Fleet(lambda: (address,), settings.model, timeout=settings.waits.call, parallel=1) as one:
            return Gate(one, settings, package, package.version, ()).golden(address)

    if not can_rehearse(settings.rehearsal):
        session.reporter.say("rehearse", "left out: it is off, or TensorFlow is not installed here")
        return
    session.reporter.say("rehearse", f"version {package.version} in a server of its own on this machine")
    findings = rehearse(package, settings.model, settings.rehearsal, timeout=settings.waits.step, check=check)
    if findings:
        raise Stopped("rehearse", f"rehearse: version {package.version} is not fit to be loaded:", findings)


def hold_gate(session: Session, step: str, package: Package) -> None:
    """Measures the version on every replica against the one that serves, or served before.

    Raises:
        Stopped: It is worse.
        SettingsError: The hook does not run.
    """
    if session.dry_run:
        return
    version, against = package.version, session.against(package.version)
    say = session.reporter.say
    if against is None:
        say(step, "no other version is loaded to compare with; the gate is left out")
        return
    say(step, f"version {version} against {against}: golden samples, latency, shadow inputs")
    gate = Gate(
        session.fleet,
        session.settings,
        package,
        against,
        _inputs(session, package, against),
        allow_contract=session.allow_contract,
    )
    report = gate.run(
        step,
        lambda address: session.watcher.until_serving(address, version),
        lambda done, total: session.reporter.progress(step, done, total, "replicas measured"),
    )
    session.log("gate", version=version, figures=report.as_json())
    say(step, report.summary())
    if report.shadow.inputs < _FEW:
        say(step, f"{report.shadow.inputs} inputs tell only a much worse version: `shadow` in the settings names more")
    findings = list(report.findings) or _hook(session, step, version, against)
    if findings:
        raise Stopped(step, f"{step}: version {version} is worse than {against}:", findings)
    session.gates.append(report)


def _inputs(session: Session, package: Package, against: int) -> Sequence[Input]:
    settings = session.settings
    if session.inputs:
        return session.inputs
    try:
        old = open_package(settings.store, settings.model, against, settings.signatures).samples
    except RolloutError:  # it may be gone from the store, or older than the policy
        old = ()
    return from_samples(package.samples, old)[: settings.limits.shadow_inputs]


def _hook(session: Session, step: str, version: int, against: int) -> list[str]:
    command = session.settings.hook
    if not command:
        return []
    facts = {"MODEL": session.settings.model, "VERSION": str(version), "AGAINST": str(against), "STEP": step}
    try:
        done = subprocess.run(  # noqa: S603 -- the user's own command
            command,
            env={**os.environ, **{f"DUOSERVE_{name}": value for name, value in facts.items()}},
            capture_output=True,
            text=True,
            timeout=session.settings.waits.hook,
            check=False,
        )
    except OSError as error:
        raise SettingsError(f"Expected hook to be a command that runs. Received: {error}") from error
    except subprocess.TimeoutExpired as error:
        return [f"hook: expected {command[0]} to run. Received: {error}"]
    if done.returncode == 0:
        return []
    said = (done.stderr or done.stdout).strip()[-300:]
    return [f"hook: expected exit code 0 from {command[0]}. Received: {done.returncode} {said}"]
