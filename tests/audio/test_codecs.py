import pytest

from bridge.audio.codecs import G722, OPUS, PCMA, PCMU, by_name


def test_names_have_no_case() -> None:
    assert by_name("pcmu") is PCMU
    assert by_name("PCMA") is PCMA
    assert by_name("Opus") is OPUS
    with pytest.raises(KeyError):
        by_name("G729")


def test_rtp_clocks_and_static_payload_types_are_those_of_the_registry() -> None:
    assert (PCMU.clock_rate, PCMU.static_payload_type) == (8000, 0)
    assert (PCMA.clock_rate, PCMA.static_payload_type) == (8000, 8)
    assert (OPUS.clock_rate, OPUS.static_payload_type, OPUS.channels) == (48_000, None, 2)


def test_the_clock_of_g722_is_not_its_sample_rate() -> None:
    assert by_name("g722") is G722
    assert (G722.clock_rate, G722.sample_rate, G722.static_payload_type) == (8000, 16_000, 9)
