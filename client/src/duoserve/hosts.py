"""Whether a host is this machine."""

import ipaddress


def ip_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a host is; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether no byte to a host leaves this machine."""
    address = ip_of(host)
    if address is None:
        return host.lower() == "localhost"
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)
