"""`ambctl VERB …`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from ambcore.errors import DockerError, RegistryError
from ambcore.text import visible
from ambctl.commands import complain, perform
from ambctl.config import PROG, read
from ambnet.log import start_logging
from ambnet.options import exit_on_config_error


def main() -> int:
    """Run ambctl with the process's arguments; returns its exit code.

    0 done; 1 etcd or Docker cannot be asked, or what was asked for does not exist; 2 wrong arguments; 130 interrupted;
    141 nobody reads the output any more.
    """
    return exit_on_config_error(PROG, _main)


def _main() -> int:
    settings = read()
    start_logging(settings.log_level)
    try:
        return asyncio.run(perform(settings))
    except RegistryError as error:
        complain(f"etcd: {visible(str(error))}")
        return 1
    except DockerError as error:
        complain(visible(str(error)))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # What is still buffered has nowhere to go; Python would complain about it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())
