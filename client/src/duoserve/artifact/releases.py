"""Releases of TensorFlow: a server loads what its own minor release wrote, or an older one."""

import os
import re
from typing import Final

STOCK_VERSION: Final = "2.20.0"  # the newest stock image known to exist (November 2026)
SERVER_VERSION: Final = os.environ.get("DUOSERVE_SERVER_VERSION") or STOCK_VERSION  # TensorFlow of your servers


class ReleaseError(ValueError):
    """Not a release, such as 2.20 or 2.20.0."""


def minor_release(release: str) -> tuple[int, int]:
    """What counts of a release: minor ones add operations, patches never do. Raises ReleaseError for another text."""
    found = re.match(r"([0-9]+)\.([0-9]+)(?![^.+-])", release)
    if found is None:
        raise ReleaseError(f"Expected a TensorFlow release such as {STOCK_VERSION}. Received: {release!r}")
    return int(found[1]), int(found[2])


def too_new(written: str, server: str = SERVER_VERSION) -> str | None:
    """Why a server of a release may fail to load what another one wrote; None if it loads it."""
    if minor_release(written) <= minor_release(server):
        return None
    return (
        f"expected a TensorFlow no newer than the server's {server}. Received: {written}, whose operations that"
        " server may lack (if yours is newer, set DUOSERVE_SERVER_VERSION)"
    )
