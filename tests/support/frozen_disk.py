"""A disk of one's own that can stand still: an ext4 file system on a loop device, as `fsfreeze` stops it.

with FrozenDisk(folder) as disk:
    ...                            # files under disk.path
    with disk.frozen():
        ...                        # every write and every fsync waits
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

MIB = 512


class FrozenDisk:
    """A context manager; needs root and loop devices. `folder` gets the disk's image and the place it is mounted at."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self.path = folder / "disk"

    def __enter__(self) -> Self:
        if os.geteuid():
            pytest.fail("needs root to mount a disk", pytrace=False)
        with self._image.open("wb") as image:
            image.truncate(MIB << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], check=True)
        self.path.mkdir()
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self.path)], check=True)
        return self

    def __exit__(self, *failure: object) -> None:
        subprocess.run(["umount", str(self.path)], check=True)
        self._image.unlink()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing is written while the block runs; it must not write there itself."""
        subprocess.run(["fsfreeze", "--freeze", str(self.path)], check=True)
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(self.path)], check=True)
