import asyncio

from bridge.sessions.clients import MAX_EVENTS, ChannelClient, Clients, SidebandClient


async def read_all(client: SidebandClient) -> list[str]:
    texts = []
    while (text := await client.next()) is not None:
        texts.append(text)
    return texts


def test_what_is_queued_is_read_before_the_end() -> None:
    async def scenario() -> None:
        client = SidebandClient()
        client.push("a")
        client.push("b")
        client.close(1000, "call ended")
        client.push("late")
        assert await read_all(client) == ["a", "b"]
        assert (client.close_code, client.close_reason) == (1000, "call ended")

    asyncio.run(scenario())


def test_a_waiting_reader_wakes() -> None:
    async def scenario() -> None:
        client = SidebandClient()
        loop = asyncio.get_running_loop()
        loop.call_soon(client.push, "a")
        loop.call_soon(client.close, 1000, "")
        assert await asyncio.wait_for(read_all(client), 1) == ["a"]

    asyncio.run(scenario())


def test_a_reader_that_does_not_read_is_dropped() -> None:
    async def scenario() -> None:
        slow, quick = SidebandClient(), SidebandClient()
        clients = Clients()
        clients.add(slow)
        clients.add(quick)
        for number in range(MAX_EVENTS + 1):
            clients.push(str(number))
            assert await quick.next() == str(number)
        assert await slow.next() is None
        assert (slow.close_code, slow.close_reason) == (1008, "slow_consumer")

    asyncio.run(scenario())


def test_a_reader_is_dropped_by_bytes_too() -> None:
    client = SidebandClient()
    for _ in range(5):
        client.push("x" * 1_000_000)
    assert client.close_code == 1008


def test_all_or_one() -> None:
    async def scenario() -> None:
        first, second = SidebandClient(), SidebandClient()
        heard: list[str] = []
        channel = ChannelClient(heard.append)
        clients = Clients()
        for client in (first, second, channel):
            clients.add(client)
        clients.push("all")
        clients.push("one", to=second.id)
        clients.discard(first)
        clients.push("after")
        clients.close(1000, "bye")
        assert await read_all(second) == ["all", "one", "after"]
        assert heard == ["all", "after"]
        first.close(1000, "")
        assert await read_all(first) == ["all"]

    asyncio.run(scenario())
