"""UDP sockets of calls: marked for speech, and connected ones beside those that hear anybody."""

import socket

from bridge.rtp.latching import Endpoint

EXPEDITED_FORWARDING = 0xB8  # DSCP 46 (RFC 3246)
MAX_BEFORE = 32


def unbound(family: int) -> socket.socket:
    """One that never blocks. Raises OSError."""
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET:
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED_FORWARDING)
    else:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED_FORWARDING)
        # The same number of the other version may be another call's.
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return udp


def connected(port: socket.socket, peer: Endpoint) -> socket.socket | None:
    """Another socket of the address that `port` has, for datagrams to and from `peer` alone: the
    kernel gives it those, and all others to `port`. None if it cannot be had.

    One at a time. Nobody else may bind the address, before or afterwards.
    """
    try:
        twin = unbound(port.family)
    except OSError:
        return None
    try:
        _share(True, port, twin)
        twin.bind(port.getsockname())
        twin.connect(peer)
        # Until then it may have been given what anybody sent.
        for _ in range(MAX_BEFORE):
            twin.recv(1)
    except BlockingIOError:
        return twin
    except OSError:
        pass
    finally:
        _share(False, port, twin)
    twin.close()
    return None


def _share(shared: bool, *ports: socket.socket) -> None:  # noqa: FBT001
    """Their address, with others of the same user."""
    for each in ports:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
