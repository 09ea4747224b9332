"""The PEM files of a `TLS` option, read and checked before gRPC sees them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import grpc

from duoserve.errors import InvalidInput

PemPath = str | os.PathLike[str] | None


def read_credentials(ca: PemPath, key: PemPath, cert: PemPath) -> tuple[grpc.ChannelCredentials, str]:
    """What gRPC needs, and a digest that changes with the files."""
    parts = _read(ca, key, cert)
    _check(parts[0], key, cert)
    if _read(ca, key, cert) != parts:  # the files that were checked are not those that were read
        raise InvalidInput("Expected TLS files not to change while they are read. Received: changed ones")
    digest = hashlib.sha256(b"\0".join(part or b"" for part in parts)).hexdigest()
    return grpc.ssl_channel_credentials(*parts), digest


def _read(ca: PemPath, key: PemPath, cert: PemPath) -> list[bytes | None]:
    parts: list[bytes | None] = []
    for name, path in (("ca", ca), ("key", key), ("cert", cert)):
        try:
            parts.append(None if path is None else Path(path).read_bytes())
        except OSError as error:
            raise InvalidInput(f"Expected TLS {name} to be a readable file. Received: {error}") from error
    return parts


def _check(ca: bytes | None, key: PemPath, cert: PemPath) -> None:
    # gRPC ends the process ("Check failed: cert_chain != nullptr") on an invalid certificate,
    # and a rotated file is invalid for a moment.
    import ssl  # slow to load, and most clients have no TLS

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        try:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise InvalidInput(f"Expected TLS ca to hold PEM certificates. Received: {error}") from error
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, password="")  # empty: never prompt on the terminal
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise InvalidInput(f"Expected TLS cert and key to be a pair of PEM files. Received: {error}") from error
