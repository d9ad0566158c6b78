"""baresip calls a receptionist with a script of its own: nobody takes the call, so it leaves a
message, and another. The target of the transfer is sipp, which is busy.
"""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from bridge.audio.wav import read_wav
from tests.peers import speech
from tests.peers.baresip import Baresip
from tests.peers.calling import WAIT_S
from tests.peers.service import Service
from tests.peers.sideband import Sideband
from tests.peers.sipp import Scenario, playing

SCRIPT = """
start: menu
agree: {{phrases: ["yes"], dtmf: "1"}}
refuse: {{phrases: ["no"], dtmf: "2"}}
give_up: {{after: 3, to: end}}
departments:
  boss: {{dtmf: "1", say: "Wait.", target: "sip:boss@127.0.0.1:{port}", failed: message}}
reasons: {{"486": "busy", other: "gone"}}
states:
  menu: {{say: "Hi.", departments: [boss]}}
  message: {{say: "The line is {{why}}.", records: {{then: taken, min_s: 0.4}}}}
  taken: {{say: "Thanks.", records: {{then: end, min_s: 0.4}}}}
  end: {{say: "Bye.", hangs_up: true}}
"""
LOUD = 1000
WORDS = "This is a message for the boss, please call me back before the weekend."


def sound_s(recording: Path) -> float:
    """Of words: the pauses between them are none."""
    if not recording.exists() or recording.stat().st_size < 48_000:
        return 0.0
    heard, rate = read_wav(recording)
    blocks = heard[: len(heard) // 480 * 480].reshape(-1, 480)
    return float(np.count_nonzero(np.abs(blocks).max(axis=1) > LOUD)) * 480 / rate


def wait_for_sound(recording: Path) -> None:
    """By the file, for however long the phone takes to begin."""
    deadline = time.monotonic() + WAIT_S
    while sound_s(recording) < 1.5:
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def caller(service: Service, phone: Baresip, folder: Path) -> tuple[list[str], str]:
    """What the agent said, and the call: one message that a key ends, one cut off by a hangup."""
    loop = asyncio.get_running_loop()
    phone.command("dial", f"sip:agent@127.0.0.1:{service.sip_port}")
    assert await asyncio.to_thread(phone.wait, "CALL_ESTABLISHED", WAIT_S), phone.log
    call_id = str(service.calls()[0]["id"])
    sideband = Sideband()
    reading = sideband.attach(service, call_id)
    await sideband.next("session.created", 0)
    phone.press("1")
    for number, ends in ((1, "#"), (2, "")):
        asked = loop.time()
        done, told = await sideband.next("response.output_audio_transcript.done", asked)
        while told["transcript"] in ("Hi.", "Wait."):
            done, told = await sideband.next("response.output_audio_transcript.done", done)
        await sideband.next("output_audio_buffer.stopped", done)
        phone.command("ausrc", f"aufile,{folder}/words{number}.wav")
        recording = folder / "recordings" / f"{call_id}_message_{number}.wav"
        await asyncio.to_thread(wait_for_sound, recording)
        if ends:
            phone.command("ausrc", f"aufile,{folder}/silence.wav")
            phone.press(ends)
    phone.command("hangup")
    await asyncio.wait_for(reading, WAIT_S)
    said = [e for _, e in sideband.events if e["type"].endswith("output_audio_transcript.done")]
    return [event["transcript"] for event in said], call_id


@pytest.mark.interop("baresip", "sipp", "espeak-ng", "sox")
@pytest.mark.matrix(48, peer="baresip")
def test_a_message_for_somebody_who_is_busy(tmp_path: Path) -> None:
    target = Scenario().receive_invite().reply_to_invite("486 Busy Here").receive("ACK")
    said = speech.samples(WORDS)
    for number in (1, 2):
        speech.write(tmp_path / f"words{number}.wav", said, 8000)
    silence = speech.write(tmp_path / "silence.wav", np.zeros(480_000, np.int16), 8000)
    with playing(target, tmp_path) as boss:
        script = tmp_path / "script.yaml"
        script.write_text(SCRIPT.format(port=boss.port))
        settings = {
            "cascade.llm.script": str(script),
            "store.recordings_path": str(tmp_path / "recordings"),
        }
        with (
            Service(**settings) as service,
            Baresip(silence, transport="udp", codec="PCMU") as phone,
        ):
            told, call_id = asyncio.run(caller(service, phone, tmp_path))
    assert told[-2:] == ["The line is busy.", "Thanks."]
    names = [f"{call_id}_message_{number}.wav" for number in (1, 2)]
    assert sorted(path.name for path in (tmp_path / "recordings").iterdir()) == names
    for name in names:
        heard, rate = read_wav(tmp_path / "recordings" / name)
        assert rate == 24_000
        # Half a second at a time: a packet that comes late moves what follows.
        pieces = [heard[at : at + 12_000 : 3] for at in range(0, len(heard) - 12_000, 2_400)]
        likeness = [speech.resemblance(said, piece) for piece in pieces]
        print(f"{name[-5]}: {len(heard) / rate:.2f} s, likeness {max(likeness):.3f}")
        assert len(heard) > 1.9 * rate
        assert max(likeness) > 0.8
