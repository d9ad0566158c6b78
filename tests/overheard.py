"""`python -m bridge` with a ledger of what it tells its clients."""

import os
import sys
from pathlib import Path

from bridge.__main__ import main
from tests.ledger import FOLDER, listen

if __name__ == "__main__":
    listen(Path(os.environ[FOLDER]))
    sys.exit(main())
