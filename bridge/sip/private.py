"""Which hosts are inside a private network, whatever disguise an address wears."""

import ipaddress
import re

# An IPv4 address hides in these, which may be a private one: NAT64, 6to4, Teredo.
_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "2002::/16", "2001::/32")))

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str) -> IpAddress:
    """Raises ValueError. An IPv4 address seen through a dual-stack socket is one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else address


def is_private_host(host: str) -> bool:
    """Addresses that are not global, and names that only resolve at home."""
    try:
        address = parse_address(host)
    except ValueError:
        name = host.rstrip(".").lower()
        # A name of digits alone is an address to some resolvers: 2130706433, 127.1, 0x7f000001.
        odd = re.fullmatch(r"[0-9.]+|0x[0-9a-f]+(\.0x[0-9a-f]+|\.[0-9]+)*", name) is not None
        local = name.endswith((".local", ".localhost", ".internal", ".lan", ".home.arpa"))
        return odd or local or "." not in name
    embeds = any(address.version == 6 and address in network for network in _TRANSLATED)
    return embeds or not address.is_global or address.is_multicast
