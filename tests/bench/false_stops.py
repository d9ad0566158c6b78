"""How often noise is taken for a caller who interrupts: babble, music and keys, minutes of each.

The voice detector of the cascade hears them while the agent speaks, faster than real time. With
--call they are sent on a real phone call to the service as well, one after the other.

    python -m tests.bench.false_stops --minutes 10 --call
"""

import argparse
import asyncio
import os
from collections.abc import Sequence

from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE, Pcm, SpeechStarted
from bridge.backends.cascade.turn import Endpointer, TurnDetection
from bridge.backends.cascade.vad import CHUNK_MS, VadBatch, load_silero
from tests.bench.noises import NOISES, RATE, Sound
from tests.peers.phone import Phone
from tests.peers.service import Service
from tests.peers.sideband import Sideband

SLICE = MODEL_RATE // 50
REST_CHUNKS = 1000 // CHUNK_MS


def speaking() -> Endpointer:
    endpointer = Endpointer(TurnDetection())
    endpointer.agent_speaking = True
    return endpointer


async def stops_in(pcm: Pcm) -> int:
    """Stops of an agent that is silent for a second after each, then speaks again."""
    stops, rests = 0, 0
    batch = VadBatch(load_silero())
    endpointer = speaking()

    def scored(probability: float) -> None:
        nonlocal stops, rests, endpointer
        if rests:
            rests -= 1
            endpointer.background.hear(probability, stream.level_dbfs)
        elif isinstance(endpointer.hear(probability, stream.level_dbfs), SpeechStarted):
            stops, rests = stops + 1, REST_CHUNKS
            # Else noise that never ends would count once, however long it kept the agent still.
            background = endpointer.background
            endpointer = speaking()
            endpointer.background = background

    stream = batch.join(scored)
    for at in range(0, len(pcm), SLICE):
        stream.push(pcm[at : at + SLICE])
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    stream.leave()
    batch.close()
    return stops


async def by_call(service: Service, sound: Sound) -> int:
    """What a sideband of a phone call hears of speech that began."""
    phone = await Phone(service.sip).open()
    await phone.call()
    call_id = service.calls()[0]["id"]
    sideband = Sideband()
    reading = sideband.attach(service, call_id)
    await asyncio.sleep(1.0)
    phone.say(sound)
    try:
        await asyncio.wait_for(phone.ended.wait(), len(sound) / RATE)
    except TimeoutError:
        pass
    else:
        raise RuntimeError("the agent hung up")
    phone.hangup()
    await asyncio.wait_for(reading, 5)
    await phone.close()
    return sum(event["type"] == "input_audio_buffer.speech_started" for _, event in sideband.events)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of each (%(default)s)")
    parser.add_argument("--call", action="store_true", help="by a phone call, too")
    options = parser.parse_args(arguments)
    print(f"load {os.getloadavg()[0]:.1f}")
    for name, make in NOISES.items():
        sound = make(60 * options.minutes)
        stops = asyncio.run(stops_in(Resampler(RATE, MODEL_RATE).process(sound)))
        print(f"{name}: {stops} in {options.minutes:g} minutes, by the detector", flush=True)
        if options.call:
            with Service(limits__media_timeout_s=60) as service:
                stops = asyncio.run(by_call(service, sound))
            print(f"{name}: {stops} in {options.minutes:g} minutes, on a call", flush=True)


if __name__ == "__main__":
    main()
