"""One run of one target, guided by coverage: `python -m fuzz.guided TARGET FOLDER… [-libfuzzer_option=…]`.

atheris instruments what is imported below, so nothing of ours may be imported before.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ambcore", "ambnet", "registrar", "dynproxy", "simple_amb", "ipaddress"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Runs until an option of libFuzzer's says that it is enough, or until something breaks."""
    program, target, *options = sys.argv
    atheris.Setup([program, *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
