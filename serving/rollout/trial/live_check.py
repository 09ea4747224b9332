"""The check on live replicas: golden samples, latency compared with the serving version, answers to inputs.

Every call is pinned to a version and goes to one replica by its address, so the check can run
before any label moves, and can name the faulty replica.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from duoserve import BadReply, DuoserveError, Prediction
from duoserve.artifact.samples import GoldenSample
from duoserve.contract import SERVING_BYTES
from duoserve.errors import DeadlineExceeded, ServerUnavailable
from serving.rollout.package import Package, contract_of, incompatible
from serving.rollout.replicas.fleet import Fleet, Send
from serving.rollout.settings import Settings
from serving.rollout.trial.comparison import Answers, Comparison, Input, compare
from serving.rollout.trial.latency import Latency, measure

__all__ = ["CheckReport", "LiveCheck", "ReplicaFigures"]

_SENDS: tuple[Send, ...] = ("tensors", "bytes")
_SHOWN = 3
_ATTEMPTS = 2  # one restart is tolerated

Pairs = list[Answers]


@dataclasses.dataclass(frozen=True, slots=True)
class ReplicaFigures:
    """The results of one replica.

    Attributes:
        address: host:port.
        golden: Samples that were sent, as tensors and, if the version accepts them, as bytes.
        golden_worst: Largest difference of a probability from a golden sample's; of a score as a share of the largest.
        latency: None if the golden samples failed already.
        bad_replies: Inputs without a usable answer of the new version: NaN, an error.
    """

    address: str
    golden: int
    golden_worst: float
    latency: Latency | None = None
    bad_replies: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class CheckReport:
    """The figures of a check, and why it failed.

    Attributes:
        step: "check" before the canary, "bake" under its traffic, "watch" after the promotion.
        version: The new version.
        against: The version it was compared with.
        replicas: The results of each replica.
        comparison: The answers of both versions to the inputs, over all replicas.
        findings: The figures over a limit, one line each. Empty if the version passed.
        seconds: Time of the check.
    """

    step: str
    version: int
    against: int
    replicas: tuple[ReplicaFigures, ...]
    comparison: Comparison
    findings: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values, figures rounded for reading."""
        record: dict[str, Any] = _rounded(dataclasses.asdict(self))
        return record

    def summary(self) -> str:
        """The report as one line of text."""
        measured = [figures.latency for figures in self.replicas if figures.latency]
        worst = max((figures.golden_worst for figures in self.replicas), default=0.0)
        parts = [f"{len(self.replicas)} replicas", f"golden within {worst:.1e}"]
        for name, old, new in (("median", "old_median", "new_median"), ("p99", "old_p99", "new_p99")):
            if measured:
                before, after = (max(getattr(one, which) for one in measured) for which in (old, new))
                parts.append(f"{name} {before:.1f} -> {after:.1f} ms")
        if self.comparison.inputs:
            parts.append(f"agreement {self.comparison.agreement:.0%} of {self.comparison.inputs} inputs")
            parts.append(f"drift {self.comparison.drift:.2f}")
        if self.comparison.labelled:
            parts.append(f"{self.comparison.measure} {self.comparison.qualities}")
        return ", ".join(parts)


@dataclasses.dataclass(slots=True)
class _Result:
    figures: ReplicaFigures
    findings: list[str]
    pairs: Pairs


class LiveCheck:
    """Compares a version with the one that serves.

    Args:
        fleet: The replicas.
        settings: Its limits.
        package: The new version.
        against: The version that serves.
        inputs: Spread over the replicas.
        allow_contract: Don't check the contract.
    """

    def __init__(
        self,
        fleet: Fleet,
        settings: Settings,
        package: Package,
        against: int,
        inputs: Sequence[Input],
        *,
        allow_contract: bool = False,
    ) -> None:
        self._fleet = fleet
        self._limits = settings.limits
        self._clients = settings.clients
        self._package = package
        self._against = against
        self._inputs = inputs
        self._allow_contract = allow_contract

    def run(
        self,
        step: str,
        wait_for: Callable[[str], None] = lambda address: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> CheckReport:
        """Checks every replica, including those that join meanwhile.

        Args:
            step: Its name, for the report.
            wait_for: Called with a replica before it is asked, and before it is asked again;
                returns when the version serves there, or should.
            progress: Called with the number of finished replicas, and of all.
        """
        begin = time.monotonic()
        done: dict[str, _Result] = {}
        while todo := [address for address in self._fleet.addresses() if address not in done]:
            total = len(done) + len(todo)
            shares = {address: self._inputs[place::total] for place, address in enumerate(todo, len(done))}

            def ask(address: str, shares: dict[str, Sequence[Input]] = shares, total: int = total) -> None:
                done[address] = self._patiently(address, shares[address], wait_for)
                progress(len(done), total)

            self._fleet.each(ask, todo)
        results = [done[address] for address in sorted(done)]
        comparison = compare([pair for result in results for pair in result.pairs])
        findings = [finding for result in results for finding in result.findings] + self._judge(comparison)
        if not results:
            findings.append("expected replicas. Received: none")
        return CheckReport(
            step,
            self._package.version,
            self._against,
            tuple(result.figures for result in results),
            comparison,
            tuple(findings),
            time.monotonic() - begin,
        )

    def golden(self, address: str) -> list[str]:
        """The findings of the golden samples on one replica: the short check while a label is watched.

        Raises:
            ServerUnavailable: It does not answer.
            DeadlineExceeded: It does not answer in time.
        """
        return self._golden(address)[1]

    def _patiently(self, address: str, share: Sequence[Input], wait_for: Callable[[str], None]) -> _Result:
        """A replica that restarts meanwhile is checked again; if it restarts each time, that is a finding."""
        for _ in range(_ATTEMPTS):
            wait_for(address)
            try:
                return self._ask(address, share)
            except (ServerUnavailable, DeadlineExceeded) as error:
                self._fleet.forget(address)
                finding = f"{address}: expected answers. Received: {type(error).__name__}: {error.message}"
            except DuoserveError as error:
                return _Result(ReplicaFigures(address, 0, 0.0), [f"{address}: {_received(error)}"], [])
        finding += f" ({_ATTEMPTS} times)"
        return _Result(ReplicaFigures(address, 0, 0.0), [finding], [])

    def _ask(self, address: str, share: Sequence[Input]) -> _Result:
        version = self._package.version
        asked, findings, worst = self._golden(address)
        figures = ReplicaFigures(address, asked, worst)
        findings = [*self._contract(address), *findings]
        if findings:
            return _Result(figures, findings, [])
        latency, slow = self._latency(address)
        pairs: Pairs = []
        bad: list[str] = []
        old, new = self._fleet.client(address, self._against), self._fleet.client(address, version)
        for image, text, true in share:
            try:
                before = old.predict(image, text)
            except (ServerUnavailable, DeadlineExceeded):
                raise
            except DuoserveError:
                continue  # no answer now either: nothing to compare with
            try:
                pairs.append(Answers(before, new.predict(image, text), true))
            except (ServerUnavailable, DeadlineExceeded):
                raise
            except DuoserveError as error:
                bad.append(f"{address}: expected an answer to an input. Received: {_received(error)}")
        figures = dataclasses.replace(figures, latency=latency, bad_replies=len(bad))
        findings = [f"{address}: {finding}" for finding in slow] + _shown(bad)
        return _Result(figures, findings, pairs)

    def _contract(self, address: str) -> list[str]:
        """The spec that the live version gives: its digest, and what clients must be able to follow."""
        version = self._package.version
        try:
            new = self._fleet.client(address, version).preprocessor().spec
            old = self._fleet.client(address, self._against).preprocessor().spec
        except (ServerUnavailable, DeadlineExceeded):
            raise
        except DuoserveError as error:
            return [f"{address}: expected both versions to describe themselves. Received: {_received(error)}"]
        findings = []
        if new.digest != self._package.contract.digest:
            findings.append("expected the contract of the version in the store. Received: another model's")
        if not self._allow_contract:
            findings += incompatible(contract_of(old), contract_of(new), self._clients)
        return [f"{address}: contract: {finding}" for finding in findings]

    def _golden(self, address: str) -> tuple[int, list[str], float]:
        findings: list[str] = []
        worst = 0.0
        asked = 0
        for send in _SENDS if SERVING_BYTES in self._package.contract.signatures else _SENDS[:1]:
            client = self._fleet.client(address, self._package.version, send)
            for position, sample in enumerate(self._package.samples):
                asked += 1
                try:
                    answer = client.predict(*sample.pair)
                except (ServerUnavailable, DeadlineExceeded):
                    raise
                except DuoserveError as error:
                    findings.append(f"{address}: golden sample {position} as {send}: {_received(error)}")
                    continue
                off, same = _distance(answer, sample, self._package.samples, self._limits.golden_tolerance)
                worst = max(worst, off)
                if off > self._limits.golden_tolerance or not same:
                    findings.append(
                        f"{address}: golden sample {position} as {send}: expected {sample.decision!r} within"
                        f" {self._limits.golden_tolerance:g}. Received: {answer.decision!r}, {off:.2g} off"
                    )
        return asked, _shown(findings), worst

    def _latency(self, address: str) -> tuple[Latency, list[str]]:
        """A latency over a limit is measured again: a slow version is slow each time, noise is not."""

        def calls(version: int) -> list[Callable[[], object]]:
            client = self._fleet.client(address, version)
            return [
                lambda sample=sample: client.predict(*sample.pair)  # type: ignore[misc]
                for sample in self._package.samples
                if all(sample.pair)  # the other version may need both
            ]

        for _ in range(self._limits.latency_tries):
            found = measure(calls(self._against), calls(self._package.version), self._limits.latency_calls)
            findings = found.findings(self._limits)
            if not findings:
                break
        return found, findings

    def _judge(self, comparison: Comparison) -> list[str]:
        """Findings only for limits exceeded by more than chance: a few inputs must not reject a good version."""
        findings: list[str] = []
        if not comparison.inputs:
            return findings
        limits = self._limits
        moved = (
            f" ({', '.join(f'{change}: {count}' for change, count in comparison.moved)})" if comparison.moved else ""
        )
        if comparison.labelled:
            # Two versions of equal accuracy may well disagree on inputs where both are often wrong.
            if comparison.drop_at_least > limits.accuracy_drop:
                findings.append(
                    f"inputs: expected the {comparison.measure} to fall by at most {limits.accuracy_drop:g}. Received:"
                    f" {comparison.qualities} on {comparison.labelled}{moved}"
                )
        elif comparison.agreement_at_most < limits.agreement:
            findings.append(
                f"inputs: expected {comparison.same} for at least {limits.agreement:.0%} of {comparison.inputs} inputs."
                f" Received: {comparison.agreement:.0%}{moved}"
            )
        if comparison.drift > limits.drift:
            findings.append(
                f"inputs: expected the answers to drift by at most {limits.drift:g}."
                f" Received: {comparison.drift:.2f}{moved}"
            )
        return findings


def _distance(
    answer: Prediction, sample: GoldenSample, samples: Sequence[GoldenSample], tolerance: float
) -> tuple[float, bool]:
    """The error of an answer, for scores as a share of the largest one, and whether the decision is the same."""
    expected = np.array(sample.values, np.float32)
    if answer.values.shape != expected.shape:
        return float("inf"), False
    scale = answer.kind.scale(np.array([each.values for each in samples], np.float32))
    return float((np.abs(answer.values - expected) / scale).max()), answer.kind.same(expected, answer.values, tolerance)


def _received(error: DuoserveError) -> str:
    return f"expected an answer. Received: {'an unusable one: ' if isinstance(error, BadReply) else ''}{error.message}"[
        :240
    ]


def _shown(findings: Iterable[str]) -> list[str]:
    """The first few, and the number of the others."""
    listed = list(findings)
    more = len(listed) - _SHOWN
    return listed if more <= 0 else [*listed[:_SHOWN], f"and {more} more like that"]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if np.isfinite(value) else str(value)
    return value
