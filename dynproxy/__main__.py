"""`dynproxy SERVICE PORT`, or `dynproxy --container NAME`."""

from __future__ import annotations

import asyncio
import sys

from ambnet.daemon import Life, run
from ambnet.log import start_logging
from ambnet.options import exit_on_config_error
from ambnet.relay.limits import raise_file_limit
from dynproxy.cleanup import clean_up
from dynproxy.config import PROG, Settings, read
from dynproxy.proxy import proxy


def main() -> int:
    """Run dynproxy with the process's arguments; returns its exit code."""
    return exit_on_config_error(PROG, lambda: run_with(read()))


def run_with(settings: Settings) -> int:
    """A dynproxy's life from its start to its exit code. Raises ConfigError."""
    start_logging(settings.log_level, settings.log)
    if settings.cleanup:
        return asyncio.run(clean_up())
    raise_file_limit()  # a port takes a file or two of the process that opens it

    async def story(life: Life) -> int:
        return await proxy(settings, life)

    return run(story, deadline=settings.drain)


if __name__ == "__main__":
    sys.exit(main())
