"""What only a full collection would free."""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def none_of_ours() -> Iterator[None]:
    """Fails if objects of the product are unreachable at the end, and yet not freed."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        found = Counter(
            f"{type(each).__module__}.{type(each).__qualname__}"
            for each in gc.garbage
            if type(each).__module__.startswith("bridge.")
        )
    finally:
        gc.set_debug(0)
        gc.enable()
        gc.garbage.clear()
    assert not found, found
