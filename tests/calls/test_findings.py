"""What a call's record, its webhook and its clients learn of its media."""

import asyncio

from bridge.calls.switchboard import Limits
from bridge.legs.one_way import ONE_WAY
from bridge.rtp.packet import RtpPacket
from tests import virtual
from tests.calls.desk import Desk

SILENT = "No packet was heard in 5 s."


def test_the_record_tells_how_a_call_sounds_while_it_lasts_and_afterwards() -> None:
    async def main() -> None:
        desk = Desk(webhook=True, limits=Limits(webhook_events=("ended",)))
        leg, call_id = await desk.answered()
        stream = leg.stream
        assert stream is not None
        assert desk.board.record(call_id)["media"]["received"]["packets"] == 0
        for number in range(5):
            packet = RtpPacket(0, False, number, number * 160, 7, b"\x55" * 160)
            stream.receive_rtp(bytes(packet), 1.0 + number * 0.02)
        live = desk.board.record(call_id)
        assert live["media"]["received"]["packets"] == 5
        assert live["media"]["received"]["mos"] == 4.35
        assert live["findings"] == []
        leg.ends("remote_hangup")
        await virtual.settle()
        ended = desk.board.record(call_id)
        assert ended["media"] == live["media"]
        assert desk.webhooks is not None
        told = desk.webhooks.events[-1]
        assert (told.type, told.data["media"]) == ("realtime.call.ended", live["media"])
        assert (told.data["barge_ins"], told.data["recording"]) == ([], None)
        await desk.close()

    virtual.run(main())


def test_a_finding_is_in_the_record_and_told_to_those_who_asked() -> None:
    async def main() -> None:
        desk = Desk(webhook=True, limits=Limits(webhook_events=("ended",)))
        leg, call_id = await desk.answered()
        client = desk.board.session(call_id).attach(extras=True)
        assert leg.listener is not None
        leg.listener.leg_finding(ONE_WAY, SILENT)
        finding = {"type": ONE_WAY, "at": desk.clock, "text": SILENT}
        assert desk.board.record(call_id)["findings"] == [finding]
        leg.ends("media_timeout")
        await virtual.settle()
        texts = []
        async with asyncio.timeout(5):
            while (text := await client.next()) is not None:
                texts.append(text)
        assert any("transport.media.one_way" in text and SILENT in text for text in texts)
        assert desk.webhooks is not None
        told = desk.webhooks.events[-1].data
        assert (told["findings"], told["end_reason"]) == ([finding], "media_timeout")
        await desk.close()

    virtual.run(main())
