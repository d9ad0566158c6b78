"""Every event that reached a client: held to the types, and noted for the end of the run."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.ledger import FOLDER, Ledger


class Judge:
    def __init__(self, conforms: Callable[[dict[str, Any]], None]) -> None:
        self._conforms = conforms
        self._ledger = Ledger(Path(os.environ[FOLDER]), "heard")

    def hear(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Raises when an event is not what the clients' types say."""
        for event in events:
            self._conforms(dict(event))
            self._ledger.write(event)

    def close(self) -> None:
        self._ledger.close()
