"""A self-hosted server for OpenAI's Realtime calls API."""

import os

__version__ = "0.1.0"

# Before anything imports numpy: its thread pool costs more than the small matrix products of
# the media plane save, and competes with the clock.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
