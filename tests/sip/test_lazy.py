import contextlib
import gc
import weakref
from dataclasses import FrozenInstanceError, dataclass

import pytest

from bridge.errors import SipError
from bridge.sip.lazy import lazy


@dataclass(frozen=True)
class Squared:
    number: int
    asked: list[int]

    @lazy
    def square(self) -> int:
        self.asked.append(self.number)
        return self.number**2

    @lazy
    def root(self) -> float:
        self.asked.append(self.number)
        if self.number < 0:
            raise SipError("no root", status=488)
        return float(self.number**0.5)


def test_worked_out_once_for_each() -> None:
    asked: list[int] = []
    two, three = Squared(2, asked), Squared(3, asked)
    assert (two.square, two.square, three.square) == (4, 4, 9)
    assert asked == [2, 3]
    with pytest.raises(FrozenInstanceError):
        two.square = 5


def test_what_failed_fails_again_without_being_worked_out() -> None:
    asked: list[int] = []
    below, four = Squared(-1, asked), Squared(4, asked)
    for _ in range(3):
        with pytest.raises(SipError, match="no root") as caught:
            _ = below.root
        assert caught.value.status == 488
    assert (below.square, four.root) == (1, 2.0)
    assert asked == [-1, -1, 4]


def test_a_failure_does_not_keep_its_message_alive() -> None:
    below = Squared(-1, [])
    gone = weakref.ref(below)
    gc.disable()
    try:
        for _ in range(2):
            with contextlib.suppress(SipError):
                _ = below.root
        del below
        assert gone() is None
    finally:
        gc.enable()
