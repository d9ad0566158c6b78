import pytest

from bridge.media.collector import Collected, DigitCollector


def test_until_the_finish_key() -> None:
    collector = DigitCollector()
    for n, digit in enumerate("1234"):
        assert collector.press(digit, n * 0.5) == ()
    assert collector.count == 4
    assert collector.press("#", 2.0) == (Collected("1234", "finish"),)
    assert collector.count == 0
    assert collector.due is None
    assert collector.press("#", 2.1) == (Collected("", "finish"),)


def test_until_the_length() -> None:
    collector = DigitCollector(finish="", length=3)
    assert [collector.press(digit, 0.0) for digit in "12#4"] == [
        (),
        (),
        (Collected("12#", "length"),),
        (),
    ]


def test_until_the_pause() -> None:
    collector = DigitCollector(pause_s=2.0)
    collector.press("7", 10.0)
    collector.press("8", 11.5)
    assert collector.due == 13.5
    assert collector.expire(13.4) is None
    assert collector.expire(13.5) == Collected("78", "pause")
    assert collector.expire(99.0) is None


def test_a_digit_after_a_pause_nobody_asked_about() -> None:
    collector = DigitCollector(pause_s=2.0, length=2)
    collector.press("1", 0.0)
    assert collector.press("2", 5.0) == (Collected("1", "pause"),)
    assert collector.press("3", 5.1) == (Collected("23", "length"),)
    collector = DigitCollector(pause_s=2.0)
    collector.press("1", 0.0)
    assert collector.press("#", 5.0) == (Collected("1", "pause"), Collected("", "finish"))


def test_the_end_of_a_call() -> None:
    collector = DigitCollector()
    collector.press("4", 0.0)
    assert collector.flush() == "4"
    assert collector.flush() == ""


def test_digits_are_in_no_repr() -> None:
    assert "4711" not in repr(Collected("4711", "pause"))


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="length"):
        DigitCollector(length=0)
    with pytest.raises(ValueError, match="pause_s"):
        DigitCollector(pause_s=0)
