"""The garbage collector's share of the loop. What belongs to a call is freed without it."""

import asyncio
import gc
from collections.abc import Callable

STEP = 10_000
"""New objects that one collection looks at, in a few milliseconds; 50 000 took 50. The media of
200 calls makes 2 000 within a slot, and none of that is garbage."""
NEVER = 2**31 - 1
LOOK_S = 10.0
MANY_STEPS = 20_000
"""As 80 000 calls bring: what libraries may have left by then is worth a standstill."""


def keep_off() -> None:
    """Once everything has started: what there is by now lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(STEP, NEVER, NEVER)


async def look(is_idle: Callable[[], bool]) -> None:
    """Search for what outlived a step, while nobody calls; for ever."""
    while True:
        await asyncio.sleep(LOOK_S)
        _, steps, _ = gc.get_count()
        if steps > (0 if is_idle() else MANY_STEPS):
            gc.collect()
