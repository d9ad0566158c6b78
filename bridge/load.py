"""How busy this process is. What may wait a little does, while there is little time left."""

HIGH = 0.7
"""Of a core. Calls begin at any time, and the work of a second is not spread evenly."""
LOW = 0.55


class Load:
    """`judge` it about once a second."""

    def __init__(self) -> None:
        self.high = False

    def judge(self, share: float) -> None:
        """`share` of the last second for which this process had a core."""
        self.high = share > (LOW if self.high else HIGH)


LOAD = Load()
"""There is one loop in a process."""
