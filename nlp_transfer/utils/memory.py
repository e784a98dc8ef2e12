"""What this process holds in memory, and what the machine has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
MACHINE = Path("/proc/meminfo")
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
USED = (Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))


def held_bytes() -> int | None:
    """Resident bytes of this process now; None where the system does not say."""
    return _entry(STATUS, "VmRSS")


def peak_bytes() -> int | None:
    """The most that this process has held so far; None where the system does not say."""
    if os.name == "nt":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def free_bytes() -> int | None:
    """What the machine, or the container, still has; None where the system does not say."""
    rooms = [_entry(MACHINE, "MemAvailable")]
    for limit, used in zip(LIMITS, USED, strict=True):
        if limit.is_file() and used.is_file():
            most = limit.read_text(encoding="utf-8").strip()
            if most.isdecimal():
                rooms.append(int(most) - int(used.read_text(encoding="utf-8")))
    known = [room for room in rooms if room is not None]
    return min(known) if known else None


def device_peak_bytes() -> int | None:
    """The most that this process has reserved on a GPU so far; None without one."""
    import torch  # inside: commands that only read do not wait for it

    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None


def _entry(file: Path, name: str) -> int | None:
    """A line `name: 123 kB`, in bytes."""
    if not file.is_file():
        return None
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return None
