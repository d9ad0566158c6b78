"""Scenarios of sipp's as cases of a test, marked with the rows of the matrix that they show."""

from collections.abc import Callable

import pytest
from _pytest.mark import ParameterSet

from tests.peers.sipp import Scenario

Make = Callable[[], Scenario]


class Cases(list[ParameterSet]):
    """For `pytest.mark.parametrize`. Its instances decorate what makes a scenario."""

    def __call__(self, *rows: int) -> Callable[[Make], Make]:
        def add(make: Make) -> Make:
            marks = pytest.mark.matrix(*rows, peer="sipp")
            self.append(pytest.param(make, id=make.__name__, marks=marks))
            return make

        return add
