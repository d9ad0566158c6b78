"""Who may speak in a call: its peer and the hosts that the settings name, not whoever may call."""

import asyncio
from dataclasses import replace

import pytest

from bridge.calls.trunks import Trunk
from tests import virtual
from tests.legs.exchange import Exchange

ELSEWHERE = "127.0.0.2"
CARRIER = Trunk("carrier", addresses=("127.0.0.3/32",))


@pytest.mark.parametrize(
    ("trunk", "heard"),
    [(CARRIER, False), (replace(CARRIER, addresses=("127.0.0.2/31",)), True)],
)
def test_right_ids_from_another_host(trunk: Trunk, heard: bool) -> None:
    async def main() -> None:
        exchange = await Exchange(trunks=[trunk]).open()
        try:
            handset = await exchange.up()
            usual = handset.wire
            handset.wire, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: handset, local_addr=(ELSEWHERE, 0)
            )
            handset.send("BYE", cseq=2)
            await virtual.wait(1)
            assert exchange.told[1:] == (["remote_hangup"] if heard else [])
            assert exchange.phones.agent.stats.not_admitted == (not heard)
            assert handset.inbox.empty() is not heard
            handset.wire.close()
            handset.wire = usual
            if not heard:
                handset.send("BYE", cseq=3)
            await handset.response(200)
            await exchange.prove_that_nothing_is_left()
        finally:
            await exchange.close()

    virtual.run(main(), patience_s=0.002)
