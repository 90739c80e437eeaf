"""Which process did something, and whether it is still there."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ProcessId:
    """A process, told apart from any later one with the same number.

    Attributes
    ----------
    host : str
    pid : int
    started : str
        When it started, in the words of its system; "" where the system does not say.
    """

    host: str
    pid: int
    started: str = ""

    @classmethod
    def current(cls) -> ProcessId:
        """Return this process."""
        return cls(platform.node(), os.getpid(), _start_of(os.getpid()))

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> ProcessId:
        """Return a process from what `describe` gave."""
        return cls(str(record["host"]), int(record["pid"]), str(record["started"]))

    def describe(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @property
    def alive(self) -> bool | None:
        """Whether it still runs; None if it ran on another host, which cannot be seen from here."""
        if self.host != platform.node():
            return None
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            pass  # somebody else's, but there
        except (ProcessLookupError, OverflowError):
            return False
        started = _start_of(self.pid)
        return started != "ended" and (not self.started or not started or started == self.started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _start_of(pid: int) -> str:
    """Return when a process started: boot and clock ticks since then; "ended" for one that only waits to be reaped."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        if fields[0] in "ZX":
            return "ended"
        boot = ""
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        return f"{boot}-{fields[19]}"
    return ""
