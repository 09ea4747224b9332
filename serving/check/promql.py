"""PrometheusRules: expressions that can be read, and ask for metrics, models and labels that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.check._data import items, text
from serving.check._manifests import Finding, Manifests
from serving.check._server import served
from serving.local.metrics import Metrics

__all__ = ["check"]

_SERVER_METRIC = re.compile(":?tensorflow[:_]")
_SERVED = {metric.name for metric in Metrics().all()}
"""What the server's page has: the embedded one's is the stock one's."""
_SELECTED = re.compile(r"(duoserve[:_][\w:]*|:?tensorflow[:_][\w:]*)\s*\{((?:[^}\"']|\"[^\"]*\"|'[^']*')*)\}")
_MATCHER = re.compile(r"(model|model_name|label)\s*(=~?)\s*(?:\"([^\"]*)\"|'([^']*)')")
_CLOSES = {")": "(", "]": "[", "}": "{"}


def check(manifests: Manifests) -> Iterator[Finding]:
    groups = [group for rule in manifests.of("PrometheusRule") for group in items(rule.spec.get("groups"))]
    recorded = {text(rule.get("record")) for group in groups for rule in items(group.get("rules"))}
    exported = _exported()
    names, labels = set(served(manifests)), set().union(*served(manifests).values())
    for found in manifests.of("PrometheusRule"):
        for rule in [rule for group in items(found.spec.get("groups")) for rule in items(group.get("rules"))]:
            at, expression = f"spec.groups.rules[{rule.get('alert') or rule.get('record')}].expr", str(rule.get("expr"))
            said = _unbalanced(expression)
            if said:
                why = "Prometheus refuses the whole file, or the operator leaves the rule out: no alert of it fires."
                yield Finding("rule-syntax", str(found), at, "an expression of PromQL", said, why, "Correct it.")
                continue
            asked = [*_unknown(expression, recorded, exported), *_unserved(names, labels, expression)]
            for rule_name, expected, shown in asked:
                why = "The expression is empty for ever: the alert never fires."
                yield Finding(rule_name, str(found), at, expected, shown, why, "Correct the name.")


def _unbalanced(expression: str) -> str:
    """The bracket or quote that has no other half; "" when each has one."""
    open_: list[str] = []
    quote, skip, comment = "", False, False
    for sign in expression:
        if skip or comment:
            skip, comment = False, comment and sign != "\n"
        elif quote:
            skip = sign == "\\" and quote != "`"
            quote = "" if sign == quote else quote
        elif sign in "\"'`":
            quote = sign
        elif sign == "#":
            comment = True
        elif sign in "([{":
            open_.append(sign)
        elif sign in _CLOSES and (not open_ or open_.pop() != _CLOSES[sign]):
            return f"a {sign!r} that closes nothing"
    if quote:
        return f"a {quote!r} that is not closed"
    return f"a {open_[-1]!r} that is not closed" if open_ else ""


def _unknown(expression: str, recorded: set[str], exported: set[str]) -> Iterator[tuple[str, str, str]]:
    """Metrics that no server, exporter or rule has."""
    ours = f"a metric of the exporter ({', '.join(sorted(exported))}) or one that a rule records"
    stock = "a metric of the model server, such as :tensorflow:serving:request_count"
    asked = set(re.findall(r"[\w:]+", _bare(expression))) - recorded
    unknown = {name: ours for name in asked - exported if exported and re.match("duoserve[:_]", name)}
    unknown |= {name: stock for name in asked if _SERVER_METRIC.match(name) and not _served(name)}
    for name, expected in sorted(unknown.items()):
        yield "rule-metric", expected, name


def _unserved(names: set[str], labels: set[str], expression: str) -> Iterator[tuple[str, str, str]]:
    """Models and labels that the servers do not have."""
    for selected in _SELECTED.finditer(expression):
        for matcher in _MATCHER.finditer(selected[2]):
            known, pattern = labels if matcher[1] == "label" else names, matcher[3] or matcher[4] or ""
            if known and pattern and not any(_takes(matcher[2], pattern, name) for name in known):
                what = "label" if matcher[1] == "label" else "model"
                yield "rule-value", f"a {what} of models.config ({', '.join(sorted(known))})", matcher[0]


def _takes(operator: str, pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None if operator == "=~" else pattern == name
    except re.error:  # RE2 has words of its own
        return True


def _bare(expression: str) -> str:
    """A PromQL expression without its label matchers and texts."""
    return re.sub(r"\{[^}]*\}|\"[^\"]*\"|'[^']*'", "", expression)


def _served(name: str) -> bool:
    """Whether the model server has a metric; one under another prefix than `serving` may be."""
    if name.startswith(":tensorflow:") and not name.startswith(":tensorflow:serving:"):
        return True
    return re.sub("_(bucket|sum|count)$", "", name) in _SERVED or name in _SERVED


def _exported() -> set[str]:
    """The exporter's metrics; none where its package is missing."""
    try:
        from serving.exporter import VersionCollector
    except ImportError:
        return set()
    return {family.name for family in VersionCollector([], "", []).describe()}
