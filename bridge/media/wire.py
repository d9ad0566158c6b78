"""What a stream sends its packets to."""

from typing import Protocol


class Wire(Protocol):
    """Where packets go: a UDP socket, or SRTP over somebody else's. Never raises."""

    def send(self, data: bytes, /) -> None: ...

    def send_rtcp(self, data: bytes, /) -> None: ...
