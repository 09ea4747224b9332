"""The rules as a list, one by one, and as the page RULES.md.

python -m serving.check.catalog     rewrites the page
"""

import itertools
import string
from pathlib import Path

from serving.check import RULES, Rule

PAGE = Path(__file__).with_name("RULES.md")
_HEAD = """\
# The doctor's rules

Made by `python -m serving.check.catalog` from the rules themselves. `python -m serving.check --explain RULE` prints
one; `--ignore RULE` leaves one out; an annotation `duoserve.dev/ignore-RULE: "the reason"` silences it for an object.
Words in capitals stand for what a finding names.

The rules are about what crosses files and what TensorFlow Serving needs. What the schemas of Kubernetes refuse is one
rule, `schema`. What only the API server knows of one object (two handlers in a probe, a time zone, a label's
characters) is left to it: `kubectl apply --dry-run=server -k …`, which a GitOps repository can run before a merge.
"""


def _plain(template: str) -> str:
    """A template with its placeholders in capitals."""
    if template == "{fix}":
        return "(each finding has its own)"
    return "".join(literal + (name or "").upper() for literal, name, _, _ in string.Formatter().parse(template))


def _expected(rule: Rule) -> str:
    return f"{rule.field}: {_plain(rule.expected)}" if rule.field else _plain(rule.expected)


def listed() -> str:
    """One line a rule: id, family, and what is expected."""
    width = max(map(len, RULES))
    return "\n".join(f"{rule.id:{width}}  {rule.family:10}  {_expected(rule)}" for rule in RULES.values())


def explained(rule: Rule) -> str:
    """Everything about a rule."""
    return (
        f"{rule.id} ({rule.family})\n  Expected {_expected(rule)}.\n"
        f"  Why: {_plain(rule.why)}\n  Fix: {_plain(rule.fix)}\n  Read: {rule.doc}"
    )


def page() -> str:
    """RULES.md."""
    lines = [_HEAD]
    for family, rules in itertools.groupby(RULES.values(), lambda rule: rule.family):
        lines.append(f"\n## {family}\n\n| rule | expected | why | fix |\n|---|---|---|---|\n")
        for rule in rules:
            link = rule.doc if "://" in rule.doc else f"../../{rule.doc}"
            cells = [f"[{rule.id}]({link})", _expected(rule), _plain(rule.why), _plain(rule.fix)]
            lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n")
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
