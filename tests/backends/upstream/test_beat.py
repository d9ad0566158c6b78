import asyncio

import numpy as np

from bridge.backends.upstream.beat import SHARES, Beat
from tests import virtual


class Looker:
    def __init__(self) -> None:
        self.looked: list[float] = []

    def look(self, now: float) -> None:
        self.looked.append(round(now, 3))


def test_everybody_looks_as_often_however_many_they_are() -> None:
    async def scenario() -> None:
        beat = Beat(0.1)
        lookers = [Looker() for _ in range(3 * SHARES)]
        for looker in lookers:
            beat.join(looker.look)
        await virtual.wait(1.099)
        assert {len(looker.looked) for looker in lookers} <= {10, 11}
        # Not all at one time.
        assert len({looker.looked[0] for looker in lookers}) == SHARES
        for looker in lookers:
            beat.leave(looker.look)
            beat.leave(looker.look)
        counts = [len(looker.looked) for looker in lookers]
        await virtual.wait(1)
        assert [len(looker.looked) for looker in lookers] == counts

    virtual.run(scenario())


def test_one_alone_wakes_nobody_in_between() -> None:
    async def scenario() -> None:
        beat, looker = Beat(0.1), Looker()
        began = asyncio.get_running_loop().time()
        beat.join(looker.look)
        beat.join(looker.look)
        await virtual.wait(0.35)
        steps = np.diff([began, *looker.looked]).round(3).tolist()
        assert steps[1:] == [0.1] * (len(steps) - 1)
        assert 0 < steps[0] <= 0.1
        beat.leave(looker.look)
        await virtual.wait(1)
        # Who comes after all have gone is called as well.
        count = len(looker.looked)
        beat.join(looker.look)
        await virtual.wait(0.25)
        assert len(looker.looked) >= count + 2
        beat.leave(looker.look)

    virtual.run(scenario())
