"""`registrar CONTAINER PORT SERVICE`, or `registrar` for all containers of the host."""

from __future__ import annotations

import logging
import sys

from ambnet.daemon import Life, run
from ambnet.log import start_logging
from ambnet.options import exit_on_config_error
from registrar.config import PROG, read_with_notes
from registrar.life import register

log = logging.getLogger("registrar")


def main() -> int:
    """Run registrar with the process's arguments; returns its exit code."""

    def start() -> int:
        settings, notes = read_with_notes()
        start_logging(settings.log_level, settings.log)
        for note in notes:
            log.info(note)

        async def story(life: Life) -> int:
            return await register(settings, life)

        return run(story, deadline=0.0)

    return exit_on_config_error(PROG, start)


if __name__ == "__main__":
    sys.exit(main())
