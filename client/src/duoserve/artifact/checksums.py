"""The checksums of a version's files, SHA-256: `sha256sum -c` reads them too.

cd models/NAME/N && sha256sum -c assets.extra/MANIFEST.sha256
"""

import hashlib
from pathlib import Path
from typing import Final

# Relative to the version's folder, like the paths inside the file.
CHECKSUMS_PATH: Final = "assets.extra/MANIFEST.sha256"
SIGNATURE_PATH: Final = "assets.extra/model.sig"  # it covers the checksums, so it is made after them, not listed there


def write_checksums(folder: Path) -> None:
    """Writes the digests of every file in a version's folder except the checksums file itself and the signature."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in _files(folder)]
    path = folder / CHECKSUMS_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")


def verify_checksums(folder: Path) -> list[str]:
    """The differences from the checksums file, one line a file. Empty if there are none."""
    path = folder / CHECKSUMS_PATH
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return [f"Expected checksums at {CHECKSUMS_PATH}. Received: {error}"]
    findings = []
    listed = {}
    for number, line in enumerate(text.splitlines(), 1):
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64:
            findings.append(f"{CHECKSUMS_PATH}:{number}: expected '<sha256>  <file>'. Received: {line[:80]!r}")
        else:
            listed[name] = digest
    present = set(_files(folder))
    findings += [f"{name}: in the checksums, not in the folder" for name in sorted(listed.keys() - present)]
    findings += [f"{name}: in the folder, not in the checksums" for name in sorted(present - listed.keys())]
    for name in sorted(present & listed.keys()):
        if (actual := sha256(folder / name)) != listed[name]:
            findings.append(f"{name}: expected SHA-256 {listed[name][:12]}…. Received: {actual[:12]}…")
    return findings


def _files(folder: Path) -> list[str]:
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if path not in (CHECKSUMS_PATH, SIGNATURE_PATH))


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
