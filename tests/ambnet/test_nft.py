"""Running nft: on the real kernel in a namespace, and with programs in its place that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambnet.nft import LONGEST, Nft, NftError, Trouble, first_line, items
from tests.support.netns import Namespace
from tests.support.waiting import eventually, eventually_async

T = TypeVar("T")
TABLE = "add table ip mine\nadd set ip mine members { type mark; }\nadd element ip mine members { 1, 2 }\n"


@pytest.fixture
def there() -> Iterator[Namespace]:
    with Namespace() as namespace:
        yield namespace


def run(there: Namespace, work: Callable[[], Awaitable[T]]) -> T:
    """What an asynchronous function gives, run inside a namespace."""

    async def whole() -> T:
        return await work()

    return there.call(lambda: asyncio.run(whole()))


def refusal(there: Namespace, text: str) -> NftError:
    with pytest.raises(NftError) as caught:
        run(there, lambda: Nft().apply(text))
    return caught.value


@pytest.mark.netns
class TestOnTheKernel:
    """What the tool of this machine really does."""

    def test_what_was_applied_can_be_read(self, there: Namespace) -> None:
        run(there, lambda: Nft().apply(TABLE))
        (listed,) = run(there, lambda: Nft().read("list set ip mine members"))
        assert listed["set"]["elem"] == [1, 2]

    def test_one_call_reads_several_lists(self, there: Namespace) -> None:
        run(there, lambda: Nft().apply(TABLE + "add counter ip mine seen\n"))
        found = run(
            there, lambda: Nft().read("list set ip mine members", "reset counters table ip mine", "list tables")
        )
        assert [next(iter(item)) for item in found] == ["set", "counter", "table"]

    def test_check_changes_nothing(self, there: Namespace) -> None:
        run(there, lambda: Nft().check(TABLE))
        assert run(there, lambda: Nft().read("list tables")) == []
        with pytest.raises(NftError, match="syntax error"):
            run(there, lambda: Nft().check("add nonsense {"))

    def test_C10_a_transaction_with_one_bad_line_changes_nothing_at_all(self, there: Namespace) -> None:
        run(there, lambda: Nft().apply(TABLE))
        before = run(there, lambda: Nft().read("list ruleset"))
        error = refusal(there, "flush set ip mine members\nadd element ip mine nobody { 3 }\n")
        assert error.kind is Trouble.REFUSED
        assert "No such file or directory" in str(error)
        assert run(there, lambda: Nft().read("list ruleset")) == before

    def test_C10_what_is_in_use_is_refused_in_the_words_of_the_kernel(self, there: Namespace) -> None:
        text = "add table ip mine\nadd chain ip mine a\nadd chain ip mine b\nadd rule ip mine a jump b\n"
        run(there, lambda: Nft().apply(text))
        error = refusal(there, "delete chain ip mine b\n")
        assert error.kind is Trouble.REFUSED
        assert "Device or resource busy" in str(error)

    def test_reading_what_is_not_there_is_an_error_and_not_an_empty_list(self, there: Namespace) -> None:
        with pytest.raises(NftError, match="No such file or directory"):
            run(there, lambda: Nft().read("list table ip nobodys"))

    def test_ten_thousand_elements_come_back_whole(self, there: Namespace) -> None:
        """Well below the limit, so that a listing of the largest service never becomes an error."""
        elements = ", ".join(f"{number} : 10.1.{number >> 8}.{number & 255} . 6379" for number in range(10_000))
        text = (
            f"table ip mine {{\n map who {{ type mark : ipv4_addr . inet_service; elements = {{ {elements} }}\n}}\n}}\n"
        )
        run(there, lambda: Nft().apply(text))
        (listed,) = run(there, lambda: Nft().read("list map ip mine who"))
        assert len(listed["map"]["elem"]) == 10_000
        assert len(str(listed)) < LONGEST / 4

    def test_no_privilege_is_a_refusal(self, there: Namespace, tmp_path: Path) -> None:
        stripped = program(tmp_path, 'exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin /usr/sbin/nft "$@"')
        with pytest.raises(NftError, match="Operation not permitted") as caught:
            run(there, lambda: Nft([stripped]).apply(TABLE))
        assert caught.value.kind is Trouble.REFUSED


def program(folder: Path, script: str) -> str:
    """A program of root's that stands in for nft."""
    if os.geteuid():
        pytest.fail("needs root, for only root's programs are run", pytrace=False)
    path = folder / "nft"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


async def trouble(nft: Nft) -> NftError:
    with pytest.raises(NftError) as caught:
        await nft.read("list tables")
    return caught.value


async def test_C10_without_the_program_the_error_says_what_to_install() -> None:
    error = await trouble(Nft(["/nowhere/nft"]))
    assert error.kind is Trouble.MISSING
    assert "install nftables" in str(error)


@pytest.mark.parametrize(("mode", "owner"), [(0o775, 0), (0o757, 0), (0o644, 0), (0o755, 65534)])
async def test_a_program_that_others_could_have_written_is_not_run(tmp_path: Path, mode: int, owner: int) -> None:
    place = program(tmp_path, f"touch {tmp_path}/ran")
    os.chown(place, owner, owner)
    os.chmod(place, mode)  # noqa: PTH101 - beside chown
    assert (await trouble(Nft([place]))).kind is Trouble.MISSING
    assert not (tmp_path / "ran").exists()


async def test_a_program_that_vanishes_is_looked_for_anew(tmp_path: Path) -> None:
    place = program(tmp_path, "echo '{\"nftables\": []}'")
    nft = Nft([place])
    assert await nft.read("list tables") == []
    os.unlink(place)  # noqa: PTH108
    assert (await trouble(nft)).kind is Trouble.MISSING
    program(tmp_path, 'echo \'{"nftables": [{"table": {}}]}\'')
    assert await nft.read("list tables") == [{"table": {}}]


async def test_C10_a_crash_is_told_from_a_refusal(tmp_path: Path) -> None:
    error = await trouble(Nft([program(tmp_path, "kill -SEGV $$")]))
    assert error.kind is Trouble.CRASHED
    assert "SIGSEGV" in str(error)


@pytest.mark.parametrize("lacking", ["memfd_create", "pidfd_open"])
async def test_C10_without_files_or_memory_it_is_an_error_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    nft = Nft([program(tmp_path, "sleep 60")])
    monkeypatch.setattr(os, lacking, fail)
    error = await trouble(nft)
    assert error.kind is Trouble.CRASHED
    assert "Too many open files" in str(error)


def gone(pid_file: Path) -> bool:
    """Whether the program that wrote its pid there has ended and was buried."""
    return not Path("/proc", pid_file.read_text().strip()).exists()


async def test_C10_one_that_hangs_is_killed_whatever_it_ignores(tmp_path: Path) -> None:
    hanging = program(tmp_path, f"trap '' TERM INT\necho $$ >{tmp_path}/pid\nwhile :; do read -r _ </dev/zero; done")
    error = await trouble(Nft([hanging], patience=0.5))
    assert error.kind is Trouble.TIMED_OUT
    eventually(lambda: gone(tmp_path / "pid"))


async def test_cancelling_a_call_ends_its_program(tmp_path: Path) -> None:
    hanging = program(tmp_path, f"echo $$ >{tmp_path}/begun\nmv {tmp_path}/begun {tmp_path}/pid\nexec sleep 60")
    call = asyncio.create_task(Nft([hanging]).apply(""))
    await eventually_async(partial(asyncio.to_thread, (tmp_path / "pid").exists))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    eventually(lambda: gone(tmp_path / "pid"))


@pytest.mark.parametrize(
    "script",
    [
        "true",
        "echo nonsense",
        "echo '[]'",
        "echo '{}'",
        """echo '{"nftables": 1}'""",
        """echo '{"nftables": [1]}'""",
        """echo '{"nftables": [{"a": 1, "b": 2}]}'""",
        """echo '{"nftables": []'""",
        "printf '\\377'",
    ],
)
async def test_an_answer_that_is_not_a_listing_is_an_error(tmp_path: Path, script: str) -> None:
    """Saying nothing is not listing nothing."""
    assert (await trouble(Nft([program(tmp_path, script)]))).kind is Trouble.ODD


async def test_one_that_prints_without_end_is_stopped_by_the_kernel(tmp_path: Path) -> None:
    error = await trouble(Nft([program(tmp_path, "exec yes")]))
    assert error.kind is Trouble.ODD
    assert "MiB" in str(error)


async def test_it_inherits_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of ours")
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    try:
        place = program(tmp_path, f"cat /proc/$$/environ >{tmp_path}/environ; ls -l /proc/$$/fd >{tmp_path}/fds; cat")
        nft = Nft([place])
        with pytest.raises(NftError):
            await nft.read("list tables")
    finally:
        os.close(ours)
        os.close(theirs)
    assert (tmp_path / "environ").read_bytes() == b""
    assert "memfd:nft-in" in (tmp_path / "fds").read_text()
    assert "pipe:" not in (tmp_path / "fds").read_text()


async def test_a_text_larger_than_any_pipe_arrives_whole(tmp_path: Path) -> None:
    await Nft([program(tmp_path, f"cat >{tmp_path}/text")]).apply("é" * 2_000_000)
    assert (tmp_path / "text").read_text() == "é" * 2_000_000


@given(st.binary(max_size=200))
def test_no_answer_breaks_the_reading(said: bytes) -> None:
    with contextlib.suppress(NftError):
        assert isinstance(items(said), list)


def test_an_error_quotes_one_line_without_control_characters() -> None:
    assert first_line(b"\n bad \x1b[2J thing\nmore\n") == "bad  [2J thing"
    assert len(first_line(b"x" * 5000)) == 300
