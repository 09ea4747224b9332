"""The checks of a version once it is loaded, and finally the user's hook."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from serving.rollout.command import Command
from serving.rollout.errors import RolloutError, SettingsError, Stopped
from serving.rollout.package import Package, open_package
from serving.rollout.trial.comparison import Input, from_samples, read_inputs
from serving.rollout.trial.live_check import LiveCheck

_FEW: Final = 100  # with fewer, an agreement of 90 % may be one of 85


def prepare(command: Command) -> None:
    """Checks what the trial needs: if it were missing after an edit, the version would look worse.

    Raises:
        SettingsError: A command that can't be run, or inputs that can't be read.
    """
    settings = command.settings
    for name, program in (("rehearsal", settings.rehearsal), ("hook", settings.hook)):
        if isinstance(program, tuple) and program and shutil.which(program[0]) is None:
            raise SettingsError(f"Expected {name} to be an executable command. Received: {program[0]}")
    if settings.inputs is not None:
        command.inputs = read_inputs(settings.inputs, settings.limits.inputs)


def run_check(command: Command, step: str, package: Package) -> None:
    """Compares the version on every replica with the one that serves, or served before.

    Raises:
        Stopped: It is worse.
        SettingsError: The hook does not run.
    """
    if command.dry_run:
        return
    version, against = package.version, command.against(package.version)
    report = command.reporter.report
    if against is None:
        report(step, "skipped: no other version is loaded to compare with")
        return
    report(step, f"version {version} against {against}: golden samples, latency, inputs")
    inputs = _inputs(command, package, against)
    check = LiveCheck(command.fleet, command.settings, package, against, inputs, allow_contract=command.allow_contract)
    found = check.run(
        step,
        lambda address: command.watcher.until_serving(address, version),
        lambda done, total: command.reporter.progress(step, done, total, "replicas measured"),
    )
    command.log("check", version=version, figures=found.as_json())
    report(step, found.summary())
    if not found.findings and found.golden_worst > command.settings.limits.golden_tolerance:
        report(step, f"golden answers are up to {found.golden_worst:.1g} off: as expected of a server in bfloat16")
    if found.comparison.inputs < _FEW:
        report(step, f"{found.comparison.inputs} inputs reveal only a much worse version: give more with `inputs`")
    findings = found.findings or _hook(command, step, version, against)
    if findings:
        raise Stopped(step, f"{step}: version {version} is worse than {against}:", findings)
    command.checks.append(found)


def _inputs(command: Command, package: Package, against: int) -> Sequence[Input]:
    """Those of the settings, or the golden samples of both versions."""
    settings = command.settings
    if command.inputs:
        return command.inputs
    try:
        old = open_package(settings.store, settings.model, against, settings.signatures).samples
    except RolloutError:  # it may be gone from the store, or older than the policy
        old = ()
    return from_samples(package.samples, old)[: settings.limits.inputs]


def _hook(command: Command, step: str, version: int, against: int) -> list[str]:
    hook, timeout = command.settings.hook, command.settings.waits.hook
    if not hook:
        return []
    facts = {"MODEL": command.settings.model, "VERSION": str(version), "AGAINST": str(against), "STEP": step}
    env = os.environ | {f"DUOSERVE_{name}": value for name, value in facts.items()}
    try:
        # The user's own command.
        done = subprocess.run(hook, env=env, capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603
    except OSError as error:
        raise SettingsError(f"Expected hook to be a command that runs. Received: {error}") from error
    except subprocess.TimeoutExpired as error:
        return [f"hook: expected {hook[0]} to run. Received: {error}"]
    if done.returncode == 0:
        return []
    said = (done.stderr or done.stdout).strip()[-300:]
    return [f"hook: expected exit code 0 from {hook[0]}. Received: {done.returncode} {said}"]
