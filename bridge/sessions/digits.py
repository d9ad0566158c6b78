"""Keys that a session presses on its caller's line."""

from typing import Protocol, runtime_checkable

from bridge.realtime.extras import digits_unavailable, keys_to_press, too_many_digits


@runtime_checkable
class DigitSender(Protocol):
    """A stream that can press keys; it raises ValueError when it has enough to press already."""

    def send_digits(self, digits: str) -> None: ...


def press(stream: object, digits: str) -> None:
    """Raises RequestError."""
    if not isinstance(stream, DigitSender):
        raise digits_unavailable()
    try:
        stream.send_digits(keys_to_press(digits))
    except ValueError:
        raise too_many_digits() from None
