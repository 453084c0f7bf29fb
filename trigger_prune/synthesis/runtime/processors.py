"""Which processor cores a measurement runs on, and what the processor is called."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from trigger_prune.errors import CostError

_TOPOLOGY = Path("/sys/devices/system/cpu")


def available_cpus() -> list[int]:
    """Logical processors this process may use, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def choose_cpus(count: int, available: list[int], topology: Path = _TOPOLOGY) -> list[int]:
    """``count`` of the logical processors, each on a physical core of its own while there are such.

    Two hardware threads of one core share its arithmetic units and would slow each other down. Raises CostError when
    fewer are available.
    """
    if count > len(available):
        raise CostError(
            f"{count} threads are asked for, but this process may use {len(available)} processors only",
            hint="lower cost.threads",
        )
    first_of_core: list[int] = []
    others: list[int] = []
    seen: set[str] = set()
    for cpu in available:
        core = _core(cpu, topology)
        (others if core in seen else first_of_core).append(cpu)
        seen.add(core)
    return [*first_of_core, *others][:count]


def pin(cpus: list[int]) -> bool:
    """Keep this process and the threads it starts on ``cpus``; False where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(0, cpus)
    return True


def cpu_name() -> str:
    """The processor, as the operating system names it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def gpu_name() -> str:
    """The first CUDA device, as its driver names it."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "CUDA device"
    return answer or "CUDA device"


def _core(cpu: int, topology: Path) -> str:
    """Same text for the hardware threads of one core; unknown = a core of its own."""
    try:
        return (topology / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return f"cpu{cpu}"
