"""Browser calls for the bench: aiortc makes offer, ICE and DTLS, then the socket goes to a Wire.

From then on aiortc sees STUN and DTLS only. What one call costs is what its packets cost.
"""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx2
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, rtcdtlstransport
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket

from tests.bench.calls import Call, NotAnswered
from tests.bench.sip_calls import SipCalls
from tests.bench.wire import Wire

Goodbye = Callable[[], Awaitable[None]]

CONNECT_S = 15.0
REPORT_S = 1.0
KEY, SALT = 16, 14

# The profile the wire speaks, and that browsers offer first.
rtcdtlstransport.SRTP_PROFILES[:] = [
    profile
    for profile in rtcdtlstransport.SRTP_PROFILES
    if profile.openssl_profile == b"SRTP_AES128_CM_SHA1_80"
]


class WebRtcCalls:
    """Calls to `url`, which takes SDP; or JSON with `sdp` and `type`, as aiortc's and Pipecat's
    examples do."""

    def __init__(
        self, wire: Wire, script: int, url: str, slow: socket.socket, *, json: bool = False
    ) -> None:
        self._wire = wire
        self._script = script
        self._url = url
        self._slow = slow
        self._json = json
        self._has_channel = True
        self._protocols: dict[int, tuple[Any, Any]] = {}
        self._http: httpx2.AsyncClient | None = None

    async def open(self) -> None:
        logging.getLogger("aioice").setLevel(logging.ERROR)
        self._http = httpx2.AsyncClient(timeout=30)
        asyncio.get_running_loop().add_reader(self._slow, self._pass_on)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._slow)
        if self._http is not None:
            await self._http.aclose()

    async def call(self, phase: float, *, counted: bool = True) -> Call:
        """Raises NotAnswered."""
        loop = asyncio.get_running_loop()
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        ended = asyncio.Event()
        connected: asyncio.Future[None] = loop.create_future()

        def changed() -> None:
            if pc.connectionState == "connected" and not connected.done():
                connected.set_result(None)
            elif pc.connectionState in ("failed", "closed"):
                ended.set()

        pc.on("connectionstatechange", changed)
        channel = pc.createDataChannel("oai-events") if self._has_channel else None
        audio = pc.addTransceiver("audio")
        began = loop.time()
        try:
            await pc.setLocalDescription(await pc.createOffer())
            answer, goodbye = await self._offer(pc.localDescription.sdp)
            await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            await asyncio.wait_for(connected, CONNECT_S)
        except (TimeoutError, NotAnswered, httpx2.HTTPError) as error:
            await pc.close()
            raise NotAnswered(str(error) or type(error).__name__) from error
        setup_s = loop.time() - began
        dtls = audio.sender.transport
        await audio.receiver.stop()
        # Not `stop`: that would say goodbye for the SSRC the wire goes on with.
        audio.sender._RTCRtpSender__rtp_task.cancel()  # type: ignore[attr-defined]
        number = self._hand_over(
            dtls, audio.sender._ssrc, phase, payload_type=_opus(answer), counted=counted
        )
        reports = loop.create_task(self._report(dtls, audio.sender._ssrc, _source(answer)))

        async def hangup() -> int:
            reports.cancel()
            heard = self._wire.remove(number)
            protocol, _ = self._protocols.pop(number)
            if not protocol.transport.is_closing():
                loop._add_reader(  # type: ignore[attr-defined]
                    protocol.transport._sock_fd, protocol.transport._read_ready
                )
            if channel is not None:
                channel.close()
            await goodbye()
            await pc.close()
            return heard

        return Call(setup_s, hangup, ended)

    async def _offer(self, sdp: str) -> tuple[str, Goodbye]:
        """The answer, and what there is to be said at the end."""
        assert self._http is not None
        if self._json:
            posted = await self._http.post(self._url, json={"sdp": sdp, "type": "offer"})
        else:
            headers = {"content-type": "application/sdp", "authorization": "Bearer bench"}
            posted = await self._http.post(self._url, content=sdp, headers=headers)
        if posted.status_code >= 300:
            raise NotAnswered(f"{posted.status_code} {posted.text[:200]}")
        return (str(posted.json()["sdp"]) if self._json else posted.text), _say_nothing

    def _hand_over(
        self, dtls: Any, ssrc: int, phase: float, *, payload_type: int, counted: bool
    ) -> int:
        keys = dtls._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (KEY + SALT))
        client = keys[:KEY] + keys[2 * KEY : 2 * KEY + SALT]
        server = keys[KEY : 2 * KEY] + keys[2 * KEY + SALT :]
        pair = dtls.transport._connection._nominated[1]
        transport = pair.protocol.transport
        # aiortc's transport keeps its socket to send by; what comes is read by the wire.
        asyncio.get_running_loop()._remove_reader(transport._sock_fd)  # type: ignore[attr-defined]
        number = self._wire.add(
            transport.get_extra_info("socket").fileno(),
            pair.remote_addr,
            script=self._script,
            payload_type=payload_type,
            phase=phase,
            ssrc=ssrc,
            keys=(server, client) if dtls._role == "server" else (client, server),
            counted=counted,
        )
        self._protocols[number] = (pair.protocol, pair.remote_addr)
        return number

    async def _report(self, dtls: Any, ssrc: int, theirs: int) -> None:
        """Receiver reports, as a browser sends them: nothing is lost."""
        told = bytes(RtcpRrPacket(ssrc, [RtcpReceiverInfo(theirs, 0, 0, 0, 0, 0, 0)]))
        with contextlib.suppress(ConnectionError):  # the far end has gone
            while True:
                await dtls._send_rtp(told)
                await asyncio.sleep(REPORT_S)

    def _pass_on(self) -> None:
        while True:
            try:
                data = self._slow.recv(4096)
            except BlockingIOError:
                return
            found = self._protocols.get(int.from_bytes(data[:4], "little"))
            if found is not None:
                found[0].datagram_received(data[4:], found[1])


class DtlsCalls(WebRtcCalls):
    """The same, with the offer in an INVITE to `target`."""

    def __init__(
        self, wire: Wire, script: int, target: tuple[str, int], slow: socket.socket
    ) -> None:
        super().__init__(wire, script, "", slow)
        self._has_channel = False
        self._sip = SipCalls(wire, script, target)

    async def open(self) -> None:
        await super().open()
        await self._sip.open()

    async def close(self) -> None:
        await super().close()
        await self._sip.close()

    async def _offer(self, sdp: str) -> tuple[str, Goodbye]:
        dialog = self._sip.dialog()
        return await self._sip.invite(dialog, sdp), partial(self._sip.bye, dialog)


async def _say_nothing() -> None:
    pass


def _source(answer: str) -> int:
    """0 if it names none."""
    found = re.search(r"^a=ssrc:(\d+) ", answer, re.MULTILINE)
    return int(found[1]) if found else 0


def _opus(answer: str) -> int:
    found = re.search(r"^a=rtpmap:(\d+) opus/48000", answer, re.MULTILINE | re.IGNORECASE)
    if found is None:
        raise NotAnswered("no Opus in the answer")
    return int(found[1])
