"""Signed versions: OpenSSF model signing, with an elliptic curve key.

Export signs a folder, the gate and the rollout verify it; all need `pip install model-signing pyopenssl`
(the extra "signing"). Its own command line verifies it too:

model_signing verify key models/NAME/N --signature models/NAME/N/assets.extra/model.sig --public_key release.pub
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from duoserve.artifact.checksums import SIGNATURE_PATH

__all__ = ["SIGNATURE_PATH", "SigningError", "check_private_key", "sign_folder", "verify_signature"]


class SigningError(ValueError):
    """A folder that can't be signed, or whose signature can't be checked."""


def check_private_key(path: Path) -> None:
    """Loads a key as `sign_folder` does, and raises what it raises, so that it is refused before any work."""
    library = _library()
    try:
        library.signing.Config().use_elliptic_key_signer(private_key=path)
    except Exception as error:  # the library passes on any error of its parts
        raise SigningError(f"Expected {path} to be an elliptic curve private key. Received: {error}") from error


def sign_folder(folder: Path, private_key: Path) -> Path:
    """Signs every file of a version's folder except the signature; returns the signature's path.

    The private key is a PEM file with an elliptic curve key, unencrypted. Raises SigningError if it can't be used.
    """
    library = _library()
    signature = folder / SIGNATURE_PATH
    scratch = signature.with_name(f".{signature.name}")
    hashing = library.hashing.Config().set_ignored_paths(
        paths=[SIGNATURE_PATH, scratch.relative_to(folder)], ignore_git_paths=False
    )
    try:
        signer = library.signing.Config().set_hashing_config(hashing).use_elliptic_key_signer(private_key=private_key)
        signature.parent.mkdir(parents=True, exist_ok=True)
        signer.sign(folder, scratch)
        scratch.replace(signature)
    except Exception as error:  # the library passes on any error of its parts
        scratch.unlink(missing_ok=True)
        expected = f"Expected {private_key} to be an elliptic curve private key that signs {folder}"
        raise SigningError(f"{expected}. Received: {error}") from error
    return signature


def verify_signature(folder: Path, public_keys: Sequence[Path]) -> list[str]:
    """The findings about the signature of a version's folder. Empty if one of the keys (PEM files) made it.

    Raises:
        SigningError: No key was given, one can't be read, or the library is not installed.
    """
    library = _library()
    if not public_keys:
        raise SigningError("Expected at least one public key to verify with. Received: none")
    signature = folder / SIGNATURE_PATH
    if not signature.is_file():
        return [f"expected a signature at {SIGNATURE_PATH}. Received: none"]
    findings = []
    for key in public_keys:
        try:
            verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=key)
        except Exception as error:
            raise SigningError(f"Expected {key} to be an elliptic curve public key. Received: {error}") from error
        try:
            verifier.verify(folder, signature)
        except Exception as error:  # a broken file can raise anything, which means "not verified"
            findings.append(f"expected a signature by {key.name}. Received: {str(error)[:160] or type(error).__name__}")
        else:
            return []
    return findings


def _library() -> ModuleType:
    try:
        import model_signing
    except ImportError as error:
        packages = "the packages model-signing and pyopenssl, for signatures"
        raise SigningError(f"Expected {packages}. Received: {error}") from error
    module: ModuleType = model_signing
    return module
