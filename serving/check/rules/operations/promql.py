"""PrometheusRules: valid expressions that ask for metrics, models and labels that exist."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object
from serving.check.manifests.servers import labels_by_model
from serving.check.manifests.values import items, text
from serving.local.metrics import Metrics

__all__ = ["check"]


_SELECTED = re.compile(r"(duoserve[:_][\w:]*|:?tensorflow[:_][\w:]*)\s*\{((?:[^}\"']|\"[^\"]*\"|'[^']*')*)\}")
_MATCHER = re.compile(r"(model|model_name|label)\s*(=~?)\s*(?:\"([^\"]*)\"|'([^']*)')")
_TOKENS = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`", re.DOTALL)
_PAIRS = {")": "(", "]": "[", "}": "{"}


def check(manifests: Manifests) -> Iterator[Finding]:
    rules = [
        (found, rule)
        for found in manifests.of("PrometheusRule")
        for group in items(found.spec, "groups")
        for rule in items(group, "rules")
    ]
    recorded = {text(rule, "record") for _, rule in rules}
    served = labels_by_model(manifests)
    for found, rule in rules:
        at, expression = f"spec.groups.rules[{rule.get('alert') or rule.get('record')}].expr", str(rule.get("expr"))
        wrong = _unbalanced(expression)
        if wrong:
            yield finding("rule-syntax", found, at, wrong)
        else:
            yield from _metrics(found, at, expression, recorded)
            yield from _values(found, at, expression, served)


def _unbalanced(expression: str) -> str:
    """The bracket or quote without its other half; "" when there is none."""
    open_: list[str] = []
    for sign in _TOKENS.sub("", expression):
        if sign in "\"'`":
            return f"a {sign!r} that is not closed"
        if sign in _PAIRS.values():
            open_.append(sign)
        elif sign in _PAIRS and (not open_ or open_.pop() != _PAIRS[sign]):
            return f"a {sign!r} that closes nothing"
    return f"a {open_[-1]!r} that is not closed" if open_ else ""


def _metrics(found: Object, at: str, expression: str, recorded: set[str]) -> Iterator[Finding]:
    """Metrics that no server, exporter or rule has."""
    bare = re.sub(r"\{[^}]*\}", "", _TOKENS.sub("", expression))
    exported = _exported()
    for name in sorted(set(re.findall(r"[\w:]+", bare)) - recorded):
        if re.match("duoserve[:_]", name) and exported and name not in exported:
            known = f"a metric of the exporter ({', '.join(sorted(exported))}) or one that a rule records"
            yield finding("rule-metric", found, at, name, known=known)
        if re.match(":?tensorflow[:_]", name) and not _is_served(name):
            known = "a metric of the server, such as :tensorflow:serving:request_count"
            yield finding("rule-metric", found, at, name, known=known)


def _values(found: Object, at: str, expression: str, served: dict[str, set[str]]) -> Iterator[Finding]:
    """Models and labels that the servers do not have."""
    for selected in _SELECTED.finditer(expression):
        for matcher in _MATCHER.finditer(selected[2]):
            what = "label" if matcher[1] == "label" else "model"
            known = set().union(*served.values()) if what == "label" else set(served)
            pattern = matcher[3] or matcher[4] or ""
            if known and pattern and not any(_takes(matcher[2], pattern, name) for name in known):
                yield finding("rule-value", found, at, matcher[0], what=what, known=known)


def _takes(operator: str, pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None if operator == "=~" else pattern == name
    except re.error:  # a word that only RE2 has
        return True


def _is_served(name: str) -> bool:
    """Whether the model server has a metric; one under another prefix than `serving` may be of TensorFlow."""
    if name.startswith(":tensorflow:") and not name.startswith(":tensorflow:serving:"):
        return True
    return bool({name, re.sub("_(bucket|sum|count)$", "", name)} & _stock_metrics())


@functools.cache
def _stock_metrics() -> frozenset[str]:
    """The metrics of the embedded server, which has those of the stock server."""
    return frozenset(metric.name for metric in Metrics().all())


@functools.cache
def _exported() -> frozenset[str]:
    """The exporter's metrics; none where its package is missing."""
    try:
        from serving.exporter import VersionCollector
    except ImportError:
        return frozenset()
    return frozenset(family.name for family in VersionCollector([], "", []).describe())
