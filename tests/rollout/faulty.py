"""The embedded server with a fault in one version, for faults that real models don't have on demand.

DUOSERVE_TEST_FAULT is KIND:VERSION, or several between commas:
    refuse   the load fails, as on a broken disk
    crash    the load ends the process, as a fault in native code does
    dies     the first Predict on it ends the process
    nan      it answers NaN
"""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any

import numpy as np

from serving.local import __main__ as program
from serving.local import server
from serving.local.errors import Code, ServingError


def spoil(kind: str, version: int) -> None:
    load = server.Server._load

    def faulty(self: Any, servable_id: Any, path: pathlib.Path) -> Any:
        if servable_id.version != version:
            return load(self, servable_id, path)
        if kind == "refuse":
            raise ServingError(Code.INTERNAL, "disk error")
        if kind == "crash":
            os._exit(139)
        servable = load(self, servable_id, path)
        run = servable.run

        def broken(*arguments: Any, **options: Any) -> Any:
            if kind == "dies":
                os._exit(139)
            answer = run(*arguments, **options)
            return [np.full_like(value, np.nan) if value.dtype == np.float32 else value for value in answer]

        servable.run = broken
        return servable

    server.Server._load = faulty  # type: ignore[method-assign]


if __name__ == "__main__":
    for fault in os.environ["DUOSERVE_TEST_FAULT"].split(","):
        kind, version = fault.split(":")
        spoil(kind, int(version))
    sys.exit(program.main())
