"""Phone calls for the bench: SIP over UDP by asyncio, the media in a Wire."""

import asyncio
import base64
import os
import random
import re
import socket
from dataclasses import dataclass, field

from tests.bench.calls import Call, NotAnswered
from tests.bench.wire import Wire

SUITE = "AES_CM_128_HMAC_SHA1_80"
T1 = 0.5
ANSWER_S = 20.0


@dataclass(eq=False, slots=True)
class Dialog:
    call_id: str
    tag: str
    answered: asyncio.Future[str]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    seen: bool = False
    to: str = ""
    target: str = ""


class SipCalls(asyncio.DatagramProtocol):
    """Calls to the agent of one server, from one address. `secure` asks for SRTP."""

    def __init__(
        self, wire: Wire, script: int, target: tuple[str, int], *, secure: bool = False
    ) -> None:
        self._wire = wire
        self._script = script
        self._target = target
        self._secure = secure
        self._dialogs: dict[str, Dialog] = {}
        self._ports: list[socket.socket] = []
        self._tag = f"{random.getrandbits(40):x}"
        self._made = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._port = 0

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        own: socket.socket = self._transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._port = own.getsockname()[1]

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        for each in self._ports:
            each.close()

    async def call(self, phase: float, *, counted: bool = True) -> Call:
        """Raises NotAnswered."""
        loop = asyncio.get_running_loop()
        dialog = self.dialog()
        rtp, rtcp = self._pair()
        key = os.urandom(30)
        began = loop.time()
        try:
            body = await self.invite(dialog, self._offer(rtp.getsockname()[1], key))
        except NotAnswered:
            rtp.close()
            rtcp.close()
            raise
        setup_s = loop.time() - began
        remote, their_key = _media(body)
        if self._secure and their_key is None:
            raise NotAnswered("the answer has no key")
        number = self._wire.add(
            rtp.fileno(),
            remote,
            script=self._script,
            payload_type=0,
            phase=phase,
            keys=(key, their_key) if self._secure and their_key else None,
            counted=counted,
        )

        async def hangup() -> int:
            heard = self._wire.remove(number)
            await self.bye(dialog)
            rtp.close()
            rtcp.close()
            self._ports.remove(rtp)
            self._ports.remove(rtcp)
            return heard

        return Call(setup_s, hangup, dialog.ended)

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        """Bound to an even port and the next: what comes to the second is never read."""
        while True:
            rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            rtcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                port = 2 * random.randrange(16_500, 30_000)
                rtp.bind(("127.0.0.1", port))
                rtcp.bind(("127.0.0.1", port + 1))
            except OSError:
                rtp.close()
                rtcp.close()
                continue
            self._ports += [rtp, rtcp]
            return rtp, rtcp

    def _offer(self, port: int, key: bytes) -> str:
        profile = "RTP/SAVP" if self._secure else "RTP/AVP"
        lines = [
            "v=0",
            "o=bench 1 1 IN IP4 127.0.0.1",
            "s=-",
            "c=IN IP4 127.0.0.1",
            "t=0 0",
            f"m=audio {port} {profile} 0 101",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=ptime:20",
        ]
        if self._secure:
            lines.append(f"a=crypto:1 {SUITE} inline:{base64.b64encode(key).decode()}")
        return "\r\n".join([*lines, ""])

    def dialog(self) -> Dialog:
        self._made += 1
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        dialog = Dialog(f"{self._tag}-{self._made}@bench", f"{self._made:x}", answered)
        self._dialogs[dialog.call_id] = dialog
        return dialog

    async def invite(self, dialog: Dialog, offer: str) -> str:
        """The answer. Raises NotAnswered, and the dialog is over."""
        try:
            return await self._invite(dialog, offer)
        except NotAnswered:
            del self._dialogs[dialog.call_id]
            raise

    async def _invite(self, dialog: Dialog, offer: str) -> str:
        wait = T1
        for _ in range(7):
            self._send(dialog, "INVITE", 1, offer)
            try:
                return await asyncio.wait_for(asyncio.shield(dialog.answered), wait)
            except TimeoutError:
                if dialog.seen:
                    break
                wait *= 2
        try:
            return await asyncio.wait_for(dialog.answered, ANSWER_S)
        except TimeoutError:
            raise NotAnswered("no answer") from None

    async def bye(self, dialog: Dialog) -> None:
        wait = T1
        while not dialog.ended.is_set() and wait < 8:
            self._send(dialog, "BYE", 2)
            try:
                await asyncio.wait_for(dialog.ended.wait(), wait)
            except TimeoutError:
                wait *= 2
        del self._dialogs[dialog.call_id]

    def _send(self, dialog: Dialog, method: str, cseq: int, body: str = "") -> None:
        host, port = self._target
        lines = [
            f"{method} {dialog.target or f'sip:agent@{host}:{port}'} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{self._port};rport"
            f";branch=z9hG4bK{dialog.tag}{method}{self._tag}",
            "Max-Forwards: 70",
            f"From: <sip:bench@127.0.0.1>;tag={dialog.tag}",
            f"To: {dialog.to or f'<sip:agent@{host}:{port}>'}",
            f"Call-ID: {dialog.call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:bench@127.0.0.1:{self._port}>",
        ]
        if body:
            lines.append("Content-Type: application/sdp")
        lines += [f"Content-Length: {len(body)}", "", body]
        if self._transport is not None:
            self._transport.sendto("\r\n".join(lines).encode(), self._target)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        head, _, body = data.decode("utf-8", "replace").partition("\r\n\r\n")
        dialog = self._dialogs.get(_header(head, "Call-ID"))
        if not head.startswith("SIP/2.0"):
            self._answer(head, addr)
            if dialog is not None and head.startswith("BYE"):
                dialog.ended.set()
            return
        status, method = int(head[8:11]), _header(head, "CSeq").partition(" ")[2]
        if dialog is None:
            return
        if method == "BYE" and status >= 200:
            dialog.ended.set()
        if method != "INVITE":
            return
        dialog.seen = True
        if status < 200:
            return
        dialog.to = _header(head, "To")
        if status < 300 and (contact := re.search(r"<([^>]+)>", _header(head, "Contact"))):
            dialog.target = contact[1]
        self._send(dialog, "ACK", 1)
        if not dialog.answered.done():
            if status < 300:
                dialog.answered.set_result(body)
            else:
                dialog.answered.set_exception(NotAnswered(head.splitlines()[0]))

    def _answer(self, head: str, addr: tuple[str, int]) -> None:
        if head.startswith("ACK") or self._transport is None:
            return
        kept = [line for line in head.split("\r\n")[1:] if line.lower().startswith("via:")]
        kept += [f"{name}: {_header(head, name)}" for name in ("From", "To", "Call-ID", "CSeq")]
        lines = ["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]
        self._transport.sendto("\r\n".join(lines).encode(), addr)


def _header(head: str, name: str) -> str:
    found = re.search(rf"^{name}:[ \t]*(.*?)\r?$", head, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


def _media(sdp: str) -> tuple[tuple[str, int], bytes | None]:
    host = re.search(r"^c=IN IP4 (\S+)", sdp, re.MULTILINE)
    port = re.search(r"^m=audio (\d+)", sdp, re.MULTILINE)
    key = re.search(rf"^a=crypto:\d+ {SUITE} inline:([^\s|]+)", sdp, re.MULTILINE)
    if host is None or port is None:
        raise NotAnswered("the answer has no address")
    return (host[1], int(port[1])), base64.b64decode(key[1]) if key else None
