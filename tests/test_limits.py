import subprocess
import sys

import pytest

# In a process of its own: what is lowered there stays low.
SCRIPT = """
import resource, sys
from bridge.limits import allow_open_files
allowed, most, wanted = map(int, sys.argv[1:])
kind = resource.RLIMIT_NOFILE
resource.setrlimit(kind, (allowed, most))
print(allow_open_files(wanted), *resource.getrlimit(kind))
"""


@pytest.mark.parametrize(
    ("allowed", "wanted", "then"), [(256, 9999, 1000), (256, 512, 512), (700, 512, 700)]
)
def test_as_many_files_may_be_open_as_can_be_had(allowed: int, wanted: int, then: int) -> None:
    most = 1000
    command = [sys.executable, "-c", SCRIPT, str(allowed), str(most), str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(then), str(then), str(most)]
