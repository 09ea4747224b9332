"""Rules and findings: a rule is declared once, and a finding names its rule.

The YAML file beside a module of `rules` declares, by family, the rules that the module reports; `doctor.yaml` those of
`serving.check` itself. Their fields are those of `Rule`; a family's `doc` counts for its rules without one. RULES.md is
made from them: `python -m serving.check.catalog`.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, Final, Protocol

import yaml

from serving.check.manifests.objects import Object
from serving.check.manifests.values import dig

_MOST = 10  # entries of a set that a finding shows


class Place(Protocol):
    """A part of a subject: an object, a pod, a container, a server or a config file."""

    @property
    def object(self) -> Object: ...

    @property
    def path(self) -> str: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One mistake.

    Attributes:
        rule: The id of its rule.
        object: "Kind/name", or a file.
        field: Where in the object.
        expected: What should be there.
        received: What is there.
        why: What happens if it stays.
        fix: How to fix it.
        doc: Where to read more.
        ignored: The reason given by an annotation that silences it; None when it counts.
    """

    rule: str
    object: str
    field: str
    expected: str
    received: str
    why: str
    fix: str
    doc: str
    ignored: str | None = None

    def __str__(self) -> str:
        return (
            f"{self.object}: {self.field} [{self.rule}]\n"
            f"  Expected {self.expected}. Received: {self.received}\n"
            f"  Why: {self.why}\n"
            f"  Fix: {self.fix}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One kind of mistake. `expected`, `why` and `fix` are templates for `str.format`.

    Attributes:
        id: Its name, for reports, `--ignore` and annotations.
        family: Its topic, such as "probes".
        expected: What should be there.
        why: What happens otherwise.
        fix: How to fix it.
        doc: An address, or a file of this repository.
        field: The subject of `expected`, where a list of rules could not be read without it; else "".
    """

    id: str
    family: str
    expected: str
    why: str
    fix: str
    doc: str
    field: str


def _load() -> dict[str, Rule]:
    loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    families: dict[str, Any] = {}
    for file in Path(__file__).with_name("rules").rglob("*.yaml"):
        families |= yaml.load(file.read_text(encoding="utf-8"), loader)  # noqa: S506 -- a safe one
    return {
        id: Rule(**{"id": id, "family": family, "doc": group["doc"], "field": "", **texts})
        for family, group in sorted(families.items())
        for id, texts in sorted(group["rules"].items())  # noqa: A001 -- its name
    }


RULES: Final[Mapping[str, Rule]] = _load()
"""Every rule, by its id, in the order of families and ids."""


def finding(rule: str, place: Place, field: str, received: object, **values: Any) -> Finding:
    """A finding of a rule.

    Args:
        rule: Its id.
        place: What it is about.
        field: Where, below the place.
        received: What is there.
        values: Values for the rule's templates; a set is shown as its sorted entries.
    """
    texts = RULES[rule]
    values = {name: _shown(value) if isinstance(value, Set) else value for name, value in values.items()}
    dot = "." if place.path and field and field[0] not in "[:" else ""
    return Finding(
        rule,
        str(place.object),
        f"{place.path}{dot}{field}",
        texts.expected.format(**values),
        _shown(received),
        texts.why.format(**values),
        texts.fix.format(**values),
        texts.doc,
        place.object.ignores(rule),
    )


def _shown(value: object) -> str:
    """A value as YAML has it; a set is sorted."""
    if isinstance(value, Set):
        entries = sorted(map(str, value))
        return ", ".join([*entries[:_MOST], *["…"] * (len(entries) > _MOST)]) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def broken(place: Place, field: str, rows: Iterable[tuple[str, object, object]], **values: Any) -> Iterator[Finding]:
    """Findings for the rows of a table that are true: a rule, whether it is broken, and what is there."""
    for rule, wrong, received in rows:
        if wrong:
            yield finding(rule, place, field, received, **values)


Row = tuple[str, str, Collection[object]]
"""A rule about one field: its id, the field's path, and the values that the rule accepts; None is an absent field."""


def refused(place: Place, data: object, rows: Iterable[Row], **values: Any) -> Iterator[Finding]:
    """Findings for the fields of a table that have another value than their rule accepts.

    Args:
        place: What they are about.
        data: The manifest's part at that place.
        rows: The table.
        values: Values for the rules' templates.
    """
    for rule, path, accepted in rows:
        value = dig(data, path)
        if value not in accepted:
            yield finding(rule, place, path, value, **values)
