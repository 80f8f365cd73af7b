"""Who the client is, told in front of every datagram."""

from __future__ import annotations

from ambcore.proxy_protocol import Header, decode
from tests.support.relay_worker import RelayWorker, endpoint
from tests.support.udp_peers import UdpInstance, udp_client
from tests.support.waiting import eventually


def test_every_datagram_begins_with_a_header_of_version_2() -> None:
    with RelayWorker(datagrams=True, route={"send_proxy": 2}) as relay, UdpInstance() as server:
        relay.apply(endpoint("one", server.address))
        with udp_client(relay.address) as client:
            for payload in (b"first", b"second", b""):
                client.send(payload)
                data, sender = server.receive()
                header = decode(data)
                assert header == Header(28, client.getsockname(), relay.address)
                assert data[13] == 0x12, "UDP over IPv4"
                assert data[28:] == payload
            server.sock.sendto(b"answers have none", sender)
            assert client.recv(100) == b"answers have none"


def test_version_1_knows_no_datagrams_which_is_said_once() -> None:
    with RelayWorker(datagrams=True, route={"send_proxy": 1}) as relay, UdpInstance() as server:
        relay.apply(endpoint("one", server.address))
        with udp_client(relay.address) as client:
            for payload in (b"first", b"second"):
                client.send(payload)
                assert server.receive()[0] == payload
        eventually(lambda: relay.log)
        assert [line for line in relay.log if "version 1" in line] == relay.log[:1]
