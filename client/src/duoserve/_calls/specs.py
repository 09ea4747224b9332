"""The specs of the versions that a client has seen, and which one to expect next."""

from __future__ import annotations

import dataclasses
from typing import Final

from duoserve._checks import Target
from duoserve._transport.fork import Lock
from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor

_KEPT: Final = 16  # versions; a spec holds a tokenizer of some hundred kilobytes


class Specs:
    """A cache of Preprocessors by version. A published version never changes, so nothing expires.

    Versions that differ only in their number share one Preprocessor, hence one loaded tokenizer.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_version: dict[int, Preprocessor] = {}
        self._expected: dict[Target, int] = {}

    def expected(self, target: Target) -> Preprocessor | None:
        """The Preprocessor of the version that last answered for this label, or of this version."""
        version = target if isinstance(target, int) else self._expected.get(target)
        return None if version is None else self._by_version.get(version)

    def add(self, version: int, spec: PreprocessingSpec) -> Preprocessor:
        """Stores the spec that the server returned for a version."""
        with self._lock:
            alike = (
                one for one in self._by_version.values() if dataclasses.replace(one.spec, version=spec.version) == spec
            )
            known = next(alike, None)
            found = self._by_version[version] = known or Preprocessor(spec)
            while len(self._by_version) > _KEPT:
                del self._by_version[next(iter(self._by_version))]
            return found

    def answered(self, target: Target, version: int) -> None:
        """Stores which version a label names now."""
        if self._expected.get(target) != version:
            with self._lock:
                self._expected[target] = version
