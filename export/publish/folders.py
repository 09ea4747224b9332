"""A folder that appears complete or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def writing_folder(target: Path) -> Iterator[Path]:
    """A scratch folder beside `target` that takes its place when the block ends well.

    The old content of `target` stays until the new folder is complete, and permanently if
    the block raises. Files are synced before the rename, so a crash leaves no half-written ones.
    A killed process leaves its scratch folder behind, whose name starts with a dot: delete it by hand.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    old = scratch.with_name(scratch.name + "-old")
    try:
        scratch.chmod(0o755)  # mkdtemp's folders are private to their owner
        yield scratch
        for path in [*scratch.rglob("*"), scratch]:
            sync(path)
        # A folder can't replace a full one in one step: the old one is renamed first.
        if target.exists():
            target.rename(old)
        try:
            scratch.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        sync(target.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # a full disk names no file
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
