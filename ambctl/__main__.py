"""`ambctl VERB …`."""

from __future__ import annotations

import asyncio
import signal
import sys

from ambcore.errors import DockerError, RegistryError
from ambcore.text import visible
from ambctl.common import NOT_ASKED, PROG, complain
from ambctl.verbs import perform, read
from ambnet.log import start_logging
from ambnet.options import exit_on_config_error


def main() -> int:
    """Run ambctl with the process's arguments; returns its exit code, one of `ambctl.verbs.EXIT_CODES`."""
    return exit_on_config_error(PROG, _main)


def _main() -> int:
    verb, settings = read()
    start_logging(settings.log_level)
    try:
        return asyncio.run(perform(verb, settings))
    except RegistryError as error:
        complain(f"etcd: {visible(str(error))}")
        return NOT_ASKED
    except DockerError as error:
        complain(visible(str(error)))
        return NOT_ASKED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())
