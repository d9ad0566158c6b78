"""Keys that belong together: collected before anybody is told, or kept for the webhook alone."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.errors import RequestError
from bridge.media.collector import Collected, DigitCollector

PARAM = "transport.dtmf"
MAX_LENGTH = 64
MAX_PAUSE_S = 60


@dataclass(frozen=True, slots=True)
class KeypadSettings:
    """As DigitCollector's; with `vault` only a webhook learns the keys, and all others their
    number."""

    finish: str = "#"
    length: int | None = None
    pause_s: float = 3.0
    vault: bool = False


def read_keypad(transport: Mapping[str, Any]) -> KeypadSettings | None:
    """`transport.dtmf` of a call; None: each key is told as it comes. Raises RequestError."""
    wanted = transport.get("dtmf")
    if wanted is None:
        return None
    if not isinstance(wanted, Mapping):
        raise RequestError(f"{PARAM} must be an object", param=PARAM)
    for name in wanted:
        if name not in KeypadSettings.__slots__:
            param = f"{PARAM}.{name}"
            raise RequestError(
                f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param
            )
    finish, length = wanted.get("finish", "#"), wanted.get("length")
    pause_s, vault = wanted.get("pause_s", 3.0), wanted.get("vault", False)
    _require(isinstance(finish, str) and set(finish) <= set("0123456789*#ABCD"), "finish", "keys")
    _require(length is None or _is_count(length), "length", f"a number from 1 to {MAX_LENGTH}")
    _require(
        isinstance(pause_s, int | float) and pause_s is not True and 0 < pause_s <= MAX_PAUSE_S,
        "pause_s",
        f"a number of seconds up to {MAX_PAUSE_S}",
    )
    _require(isinstance(vault, bool), "vault", "true or false")
    return KeypadSettings(finish, length, float(pause_s), vault)


def check_keypad(transport: Mapping[str, Any], *, told: bool) -> KeypadSettings | None:
    """As `read_keypad`; a vault needs somebody who is `told` what is in it."""
    settings = read_keypad(transport)
    if settings is not None and settings.vault and not told:
        raise RequestError(
            f"{PARAM}.vault needs webhooks.url: nobody else learns the keys",
            param=f"{PARAM}.vault",
        )
    return settings


def read_accept(
    asked: Mapping[str, Any] | None, *, told: bool
) -> tuple[Mapping[str, Any] | None, KeypadSettings | None]:
    """The session of an accept, and what `transport` beside it says. Raises RequestError."""
    if asked is None or "transport" not in asked:
        return asked, None
    transport = asked["transport"]
    if not isinstance(transport, Mapping) or transport.keys() - {"dtmf"}:
        raise RequestError("transport takes 'dtmf' here", param="transport")
    session = {name: value for name, value in asked.items() if name != "transport"}
    return session, check_keypad(transport, told=told)


class Keypad:
    """Gives `on_collected` what belongs together, by the clock of the running loop."""

    def __init__(self, settings: KeypadSettings, on_collected: Callable[[Collected], None]) -> None:
        self.vault = settings.vault
        self._collector = DigitCollector(
            finish=settings.finish, length=settings.length, pause_s=settings.pause_s
        )
        self._on_collected = on_collected
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def press(self, digit: str) -> None:
        for collected in self._collector.press(digit, self._loop.time()):
            self._on_collected(collected)
        if self._collector.count >= MAX_LENGTH:
            self._on_collected(Collected(self._collector.flush(), "length"))
        self._arm()

    def close(self) -> str:
        """What was waiting."""
        waiting = self._collector.flush()
        self._arm()
        return waiting

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := self._collector.due) is not None:
            self._timer = self._loop.call_at(due, self._pause_over, due)

    def _pause_over(self, due: float) -> None:
        self._timer = None
        if (collected := self._collector.expire(due)) is not None:
            self._on_collected(collected)
        self._arm()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value is not True and 1 <= value <= MAX_LENGTH


def _require(fits: object, name: str, expected: str) -> None:
    if not fits:
        raise RequestError(f"{PARAM}.{name} must be {expected}", param=f"{PARAM}.{name}")
