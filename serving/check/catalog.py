"""The rules as a list, one by one, and as the page RULES.md.

python -m serving.check.catalog     rewrites the page
"""

from __future__ import annotations

import re
from pathlib import Path

from serving.check import RULES, Rule

__all__ = ["PAGE", "explained", "listed", "page"]

PAGE = Path(__file__).with_name("RULES.md")
_HEAD = """\
# The doctor's rules

Made by `python -m serving.check.catalog` from the rules themselves. `python -m serving.check --explain RULE` prints
one; `--ignore RULE` leaves one out; an annotation `duoserve.dev/ignore-RULE: "the reason"` silences it for an object.
Words in capitals stand for what a finding names.
"""


def _plain(template: str) -> str:
    """A template with its placeholders in capitals."""
    if template == "{fix}":
        return "(each finding has its own)"
    words = re.sub(r"\{(\w+)(?:![rs])?(?::[^}]*)?\}", lambda match: match[1].upper(), template.replace("{{", "\0"))
    return words.replace("\0", "{").replace("}}", "}")


def _expected(rule: Rule) -> str:
    return f"{rule.field}: {_plain(rule.expected)}" if rule.field else _plain(rule.expected)


def listed() -> str:
    """One line a rule: id, family, and what is expected."""
    width = max(map(len, RULES))
    return "\n".join(f"{rule.id:{width}}  {rule.family:10}  {_expected(rule)}" for rule in _sorted())


def explained(rule: Rule) -> str:
    """Everything about a rule."""
    return (
        f"{rule.id} ({rule.family})\n  Expected {_expected(rule)}.\n"
        f"  Why: {_plain(rule.why)}\n  Fix: {_plain(rule.fix)}\n  Read: {rule.doc}"
    )


def page() -> str:
    """RULES.md."""
    lines = [_HEAD]
    family = ""
    for rule in _sorted():
        if rule.family != family:
            family = rule.family
            lines.append(f"\n## {family}\n\n| rule | expected | why | fix |\n|---|---|---|---|\n")
        cells = [f"[{rule.id}]({_link(rule)})", _expected(rule), _plain(rule.why), _plain(rule.fix)]
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n")
    return "".join(lines)


def _link(rule: Rule) -> str:
    if rule.doc == "serving/check/RULES.md":
        return "RULES.md"
    return rule.doc if "://" in rule.doc else f"../../{rule.doc}"


def _sorted() -> list[Rule]:
    return sorted(RULES.values(), key=lambda rule: (rule.family, rule.id))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
