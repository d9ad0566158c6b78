from dataclasses import FrozenInstanceError, dataclass

import pytest

from bridge.sip.lazy import lazy


@dataclass(frozen=True)
class Squared:
    number: int
    asked: list[int]

    @lazy
    def square(self) -> int:
        self.asked.append(self.number)
        return self.number**2


def test_worked_out_once_for_each() -> None:
    asked: list[int] = []
    two, three = Squared(2, asked), Squared(3, asked)
    assert (two.square, two.square, three.square) == (4, 4, 9)
    assert asked == [2, 3]
    with pytest.raises(FrozenInstanceError):
        two.square = 5
