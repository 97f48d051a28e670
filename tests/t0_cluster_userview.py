"""userview.map: numbers of nodes, and what users may call a node."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import ClusterMap
from mosfs.cluster.mosix_map import parse_map, validate_map
from mosfs.cluster.userview import UserView, ViewLine, parse_userview, print_userview, validate_userview

HOSTS = {"alpha": "10.0.0.1", "gamma": "30.0.0.1"}


def view(text: str) -> UserView:
    return validate_userview(parse_userview(text), HOSTS.get)


@st.composite
def view_lines(draw: st.DrawFn) -> ViewLine:
    number = draw(st.integers(1, 65535))
    ips = st.integers(0x00010000, 0xFFFF0000).map(lambda n: str(IPv4Address(n)))
    return ViewLine(number, draw(ips | st.sampled_from(["alpha", "x-1.y"])), draw(st.integers(1, 65536 - number)))


@given(st.lists(view_lines(), max_size=30))
def test_round_trip(written: list[ViewLine]) -> None:
    assert list(parse_userview(print_userview(written))) == written


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 60)), max_size=20))
def test_numbers_and_addresses_are_one_to_one(gaps: list[tuple[int, int]]) -> None:
    number, address, written = 0, 0x0A000000, []
    for count, gap in gaps:
        number, address = number + gap, address - gap - count
        written.append(ViewLine(number, str(IPv4Address(address)), count))
        number += count
    made = validate_userview(written, HOSTS.get)
    pairs = dict(made.numbers())
    assert len(pairs) == sum(count for count, _ in gaps) == len(set(pairs.values()))
    for ip, n in pairs.items():
        assert made.ip_of(n) == ip
        assert made.number_of(ip) == n


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 10.0.0.1", "userview.map, line 1: '1 10.0.0.1': a line is: node number, IP or host-name, number of nodes"),
        ("1 10.0.0.1 2 p", "userview.map, line 1: '1 10.0.0.1 2 p': a line is: "),
        ("0 10.0.0.1 1", "userview.map, line 1: '0': not a number of 1-65535"),
        ("65536 10.0.0.1 1", "userview.map, line 1: '65536': not a number of 1-65535"),
        ("#\n65535 10.0.0.1 2", "userview.map, line 2: '2': not a number of 1-1"),
        ("1 10.0.0.1 x", "userview.map, line 1: 'x': not a number of 1-65535"),
        ("1 nowhere 1", "userview.map, line 1: 'nowhere': not an IP address and not a known host name"),
        ("1 255.255.254.0 257", "userview.map, line 1: '255.255.254.0': IP addresses 0.0.x.x"),
        ("1 10.0.0.1 3\n3 10.0.1.1 1", "userview.map, line 2: '3 10.0.1.1 1': overlaps '1 10.0.0.1 3'"),
        ("1 10.0.0.1 3\n9 10.0.0.3 1", "userview.map, line 2: '9 10.0.0.3 1': overlaps '1 10.0.0.1 3'"),
    ],
)
def test_errors_name_file_line_and_value(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        view(text)
    assert message in str(caught.value)


def test_edges_of_a_view() -> None:
    made = view("# ours\n65534 10.0.0.1 2\n\n1 10.1.0.1 1\n")
    assert made.ip_of(65535) == "10.0.0.2"
    assert made.ip_of(2) is None
    assert made.number_of("10.0.0.3") is None
    assert made.number_of("10.0.0.0") is None
    assert made.number_of("nonsense") is None
    assert list(made.numbers()) == [("10.1.0.1", 1), ("10.0.0.1", 65534), ("10.0.0.2", 65535)]
    assert list(UserView().numbers()) == []


def test_what_users_call_a_node() -> None:
    table = validate_map(parse_map("10.0.0.1 3\n10.5.0.1=10.0.0.2"), HOSTS.get)
    nodes = ClusterMap(table, view("1 10.0.0.1 2\n70 20.0.0.1 1\n80 10.5.0.1 1"), HOSTS.get)
    assert nodes.resolve("1") == "10.0.0.1"
    assert nodes.resolve("10.0.0.3") == "10.0.0.3"
    assert nodes.resolve("alpha") == "10.0.0.1"
    assert nodes.resolve("10.5.0.1") == "10.0.0.2"
    assert nodes.resolve("80") == "10.0.0.2"
    not_in_map = ["3", "0", "70", "20.0.0.1", "gamma", "nowhere", "10.0.0", "", "-1", "1 ", "\0", "9" * 5000, "\u0661"]
    assert [text for text in not_in_map if nodes.resolve(text) is not None] == []
    assert nodes.ip_of(70) == "20.0.0.1"
    assert nodes.number_of("10.0.0.2") == 2
    assert nodes.number_of("10.5.0.1") == 80
    assert nodes.number_of("10.0.0.3") is None
