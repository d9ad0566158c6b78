import asyncio
from collections.abc import Callable

import pytest

from bridge.backends.upstream.rounds import Round


def run(scenario: Callable[[Round, list[int]], None], turns: int) -> tuple[list[int], list[str]]:
    """What was done in so many turns of the loop, and what the loop was told of."""
    done: list[int] = []
    raised: list[str] = []
    told: list[tuple[list[int], list[str]]] = []

    async def stage() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: raised.append(str(context["exception"])))
        scenario(Round(), done)
        assert done == []
        for _ in range(turns):
            await asyncio.sleep(0)
        told.append((done.copy(), raised.copy()))

    asyncio.run(stage())
    return told[0]


def test_work_is_done_in_the_next_turn_and_in_order() -> None:
    def scenario(round_: Round, done: list[int]) -> None:
        for number in range(5):
            round_.soon(lambda number=number: done.append(number))  # type: ignore[misc]

    assert run(scenario, 1) == ([0, 1, 2, 3, 4], [])


def test_who_raises_keeps_nobody_from_his() -> None:
    def scenario(round_: Round, done: list[int]) -> None:
        def fail() -> None:
            raise ValueError("mine")

        round_.soon(lambda: done.append(1))
        round_.soon(fail)
        round_.soon(fail)
        round_.soon(lambda: done.append(2))

    assert run(scenario, 3) == ([1, 2], ["mine", "mine"])


@pytest.mark.parametrize(("turns", "times"), [(1, 1), (2, 2), (5, 5)])
def test_what_is_added_meanwhile_is_of_the_next_round(turns: int, times: int) -> None:
    def scenario(round_: Round, done: list[int]) -> None:
        def again() -> None:
            done.append(0)
            round_.soon(again)

        round_.soon(again)

    assert run(scenario, turns) == ([0] * times, [])
