import gc
import weakref
from collections.abc import Iterator

import pytest

from bridge import garbage
from bridge.tasks import TaskOwner
from tests import virtual


class Ring:
    """Refers to itself."""

    def __init__(self) -> None:
        self.ring = self


@pytest.fixture
def kept_off() -> Iterator[None]:
    before = gc.get_threshold()
    garbage.keep_off()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def old_ring() -> "weakref.ref[Ring]":
    """Garbage that a step has seen alive."""
    ring = Ring()
    gc.collect(0)
    return weakref.ref(ring)


@pytest.mark.usefixtures("kept_off")
def test_new_garbage_goes_in_steps() -> None:
    gone = weakref.ref(Ring())
    kept = [[] for _ in range(2 * garbage.STEP)]  # type: list[list[int]]
    assert gone() is None
    assert len(kept) == 2 * garbage.STEP


@pytest.mark.usefixtures("kept_off")
def test_old_garbage_waits_until_nobody_calls() -> None:
    calls = [1]

    async def main() -> None:
        tasks = TaskOwner("garbage")
        tasks.spawn(garbage.look(lambda: not calls), name="look")
        ring = old_ring()
        await virtual.wait(garbage.LOOK_S + 1)
        assert ring() is not None
        calls.clear()
        await virtual.wait(garbage.LOOK_S)
        assert ring() is None
        await tasks.close()

    virtual.run(main())
