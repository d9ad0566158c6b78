"""A property worked out once; unlike that of functools it takes no lock, which costs as much.

What failed with an error of ours fails again without being worked out.
"""

from collections.abc import Callable
from copy import copy
from typing import Any, Generic, TypeVar

from bridge.errors import BridgeError

T = TypeVar("T")

_FAILED = "_failed"


class lazy(Generic[T]):  # noqa: N801 - it stands where `property` would
    """For classes with a `__dict__`, frozen ones too: the value takes the place of the method."""

    def __init__(self, work_out: Callable[[Any], T]) -> None:
        self._work_out = work_out
        self.__doc__ = work_out.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> T:
        found = instance.__dict__
        if _FAILED in found and (failed := found[_FAILED].get(self._name)):
            raise copy(failed)
        try:
            value = found[self._name] = self._work_out(instance)
        except BridgeError as error:
            # A copy, since what is raised holds its frames, and they hold the instance.
            found.setdefault(_FAILED, {})[self._name] = copy(error)
            raise
        return value
