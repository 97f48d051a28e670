"""mosix.map: grammar, printer, meaning (mosix(7); readings, rows 22 and 23)."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import ClusterMap
from mosfs.cluster.mosix_map import AliasLine, MapLine, NodeRange, RangeLine, parse_map, print_map, validate_map

HOSTS = {"alpha": "10.0.0.1", "beta.example": "10.0.1.1", "zero": "0.0.0.9", "broken": "not-an-ip"}


def cluster_map(text: str) -> ClusterMap:
    return ClusterMap(validate_map(parse_map(text), HOSTS.get), resolver=HOSTS.get)


ips = st.integers(0x00010000, 0xFFFFFEFF).map(lambda n: str(IPv4Address(n)))
names = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,5})?", fullmatch=True)
lines: st.SearchStrategy[MapLine] = st.one_of(
    st.builds(RangeLine, ips | names, st.integers(1, 70000), st.booleans()),
    st.builds(AliasLine, ips, ips | names),
)


@given(st.lists(lines, max_size=256))
def test_round_trip(written: list[MapLine]) -> None:
    assert list(parse_map(print_map(written))) == written


@given(st.text(max_size=200))
def test_any_text_parses_or_is_one_line_of_error(text: str) -> None:
    try:
        entries = parse_map(text)
    except ConfigError as error:
        assert str(error).startswith("mosix.map, line ")
        assert len(str(error).splitlines()) == 1
    else:
        assert parse_map(print_map(entries)) == entries


def test_comments_blanks_and_line_ends() -> None:
    text = "# all of it\n\n  10.0.0.1   4 \r\n\t#10.9.9.9 1\n10.0.1.1 2\tp\n 10.5.0.1 = alpha"
    assert parse_map(text) == (RangeLine("10.0.0.1", 4), RangeLine("10.0.1.1", 2, True), AliasLine("10.5.0.1", "alpha"))
    assert [entry.line for entry in parse_map(text)] == [3, 5, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.1", "mosix.map, line 1: '10.0.0.1': a data line is: IP or host-name, number of nodes, and perhaps p"),
        ("10.0.0.1 3 q", "mosix.map, line 1: '10.0.0.1 3 q': a data line is: "),
        ("10.0.0.1 3 P", "mosix.map, line 1: '10.0.0.1 3 P': a data line is: "),
        ("10.0.0.1 3 p # near", "mosix.map, line 1: '10.0.0.1 3 p # near': a data line is: "),
        ("#\n10.0.0.1 0", "mosix.map, line 2: '0': not a number of 1-"),
        ("10.0.0.1 -3", "mosix.map, line 1: '-3': not a number of 1-"),
        ("10.0.0.1 1_0", "mosix.map, line 1: '1_0': not a number of 1-"),
        ("10.0.0.1 \u0663", "mosix.map, line 1: '\u0663': not a number of 1-"),
        ("10.0.0.1 " + "9" * 5000, "': not a number of 1-"),
        ("10.0.0.256 3", "mosix.map, line 1: '10.0.0.256': not an IP address and not a known host name"),
        ("10.0.1 3", "mosix.map, line 1: '10.0.1': not an IP address"),
        ("10.0.0.01 3", "mosix.map, line 1: '10.0.0.01': not an IP address"),
        ("10.0.0.1 1\nnowhere 3", "mosix.map, line 2: 'nowhere': not an IP address and not a known host name"),
        ("broken 3", "mosix.map, line 1: 'broken': not an IP address"),
        ("zero 3", "mosix.map, line 1: 'zero': IP addresses 0.0.x.x and 255.255.255.x are not allowed in MOSIX"),
        ("0.0.255.255 2", "mosix.map, line 1: '0.0.255.255': IP addresses 0.0.x.x"),
        ("255.255.254.255 2", "mosix.map, line 1: '255.255.254.255': IP addresses 0.0.x.x"),
        ("10.0.0.1 5\n\n10.0.0.5 1 p", "mosix.map, line 3: '10.0.0.5 1 p': overlaps '10.0.0.1 5'"),
        ("10.0.0.5 1\n10.0.0.1 5", "mosix.map, line 2: '10.0.0.1 5': overlaps '10.0.0.5 1'"),
        ("10.0.0.1 1\n=alpha", "mosix.map, line 2: '=alpha': an alias line is a.b.c.d=e.f.g.h or a.b.c.d=host-name"),
        ("10.0.0.1 1\n10.5.0.1=alpha=beta", "mosix.map, line 2: '10.5.0.1=alpha=beta': an alias line is "),
        ("10.0.0.1 1\n10.5.0.1=alpha beta", "mosix.map, line 2: '10.5.0.1=alpha beta': an alias line is "),
        ("10.0.0.1 1\nbeta.example=alpha", "mosix.map, line 2: 'beta.example': not an IP address"),
        ("10.0.0.1 1\n0.0.0.1=alpha", "mosix.map, line 2: '0.0.0.1': IP addresses 0.0.x.x"),
        ("10.0.0.1 2\n10.0.0.2=alpha", "mosix.map, line 2: '10.0.0.2=alpha': 10.0.0.2 is a node, so it cannot be an "),
        ("10.0.0.1 1\n10.5.0.1=10.0.0.9", "mosix.map, line 2: '10.5.0.1=10.0.0.9': 10.0.0.9 is not a node"),
        (
            "10.0.0.1 2\n10.5.0.1=10.0.0.1\n10.5.0.1=10.0.0.2",
            "mosix.map, line 3: '10.5.0.1=10.0.0.2': 10.5.0.1 is an alias of 10.0.0.1 already",
        ),
        ("# nothing\n", "mosix.map: no nodes"),
    ],
)
def test_errors_name_file_line_and_value(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_map(parse_map(text), HOSTS.get)
    assert message in str(caught.value)


def test_256_lines_are_allowed_and_257_are_not() -> None:
    data = [f"10.0.{n}.1 1" for n in range(200)] + [f"10.1.{n}.1=10.0.{n}.1" for n in range(56)]
    text = "".join(f"# comment\n\n{line}\n" for line in data)
    assert len(parse_map(text)) == 256
    with pytest.raises(ConfigError, match=r"^mosix.map, line 769: '10.2.0.1 1': more than 256 data and alias lines$"):
        parse_map(text + "10.2.0.1 1\n")


def test_a_line_of_error_is_short_and_printable() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_map("x\x1b[31m\x07 " * 50)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_extremes_of_the_address_range() -> None:
    table = validate_map(parse_map("255.255.254.255 1\n0.1.0.0 1 p"), HOSTS.get)
    assert table.ranges == (NodeRange(0x00010000, 1, True), NodeRange(0xFFFFFEFF, 1, False))


def test_an_alias_may_stand_for_a_node_of_a_partner() -> None:
    entries = parse_map("10.0.0.1 1\n10.5.0.1=20.0.0.1")
    table = validate_map(entries, HOSTS.get, partner=lambda address: address == 0x14000001)
    assert ClusterMap(table).canonical("10.5.0.1") == "20.0.0.1"
    assert not ClusterMap(table).contains("10.5.0.1")


def test_questions_to_a_map() -> None:
    nodes = cluster_map("beta.example 3\nalpha 2 p\n10.5.0.1=10.0.0.2\n")
    assert list(nodes.nodes()) == ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2", "10.0.1.3"]
    assert len(nodes) == 5
    asked = ["10.0.0.0", "10.0.0.1", "10.0.0.3", "10.0.1.3", "10.0.1.4", "10.5.0.1", "x", ""]
    assert list(filter(nodes.contains, asked)) == ["10.0.0.1", "10.0.1.3", "10.5.0.1"]
    assert [ip for ip in ("10.0.0.1", "10.0.1.1", "10.5.0.1", "9.9.9.9") if nodes.relation(ip).near] == ["10.0.0.1", "10.5.0.1"]
    assert nodes.canonical("10.5.0.1") == "10.0.0.2"
    assert nodes.canonical("10.0.1.1") == "10.0.1.1"
    assert nodes.canonical("9.9.9.9") == "9.9.9.9"


def test_a_big_map_is_not_listed() -> None:
    nodes = cluster_map("10.0.0.0 16777216\n")
    assert len(nodes) == 1 << 24
    assert next(nodes.nodes()) == "10.0.0.0"
    assert nodes.contains("10.255.255.255")
    assert not nodes.contains("11.0.0.0")


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 40), st.booleans()), min_size=1, max_size=40))
def test_membership_is_that_of_a_plain_set(spans: list[tuple[int, int, bool]]) -> None:
    base = 0x0A000000
    members: dict[int, bool] = {}
    for first, count, near in spans:
        assume(not members.keys() & set(range(first, first + count)))
        members.update(dict.fromkeys(range(first, first + count), near))
    nodes = cluster_map(print_map(RangeLine(str(IPv4Address(base + f)), c, n) for f, c, n in spans))
    assert list(nodes.nodes()) == [str(IPv4Address(base + n)) for n in sorted(members)]
    for first, count, _ in spans:
        for n in (first - 1, first, first + count - 1, first + count):
            ip = str(IPv4Address(base + n))
            assert nodes.contains(ip) == (n in members)
            assert nodes.relation(ip).near == members.get(n, False)
