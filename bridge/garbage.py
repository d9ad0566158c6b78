"""The garbage collector's share of the loop. What belongs to a call is freed without it."""

import asyncio
import gc
from collections.abc import Callable

STEP = 2_000
"""New objects that one collection looks at: a millisecond. Calls bring thousands, and to look at
all of them at once took 50."""
NEVER = 2**31 - 1
LOOK_S = 10.0
MANY_STEPS = 100_000
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
