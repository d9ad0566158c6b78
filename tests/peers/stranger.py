"""Somebody on the network who saw the ports of a WebRTC call, and wishes it ill."""

import os
import re
import socket
import struct

_BODY = struct.pack(
    "!2s32sBB2H2B",
    b"\xfe\xfd",
    bytes(32),
    0,
    0,
    2,
    0,  # TLS_NULL_WITH_NULL_NULL, and nothing else: nobody can agree to that
    1,
    0,
)
CLIENT_HELLO = (
    struct.pack("!B2sHHIH", 22, b"\xfe\xff", 0, 0, 0, 12 + len(_BODY))
    + struct.pack("!BBHHBHBH", 1, 0, len(_BODY), 0, 0, 0, 0, len(_BODY))
    + _BODY
)

_CANDIDATE = re.compile(r"^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", re.IGNORECASE | re.M)


def garbage() -> list[bytes]:
    """Empty, and one of each kind that RFC 7983 tells apart: STUN, DTLS, RTP, RTCP, neither."""
    stun = struct.pack("!HHI12s", 1, 8, 0x2112A442, os.urandom(12)) + b"\x00\x24\x00\x02abcd"
    return [
        b"",
        stun,
        b"\x00\x01\x00\x00",
        CLIENT_HELLO,
        b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28",
        b"\x16\xfe\xff" + os.urandom(60),
        b"\x80\x6f" + os.urandom(170),
        b"\x80\xc8" + os.urandom(60),
        b"\xff" * 1400,
    ]


class Stranger:
    """Sends from sockets of its own to every host candidate of an SDP."""

    def __init__(self, sdp: str) -> None:
        self.ports = {(host, int(port)) for host, port in _CANDIDATE.findall(sdp)}
        assert self.ports
        self._sockets = {
            family: socket.socket(family, socket.SOCK_DGRAM)
            for family in (socket.AF_INET, socket.AF_INET6)
        }

    def sends(self, *datagrams: bytes) -> None:
        for host, port in self.ports:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            for datagram in datagrams:
                self._sockets[family].sendto(datagram, (host, port))

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
