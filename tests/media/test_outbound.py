import numpy as np
import pytest

from bridge.audio.codecs import G722, OPUS, PCMU
from bridge.audio.frames import MODEL_FRAME
from bridge.audio.g722 import G722Decoder
from bridge.audio.levels import rms
from bridge.audio.opus import OpusDecoder
from bridge.audio.tones import sine
from bridge.media.effort import EFFORT
from bridge.media.outbound import (
    CALM_REPORTS,
    CELT_BITRATE,
    SETTLED_FRAMES,
    G722Outbound,
    OpusOutbound,
    OpusTerms,
    outbound_for,
)

TONE = sine(1000, 1.0)
FRAMES = [TONE[at : at + MODEL_FRAME] for at in range(0, len(TONE), MODEL_FRAME)]
SECONDS = np.arange(24_000) / 24_000
VOWEL = sum(np.sin(2 * np.pi * 150 * n * SECONDS) / n for n in range(1, 20))
# libopus repeats what it takes for speech alone, and that comes and goes.
SYLLABLES = (6000 * VOWEL * np.sin(2 * np.pi * 3 * SECONDS) ** 2).astype(np.int16).reshape(-1, 480)
CELT = 16  # first configuration number without SILK (RFC 6716 table 2)


def configuration(packet: bytes) -> int:
    return packet[0] >> 3


def test_g722_goes_in_frames_of_its_own_rate() -> None:
    outbound = outbound_for(G722, OpusTerms())
    assert isinstance(outbound, G722Outbound)
    assert outbound.step == 160
    packets = [outbound.encode(frame) for frame in FRAMES]
    assert {len(packet) for packet in packets} == {160}
    decoder = G722Decoder()
    heard = np.concatenate([decoder.decode(packet) for packet in packets])
    assert rms(heard[1600:]) == pytest.approx(rms(TONE), rel=0.1)
    tail = [decoder.decode(outbound.rest()) for _ in range(10)]
    assert rms(tail[-1]) < 10
    outbound.close()


def test_opus_rests_on_one_packet() -> None:
    outbound = outbound_for(OPUS, OpusTerms())
    assert isinstance(outbound, OpusOutbound)
    assert outbound.step == 960
    outbound.encode(FRAMES[0])
    assert outbound.rest() == outbound.rest()
    assert not OpusDecoder().decode(outbound.rest()).any()
    outbound.close()


def test_a_pause_with_fec_settles_on_next_to_nothing() -> None:
    outbound = OpusOutbound(OpusTerms(repairs=True))
    outbound.encode(FRAMES[0])
    packets = [outbound.rest() for _ in range(SETTLED_FRAMES + 10)]
    assert min(map(len, packets[:SETTLED_FRAMES])) > 10
    assert max(map(len, packets[SETTLED_FRAMES:])) <= 3
    outbound.close()


def test_silence_that_is_said_is_a_rest() -> None:
    said, rested = OpusOutbound(OpusTerms(repairs=True)), OpusOutbound(OpusTerms(repairs=True))
    for outbound in (said, rested):
        outbound.encode(FRAMES[0])
        for _ in range(CALM_REPORTS):
            outbound.expect_loss(0.0, told=True)
    silence = np.zeros(MODEL_FRAME, np.int16)
    packets = [said.encode(silence) for _ in range(SETTLED_FRAMES + 1)]
    assert packets == [rested.rest() for _ in range(SETTLED_FRAMES + 1)]
    spoken = said.encode(FRAMES[1])
    assert spoken == rested.encode(FRAMES[1])
    assert configuration(spoken) >= CELT


def test_reported_losses_bring_fec_to_those_who_use_it() -> None:
    for repairs in (False, True):
        outbound = OpusOutbound(OpusTerms(repairs=repairs))
        outbound.expect_loss(0.0, told=True)
        rest(outbound, seconds=CALM_REPORTS)
        assert configuration(outbound.encode(FRAMES[0])) >= CELT
        outbound.expect_loss(0.05, told=True)
        packets = [outbound.encode(frame) for frame in FRAMES]
        assert all((configuration(packet) < CELT) == repairs for packet in packets)
        rest(outbound, seconds=2 * CALM_REPORTS)
        assert (configuration(outbound.encode(FRAMES[0])) < CELT) == repairs
        outbound.close()


def test_fec_is_sent_from_the_first_packet_on_until_nothing_is_known_to_be_lost() -> None:
    outbound = OpusOutbound(OpusTerms(repairs=True))
    packets = [outbound.encode(frame) for frame in SYLLABLES]
    assert max(map(configuration, packets)) < CELT
    mends, conceals = OpusDecoder(), OpusDecoder()
    for packet in packets[:20]:
        assert (mends.decode(packet) == conceals.decode(packet)).all()
    assert (mends.repair(packets[21]) != conceals.conceal()).any()
    # Of a far end that says nothing, and one that loses a packet now and then, nothing is known.
    rest(outbound, seconds=2 * CALM_REPORTS, told=False)
    outbound.expect_loss(0.004, told=True)
    rest(outbound, seconds=CALM_REPORTS - 1)
    assert configuration(outbound.encode(FRAMES[0])) < CELT
    # Not in the middle of speech.
    outbound.expect_loss(0.0, told=True)
    assert configuration(outbound.encode(FRAMES[1])) < CELT
    rest(outbound, seconds=1)
    assert configuration(outbound.encode(FRAMES[2])) >= CELT
    outbound.close()


def test_fec_is_not_paid_for_by_what_is_heard() -> None:
    """Below this bit rate it would be."""
    frugal = OpusOutbound(OpusTerms(repairs=True, bitrate=CELT_BITRATE - 1))
    plain = OpusOutbound(OpusTerms(repairs=False, bitrate=CELT_BITRATE - 1))
    assert [frugal.encode(frame) for frame in FRAMES] == [plain.encode(frame) for frame in FRAMES]


def rest(outbound: OpusOutbound, *, seconds: int, told: bool = True) -> None:
    """Silence on a network that loses nothing."""
    for _ in range(seconds):
        outbound.expect_loss(0.0, told=told)
        for _ in range(50):
            outbound.rest()


@pytest.mark.parametrize("bitrate", [32_000, 64_000])
@pytest.mark.parametrize("frames", [1, 5, 40])
@pytest.mark.parametrize("repairs", [False, True])
def test_speech_is_as_loud_after_a_pause_as_before(
    bitrate: int, frames: int, *, repairs: bool
) -> None:
    outbound = OpusOutbound(OpusTerms(repairs=repairs, bitrate=bitrate))
    decoder = OpusDecoder()
    for frame in FRAMES[:30]:
        decoder.decode(outbound.encode(frame))
    silence = [decoder.decode(outbound.rest()) for _ in range(frames)]
    assert frames < 5 or rms(silence[-1]) < 3
    resumed = [rms(decoder.decode(outbound.encode(frame))) for frame in FRAMES[:5]]
    assert resumed[0] < rms(TONE) * 1.2
    assert resumed[1:] == pytest.approx([rms(TONE)] * 4, rel=0.2)


@pytest.mark.parametrize(
    ("wanted", "silk"), [(1, True), (20_000, True), (32_000, True), (510_000, False)]
)
def test_no_more_is_sent_than_the_far_end_wants(wanted: int, silk: bool) -> None:
    outbound = OpusOutbound(OpusTerms(bitrate=wanted))
    packets = [outbound.encode(frame) for frame in FRAMES]
    assert all((configuration(packet) < CELT) == silk for packet in packets)
    assert sum(map(len, packets)) * 8 <= min(max(wanted, 8000), 64_000) * 1.25
    decoder = OpusDecoder()
    heard = np.concatenate([decoder.decode(packet) for packet in packets])
    assert rms(heard[4800:]) == pytest.approx(rms(TONE), rel=0.2)
    silence = [decoder.decode(outbound.rest()) for _ in range(10)]
    assert rms(silence[-1]) < 3
    outbound.close()


def test_g711_is_not_written_singly() -> None:
    with pytest.raises(ValueError, match="PCMU"):
        outbound_for(PCMU, OpusTerms())


@pytest.mark.parametrize("terms", [OpusTerms(), OpusTerms(repairs=True)])
def test_opus_under_way_spares_itself_and_recovers(terms: OpusTerms) -> None:
    """What is sent differs, and sounds as loud."""

    def sent(*, sparing: range) -> list[bytes]:
        outbound = OpusOutbound(terms)
        packets = []
        for number, frame in enumerate(SYLLABLES):
            EFFORT.sparing = number in sparing
            packets.append(outbound.encode(frame))
        outbound.close()
        return packets

    try:
        best, spared = sent(sparing=range(0)), sent(sparing=range(10, 20))
    finally:
        EFFORT.sparing = False
    assert spared[:10] == best[:10]
    assert all(spared[at] != best[at] for at in range(11, 20))
    decoder = OpusDecoder()
    pcm = np.concatenate([decoder.decode(packet) for packet in spared])
    assert rms(pcm[4800:]) == pytest.approx(rms(SYLLABLES.reshape(-1)[4800:]), rel=0.15)
