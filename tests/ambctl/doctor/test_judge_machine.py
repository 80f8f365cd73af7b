"""What is said of this machine, row by row; and how it is looked at."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_network

import pytest

from ambcore.findings import Level
from ambcore.model import parse_ip
from ambcore.registration.extract import Host
from ambctl.doctor import ask_machine
from ambctl.doctor.judge_docker import Daemon, judge_address, judge_daemon
from ambctl.doctor.judge_machine import Door, Kernel, Limits, judge_door, judge_kernel, judge_limits

GREEN, AMBER, RED, UNKNOWN = Level


@pytest.mark.parametrize(
    ("kernel", "level", "words"),
    [
        (Kernel(True, ""), GREEN, "takes rules"),
        (Kernel(True, "nft missing: no program", missing=True), AMBER, "no program"),
        (Kernel(True, "nft missing: no program", missing=True, contained=True), UNKNOWN, "in this container"),
        (Kernel(False, None), UNKNOWN, "CAP_NET_ADMIN"),
        (Kernel(True, "nft refused: numgen"), AMBER, "does not take our rules: nft refused: numgen"),
        (Kernel(True, "", forwards="0"), AMBER, "net.ipv4.ip_forward is 0"),
        (Kernel(True, "", forwards=None), AMBER, "net.ipv4.ip_forward is not to be seen"),
    ],
)
def test_the_kernel(kernel: Kernel, level: Level, words: str) -> None:
    assert any(finding.level is level and words in finding.says for finding in judge_kernel(kernel))


@pytest.mark.parametrize(
    ("limits", "level", "words"),
    [
        (Limits(20_000), GREEN, "room for 9900 connections"),
        (Limits(1024), AMBER, "room for 412 connections"),
        (Limits(20_000, somaxconn=128), AMBER, "somaxconn is 128"),
        (Limits(20_000, ports=(32768, 60999), waiting=10), GREEN, "28232 for connections"),
        (Limits(20_000, ports=(60000, 60999), waiting=10), AMBER, "1000 for connections"),
        (Limits(20_000, ports=(32768, 60999), waiting=20_000, reuse="2"), AMBER, "20000 sockets in TIME_WAIT"),
        (Limits(20_000, ports=(32768, 60999), waiting=20_000, reuse="1"), GREEN, "20000 sockets in TIME_WAIT"),
        (Limits(20_000, tracked=10, trackable=100), GREEN, "10 of 100"),
        (Limits(20_000, tracked=80, trackable=100), AMBER, "80 of 100"),
        (Limits(20_000, tracked=99, trackable=100), RED, "new ones are dropped"),
        (Limits(20_000, memory=64 << 20), AMBER, "64 MiB"),
    ],
)
def test_the_limits(limits: Limits, level: Level, words: str) -> None:
    assert any(finding.level is level and words in finding.says for finding in judge_limits(limits))


@pytest.mark.parametrize(
    ("daemon", "level", "words"),
    [
        (Daemon("unix:///d", version="20.10"), GREEN, "version 20.10"),
        (Daemon("unix:///d", usual=True, there=False, error="No such file"), UNKNOWN, "there is none"),
        (Daemon("unix:///d", usual=False, there=False, error="No such file"), RED, "No such file"),
        (Daemon("unix:///d", error="Connection refused"), RED, "Connection refused"),
        (Daemon("unix:///d", open_to_all=True), AMBER, "everybody here may use /d"),
        (Daemon("tcp://h:2375"), AMBER, "root here"),
    ],
)
def test_the_docker_daemon(daemon: Daemon, level: Level, words: str) -> None:
    assert any(finding.level is level and words in finding.says for finding in judge_daemon(daemon))


def test_who_may_not_use_the_socket_is_told_how() -> None:
    (finding,) = judge_daemon(Daemon("unix:///d", allowed=False, error="Permission denied"))
    assert (finding.level, "of the group" in finding.do) == (AMBER, True)


@pytest.mark.parametrize(
    ("host", "level"),
    [
        (Host(advertise=parse_ip("10.0.0.1")), GREEN),
        (Host(route=parse_ip("10.0.0.1")), GREEN),
        (Host(route=parse_ip("127.0.0.1")), AMBER),
        (Host(), AMBER),
    ],
)
def test_the_address_that_registrar_would_publish(host: Host, level: Level) -> None:
    assert judge_address(host).level is level


def test_a_container_says_nothing_of_its_host_s_address_unless_docker_tells() -> None:
    address, bridge = parse_ip("10.0.0.1"), (ip_network("172.17.0.0/16"),)
    assert judge_address(Host(route=address), contained=True).level is UNKNOWN
    assert judge_address(Host(route=address, bridges=bridge), contained=True).level is GREEN
    assert judge_address(Host(route=parse_ip("172.17.0.2"), bridges=bridge), contained=True).level is AMBER
    assert judge_address(Host(advertise=address), contained=True).level is GREEN


def test_a_port_that_is_taken_names_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        door = ask_machine.door(taken.getsockname()[1])
        assert door.holder.endswith(f"(pid {os.getpid()})")
        assert judge_door(door).level is RED
    assert judge_door(Door(80, "Permission denied")).level is RED
    assert judge_door(Door(80)).level is GREEN


async def test_this_very_machine_can_be_looked_at() -> None:
    """The rules that are tried are right: the tests' machines take them."""
    assert (await ask_machine.kernel()).nft == ""
    seen = ask_machine.limits()
    assert seen.files > 0
    assert seen.ports is not None
    assert seen.memory is not None
    assert seen.waiting is not None
