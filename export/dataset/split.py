"""Chooses the rows to hold out where the data does not: by class, never splitting a group."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable


def hold_out(rows: Iterable[tuple[str, str]], fraction: float, *, salt: str = "") -> list[bool]:
    """Whether to hold out each row.

    Groups are taken in the order of a hash of their name until the class has its share, so
    one more or one fewer row moves few others across. Every class keeps a group to train on.

    Args:
        rows: Class and group of each row. A group counts for the class of its first row.
        fraction: Share of every class to hold out, at least 0 and below 1.
        salt: Another salt, another split.
    """
    rows = list(rows)
    sizes = Counter(group for _, group in rows)
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for group, label in {group: label for label, group in reversed(rows)}.items():
        by_class[label].append(group)
    held_out = set()
    for members in by_class.values():
        total = sum(sizes[group] for group in members)
        room = min(round(fraction * total), total - 1)
        for group in sorted(members, key=lambda group: hashlib.sha256((salt + group).encode()).digest()):
            if sizes[group] <= room:
                held_out.add(group)
                room -= sizes[group]
    return [group in held_out for _, group in rows]
