"""docs/start.md on an empty machine, from the installation of Docker on, by the clock.

    python -m tests.docs.fresh [IMAGE]

The machine is a container of this one's engine that holds Debian's minimal system (or IMAGE) and a copy of what is
committed here. It takes some minutes, most of them for downloads, and so it is no test; tests/docs/test_start.py runs
all commands but those that build the images.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid

from tests.docs.conftest import BUILT, DOCUMENTED, END, ROOT, START
from tests.docs.pages import blocks
from tests.docs.shell import shell
from tests.hosts.machine import BOOT, docker

BASE = "debian:trixie-slim"


def main(image: str = BASE) -> int:
    """Print what each section took, and all of them."""
    machine = f"amb-fresh-{uuid.uuid4().hex[:8]}"
    try:
        docker("run", "--detach", "--init", "--name", machine, "--hostname", "fresh", *BOOT, image, "sleep", "infinity")
        copied = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
        docker("exec", machine, "mkdir", "/etcd-ambassadors")
        docker("exec", "--interactive", machine, "tar", "--extract", "--directory", "/etcd-ambassadors", given=copied)
        typed_into = ("docker", "exec", "--interactive", "--workdir", "/etcd-ambassadors", machine, "bash")
        total = 0.0
        with shell(typed_into, replaced={}) as typed:
            for title, text in START.items():
                begun = time.monotonic()
                for block in blocks(text):
                    typed.perform(block)
                    if "export HOST" in block.commands:
                        typed.replaced[DOCUMENTED] = typed.type("echo $HOST").strip()
                took = time.monotonic() - begun
                total += took if title != END else 0
                sys.stdout.write(f"{took:7.1f} s  {title}\n")
                sys.stdout.flush()
        sys.stdout.write(f"{total:7.1f} s  all but the last; {BUILT!r} is Docker's installation and the images\n")
        return 0
    finally:
        docker("rm", "--force", "--volumes", machine)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
