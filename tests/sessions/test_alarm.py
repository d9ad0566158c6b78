import asyncio

from bridge.sessions.alarm import Alarm
from tests import virtual


def test_it_rings_once_at_the_time_last_asked_for() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        rang: list[float] = []
        began = loop.time()
        alarm = Alarm(loop)

        def ring() -> None:
            rang.append(round(loop.time() - began, 3))

        alarm.set(began + 5, ring)
        alarm.set(began + 2, ring)
        alarm.set(began + 2, ring)
        await virtual.wait(10)
        assert rang == [2]
        alarm.set(began + 12, ring)
        alarm.set(None, ring)
        await virtual.wait(10)
        assert rang == [2]
        # The same time again, after it rang: it is past, and rings at once.
        alarm.set(began + 2, ring)
        await virtual.wait(1)
        assert rang == [2, 20]
        alarm.set(began + 30, ring)
        alarm.stop()
        await virtual.wait(20)
        assert rang == [2, 20]

    virtual.run(scenario())
