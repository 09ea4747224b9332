"""The check on live replicas: golden samples, latency compared with the serving version, answers to inputs.

Every call is pinned to a version and goes to one replica by its address, so the check can run
before any label moves, and can name the faulty replica.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from duoserve import BadReply, Client, DuoserveError, Prediction
from duoserve.artifact.samples import GoldenSample
from duoserve.contract import SERVING_BYTES
from duoserve.errors import DeadlineExceeded, ServerUnavailable
from serving.rollout.package import Package, contract_of, incompatible
from serving.rollout.replicas.fleet import Fleet, Send
from serving.rollout.settings import Settings
from serving.rollout.trial.comparison import Answers, Comparison, Input, compare
from serving.rollout.trial.latency import Latency, measure

_SENDS: tuple[Send, ...] = ("tensors", "bytes")
_SHOWN = 3
_ATTEMPTS = 2  # one restart is tolerated
_DOWN = (ServerUnavailable, DeadlineExceeded)


@dataclasses.dataclass(frozen=True, slots=True)
class ReplicaFigures:
    """The results of one replica.

    Attributes:
        golden: Golden samples that were sent, as tensors and, if the version accepts them, as bytes.
        golden_worst: Largest difference of a probability from a sample's; of a score as a share of the largest.
        latency: None if the golden samples failed already.
        bad_replies: Inputs without a usable answer of the new version: NaN, an error.
    """

    address: str
    golden: int = 0
    golden_worst: float = 0.0
    latency: Latency | None = None
    bad_replies: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class CheckReport:
    """The figures of a check, and why it failed.

    Attributes:
        step: "check" before the canary, "bake" under its traffic, "watch" after the promotion.
        comparison: The answers of both versions to the inputs, over all replicas.
        findings: The figures over a limit, one line each. Empty if the version passed.
    """

    step: str
    version: int
    against: int
    replicas: tuple[ReplicaFigures, ...]
    comparison: Comparison
    findings: tuple[str, ...]
    seconds: float

    @property
    def golden_worst(self) -> float:
        """The largest of the replicas."""
        return max((figures.golden_worst for figures in self.replicas), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values, figures rounded for reading."""
        record: dict[str, Any] = json.loads(
            json.dumps(dataclasses.asdict(self)),
            parse_float=lambda number: float(f"{float(number):.4g}"),
            parse_constant=lambda name: str(float(name)),
        )
        return record

    def summary(self) -> str:
        """The report as one line of text."""
        measured = [figures.latency for figures in self.replicas if figures.latency]
        count = len(self.replicas)
        parts = [f"{count} replica{'s' if count != 1 else ''}", f"golden within {self.golden_worst:.1e}"]
        for name in ("median", "p99") if measured else ():
            old, new = (max(getattr(one, f"{side}_{name}") for one in measured) for side in ("old", "new"))
            parts.append(f"{name} {old:.1f} -> {new:.1f} ms")
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
    pairs: list[Answers] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class LiveCheck:
    """Compares a version, `package`, with the one that serves, `against`. The inputs are spread over the replicas."""

    fleet: Fleet
    settings: Settings
    package: Package
    against: int
    inputs: Sequence[Input]
    allow_contract: bool = False

    def run(
        self,
        step: str,
        wait_for: Callable[[str], None] = lambda address: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> CheckReport:
        """Checks every replica, including those that join meanwhile.

        Args:
            step: Its name, for the report.
            wait_for: Called with a replica each time before it is asked; returns when the version should serve there.
            progress: Called with the number of finished replicas, and of all.
        """
        begin = time.monotonic()
        done: dict[str, _Result] = {}
        while todo := [address for address in self.fleet.addresses() if address not in done]:
            total = len(done) + len(todo)
            shares = {address: self.inputs[place::total] for place, address in enumerate(todo, len(done))}

            def ask(address: str, shares: dict[str, Sequence[Input]] = shares, total: int = total) -> None:
                done[address] = self._patiently(address, shares[address], wait_for)
                progress(len(done), total)

            self.fleet.each(ask, todo)
        results = [done[address] for address in sorted(done)]
        comparison = compare([pair for result in results for pair in result.pairs])
        findings = [finding for result in results for finding in result.findings] + self._judge(comparison)
        if not results:
            findings.append("expected replicas. Received: none")
        figures, seconds = tuple(result.figures for result in results), time.monotonic() - begin
        return CheckReport(step, self.package.version, self.against, figures, comparison, tuple(findings), seconds)

    def golden(self, address: str) -> tuple[ReplicaFigures, list[str]]:
        """The answers of one replica to the golden samples: their figures and findings.

        Raises:
            ServerUnavailable, DeadlineExceeded: It does not answer.
        """
        findings: list[str] = []
        worst = 0.0
        sends = _SENDS if SERVING_BYTES in self.package.contract.signatures else _SENDS[:1]
        for send in sends:
            client = self.fleet.client(address, self.package.version, send)
            for position, sample in enumerate(self.package.samples):
                where = f"{address}: golden sample {position} as {send}"
                answer = _answer(client, *sample.pair)
                if isinstance(answer, DuoserveError):
                    findings.append(f"{where}: {_received(answer)}")
                    continue
                off, most, fits = self._compared(answer, sample)
                worst = max(worst, off)
                if not fits:
                    findings.append(
                        f"{where}: expected {sample.decision!r} within {most:.3g}."
                        f" Received: {answer.decision!r}, {off:.2g} off"
                    )
        return ReplicaFigures(address, len(sends) * len(self.package.samples), worst), _shown(findings)

    def _patiently(self, address: str, share: Sequence[Input], wait_for: Callable[[str], None]) -> _Result:
        """A replica that restarts meanwhile is checked again; if it restarts each time, that is a finding."""
        for _ in range(_ATTEMPTS):
            wait_for(address)
            try:
                return self._ask(address, share)
            except _DOWN as error:
                self.fleet.forget(address)
                finding = f"expected answers. Received: {type(error).__name__}: {error.message} ({_ATTEMPTS} times)"
            except DuoserveError as error:
                finding = _received(error)
                break
        return _Result(ReplicaFigures(address), [f"{address}: {finding}"])

    def _ask(self, address: str, share: Sequence[Input]) -> _Result:
        figures, findings = self.golden(address)
        findings = [*self._contract(address), *findings]
        if findings:
            return _Result(figures, findings)
        latency, slow = self._latency(address)
        pairs: list[Answers] = []
        bad: list[str] = []
        old, new = (self.fleet.client(address, version) for version in (self.against, self.package.version))
        for image, text, true in share:
            before = _answer(old, image, text)
            if isinstance(before, DuoserveError):
                continue  # no answer now either: nothing to compare with
            after = _answer(new, image, text)
            if isinstance(after, DuoserveError):
                bad.append(f"{address}: expected an answer to an input. Received: {_received(after)}")
            else:
                pairs.append(Answers(before, after, true))
        figures = dataclasses.replace(figures, latency=latency, bad_replies=len(bad))
        return _Result(figures, [f"{address}: {finding}" for finding in slow] + _shown(bad), pairs)

    def _contract(self, address: str) -> list[str]:
        """The spec that the live version gives: its digest, and what clients must be able to follow."""
        versions = (self.package.version, self.against)
        try:
            new, old = (self.fleet.client(address, version).preprocessor().spec for version in versions)
        except _DOWN:
            raise
        except DuoserveError as error:
            return [f"{address}: expected both versions to describe themselves. Received: {_received(error)}"]
        findings = []
        if new.digest != self.package.contract.digest:
            findings.append("expected the contract of the version in the store. Received: another model's")
        if not self.allow_contract:
            findings += incompatible(contract_of(old), contract_of(new), self.settings.clients)
        return [f"{address}: contract: {finding}" for finding in findings]

    def _compared(self, answer: Prediction, sample: GoldenSample) -> tuple[float, float, bool]:
        """The largest difference of an answer, the one allowed, and whether the answer is the sample's.

        Differences of scores are shares of the largest score. Computing in bfloat16 may change a decision between
        classes that are nearly equal, so then only the differences count.
        """
        expected, cost = np.array(sample.values, np.float32), self.package.bfloat16
        if answer.values.shape != expected.shape:
            return float("inf"), self.settings.limits.golden_tolerance, False
        every = np.array([each.values for each in self.package.samples], np.float32)
        scale = answer.kind.scale(every)
        unit = scale if answer.kind.decided else every.std(axis=0)
        off, most = (
            np.abs(answer.values - expected) / scale,
            self.settings.limits.golden_tolerance + cost * unit / scale,
        )
        same = cost > 0 or answer.kind.same(expected, answer.values, self.settings.limits.golden_tolerance)
        return float(off.max()), float(most.max()), same and bool((off <= most).all())

    def _latency(self, address: str) -> tuple[Latency, list[str]]:
        """A latency over a limit is measured again: a slow version is slow each time, noise is not."""

        def calls(version: int) -> list[Callable[[], object]]:
            client = self.fleet.client(address, version)
            return [
                lambda sample=sample: client.predict(*sample.pair)  # type: ignore[misc]
                for sample in self.package.samples
                if all(sample.pair)  # the other version may need both
            ]

        for _ in range(self.settings.limits.latency_tries):
            found = measure(calls(self.against), calls(self.package.version), self.settings.limits.latency_calls)
            findings = found.findings(self.settings.limits)
            if not findings:
                break
        return found, findings

    def _judge(self, comparison: Comparison) -> list[str]:
        """Findings only for limits exceeded by more than chance: a few inputs must not reject a good version."""
        limits = self.settings.limits
        found = []
        if comparison.labelled:
            # Two versions of equal accuracy may well disagree on inputs where both are often wrong.
            if comparison.drop_at_least > limits.accuracy_drop:
                found.append(
                    f"expected the {comparison.measure} to fall by at most {limits.accuracy_drop:g}. Received:"
                    f" {comparison.qualities} on {comparison.labelled}"
                )
        elif comparison.agreement_at_most < limits.agreement:
            found.append(
                f"expected {comparison.same} for at least {limits.agreement:.0%} of {comparison.inputs} inputs."
                f" Received: {comparison.agreement:.0%}"
            )
        if comparison.drift > limits.drift:
            found.append(f"expected the answers to drift by at most {limits.drift:g}. Received: {comparison.drift:.2f}")
        moved = ", ".join(f"{change}: {count}" for change, count in comparison.moved)
        return [f"inputs: {finding}{f' ({moved})' if moved else ''}" for finding in found]


def _answer(client: Client, *pair: Any) -> Prediction | DuoserveError:
    """The answer to an image and a text, or the error of a server that is up."""
    try:
        return client.predict(*pair)
    except _DOWN:
        raise
    except DuoserveError as error:
        return error


def _received(error: DuoserveError) -> str:
    kind = "an unusable one: " if isinstance(error, BadReply) else ""
    return f"expected an answer. Received: {kind}{error.message}"[:240]


def _shown(findings: Sequence[str]) -> list[str]:
    """The first few, and the number of the others."""
    more = len(findings) - _SHOWN
    return [*findings[:_SHOWN], *([f"and {more} more like that"] if more > 0 else [])]
