"""Signed versions: made by a key, checked with its other half, by the gate and by OpenSSF's own program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from duoserve.artifact.signing import SIGNATURE_PATH, SigningError, check_private_key, verify_signature
from export.cli import main
from export.publish.savedmodel import Published


def make_key(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_a_signed_version_is_verified_and_a_tampered_one_is_not(
    export: Callable[..., Published], tmp_path: Path
) -> None:
    private, public = make_key(tmp_path, "release")
    _, other = make_key(tmp_path, "other")
    folder = export(sign_key=private).path
    assert verify_signature(folder, [other, public]) == []
    assert main(["check", str(folder), "--public-key", str(public)]) == 0
    program = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    program += ["--signature", str(folder / SIGNATURE_PATH), "--public_key", str(public)]
    assert subprocess.run(program, capture_output=True, check=False).returncode == 0

    assert "other.pub" in verify_signature(folder, [other])[0]
    (folder / "assets.extra" / "note.txt").write_text("added")
    assert verify_signature(folder, [public])
    assert main(["check", str(folder), "--public-key", str(public)]) == 1


def test_an_unsigned_version_does_not_pass_as_signed(published: Published, tmp_path: Path) -> None:
    _, public = make_key(tmp_path, "release")
    assert "none" in verify_signature(published.path, [public])[0]
    assert main(["check", str(published.path), "--public-key", str(public)]) == 1


def test_without_the_packages_the_error_names_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    private, _ = make_key(tmp_path, "release")
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(SigningError, match=r"^Expected the packages model-signing and pyopenssl"):
        check_private_key(private)


def test_an_invalid_key_publishes_nothing(export: Callable[..., Published], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.key"
    wrong.write_text("no key")
    with pytest.raises(SigningError, match=r"wrong\.key"):
        export(sign_key=wrong)
    assert not [path for path in (tmp_path / "store" / "pets").glob("*") if path.name.isdigit()]
