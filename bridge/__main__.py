"""`python -m bridge`, which is the command `bridge` too."""

import signal
import sys


def main() -> int:
    if "serve" in sys.argv[1:]:
        # Who reloads a service that has not begun to run would end it, and the imports below take
        # a while. Nothing is lost: what is to be read again is read later.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from bridge.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
