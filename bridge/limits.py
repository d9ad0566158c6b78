"""What the system allows the process: a shell, 1024 open files, and four make a call."""

import resource

OPEN_FILES = 65_536
"""Three ports and a connection to the model for each call: more than one process can carry."""


def allow_open_files(wanted: int = OPEN_FILES) -> int:
    """So many, or as many as may be had for the asking; how many that is."""
    kind = resource.RLIMIT_NOFILE
    allowed, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        wanted = min(most, wanted)
    if allowed == resource.RLIM_INFINITY or allowed >= wanted:
        return allowed
    resource.setrlimit(kind, (wanted, most))
    return wanted
