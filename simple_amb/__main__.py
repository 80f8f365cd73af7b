"""`simple-amb [HOST:PORT…]`."""

from __future__ import annotations

import logging
import sys

from ambnet.log import start_logging
from ambnet.options import exit_on_config_error
from simple_amb.config import PROG, read
from simple_amb.forwarder import forward


def main() -> int:
    """Run simple-amb with the process's arguments; returns its exit code."""

    def start() -> int:
        settings, wiring = read()
        start_logging(settings.log_level, settings.log)
        try:
            return forward(settings, wiring)
        finally:
            logging.shutdown()

    return exit_on_config_error(PROG, start)


if __name__ == "__main__":
    sys.exit(main())
