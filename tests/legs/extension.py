"""A leg without a wire: it notes what it is told, and the test plays its far end."""

from typing import Literal

from bridge.audio.codecs import PCMU
from bridge.errors import BridgeError
from bridge.legs.base import LegListener, LegResult, MediaSecurity
from bridge.media.stream import AudioStream

FROM = '"Alice" <sip:alice@example.com>;tag=1'
TO = "<sip:agent@example.com>"


class NoWire:
    def send(self, data: bytes) -> None:
        pass

    def send_rtcp(self, data: bytes) -> None:
        pass


def new_stream() -> AudioStream:
    return AudioStream(PCMU, payload_type=0, wire=NoWire(), cname="test")


class Extension:
    """`failure` is what `answer` raises, having refused the far end."""

    direction: Literal["inbound", "outbound"] = "inbound"

    def __init__(
        self, kind: Literal["sip", "webrtc"] = "sip", *, failure: BridgeError | None = None
    ) -> None:
        self.kind: Literal["sip", "webrtc"] = kind
        self.listener: LegListener | None = None
        self.result: LegResult | None = None
        self.headers = (("From", FROM), ("To", TO)) if kind == "sip" else ()
        self.stream: AudioStream | None = new_stream()
        self.verbs: list[str] = []
        self.messages: list[str] = []
        self.failure = failure
        self.media_security: MediaSecurity = "none" if kind == "sip" else "dtls"
        self._over = False

    def ring(self) -> None:
        self.verbs.append("ring")

    async def answer(self) -> None:
        if self.failure is not None:
            self.reject(self.failure.sip_status)
            raise self.failure
        self.verbs.append("answer")

    def reject(self, status: int) -> None:
        self.verbs.append(f"reject {status}")
        self.ends("rejected")

    async def hangup(self) -> None:
        if not self._over:
            self.verbs.append("hangup")
            self.ends("local_hangup")

    def send_message(self, text: str) -> None:
        self.messages.append(text)

    # The far end

    def acknowledges(self) -> None:
        assert self.listener is not None
        self.listener.leg_answered()

    def ends(self, reason: str) -> None:
        if not self._over:
            self._over = True
            if self.listener is not None:
                self.listener.leg_ended(reason)

    def presses(self, digit: str) -> None:
        assert self.listener is not None
        self.listener.leg_digit(digit)

    def writes(self, text: str) -> None:
        assert self.listener is not None
        self.listener.leg_message(text)
