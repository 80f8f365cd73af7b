"""The completion that `ambctl completion` prints, at work in a real bash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import shtab

from ambctl.completion import SHELLS, every_verb
from ambctl.verbs import VERBS
from tests.support.programs import ROOT

# What bash does when somebody presses Tab: it calls the function that `complete -F` named, as `complete -p` says.
TAB = r"""
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p ambctl | sed 's/.* -F \([^ ]*\).*/\1/')
"$function" ambctl "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "ambctl.bash"
    command = [sys.executable, "-m", "ambctl", "completion", "bash"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr
    path.write_text(done.stdout)
    return path


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("sho", {"show"}),
        ("wat", {"watch"}),
        ("", set(VERBS)),
        ("put --dr", {"--draining"}),
        ("ls --js", {"--json"}),
        ("--json env --netw", {"--network"}),
        ("--etcd http://10.1.2.3:2379 put --we", {"--weight"}),
        ("ls --color ", {"auto", "always", "never"}),
        ("completion ", set(SHELLS)),
    ],
)
def test_bash_completes_verbs_options_and_values(bash_script: Path, line: str, replies: set[str]) -> None:
    words = ["ambctl", *line.split(" ")]
    command = ["bash", "--norc", "-c", TAB, "bash", str(bash_script), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert replies <= set(done.stdout.split())
    # Nothing that does not begin with what was typed.
    assert all(reply.startswith(words[-1]) for reply in done.stdout.split())


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_every_verb(shell: str) -> None:
    text = shtab.complete(every_verb(), shell)
    assert all(verb in text for verb in VERBS)


def test_another_shell_is_a_wrong_argument() -> None:
    command = [sys.executable, "-m", "ambctl", "completion", "fish"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "SHELL: expected one of bash, zsh, tcsh" in done.stderr
