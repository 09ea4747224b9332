"""The files of a `TLS` option, read and checked before gRPC sees them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import grpc

from duoserve.errors import InvalidInput
from duoserve.options import TLS

__all__ = ["credentials_of"]


def credentials_of(tls: TLS) -> tuple[grpc.ChannelCredentials, str]:
    """What gRPC needs, and a digest that changes with the files.

    Raises:
        InvalidInput: A file that can't be read, is no PEM, or a certificate and key that are no pair.
    """
    parts = _read_pem(tls)
    _check_pem(tls, parts[0])
    if _read_pem(tls) != parts:  # what was checked is not what was read
        raise InvalidInput("Expected TLS files to stay as they are while they are read. Received: changing ones")
    digest = hashlib.sha256(b"\0".join(part or b"" for part in parts)).hexdigest()
    return grpc.ssl_channel_credentials(*parts), digest


def _read_pem(tls: TLS) -> list[bytes | None]:
    """Contents of ca, key and cert."""
    parts: list[bytes | None] = []
    for name, path in (("ca", tls.ca), ("key", tls.key), ("cert", tls.cert)):
        try:
            parts.append(None if path is None else Path(path).read_bytes())
        except OSError as error:
            raise InvalidInput(f"Expected TLS {name} to be a readable file. Received: {error}") from error
    return parts


def _check_pem(tls: TLS, ca: bytes | None) -> None:
    # gRPC ends the process ("Check failed: cert_chain != nullptr") on a certificate that is none,
    # and rotated files are that for a moment.
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        try:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise InvalidInput(f"Expected TLS ca to hold PEM certificates. Received: {error}") from error
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key, password="")  # empty: never ask on the terminal
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise InvalidInput(f"Expected TLS cert and key to be a pair of PEM files. Received: {error}") from error
