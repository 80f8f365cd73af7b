"""What other processes cost, as the kernel counts it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")  # a second, of a process's times
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes


class Cost:
    """Sums over processes that come and go. `seconds` of processor time never go back: those of one that has ended
    stay, as they were when it was looked at last. `memory` is what those that live have resident, in bytes.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.memory = 0
        self._seen: dict[int, float] = {}

    def look(self, pids: Iterable[int]) -> None:
        """Add up anew; one that has just ended counts no more."""
        seen, self._seen = self._seen, {}
        self.memory = 0
        for pid in pids:
            try:
                # Behind the command, which stands in brackets and may hold anything: proc(5), from the third field on.
                fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2].split()
            except OSError:
                continue
            self._seen[pid] = now = (int(fields[11]) + int(fields[12])) / TICKS
            self.seconds += max(0.0, now - seen.get(pid, 0.0))
            self.memory += int(fields[21]) * PAGE
