"""The secret makes the authority: same secret, same bytes; another secret, no handshake."""

from __future__ import annotations

import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mosfs.wire.security import Identity, authority_certificate, authority_key, identity, is_violation, names
from mosfs.wire.versions import compatible

IP, OTHER_IP = "127.0.9.1", "127.0.9.2"


@pytest.fixture(scope="module")
def ours() -> Identity:
    return identity(b"one secret", IP)


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, asked: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory; the first error that one of them meets."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=asked),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    return ends[0], ends[1]


def test_authority_is_the_same_on_every_node() -> None:
    first, second = (authority_certificate(authority_key(b"one secret")).public_bytes(Encoding.DER) for _ in range(2))
    assert first == second
    assert first != authority_certificate(authority_key(b"two secrets")).public_bytes(Encoding.DER)


def test_same_secret_joins_and_names_the_nodes(ours: Identity) -> None:
    theirs = identity(b"one secret", OTHER_IP)
    client, server = handshake(ours.client, theirs.server, OTHER_IP)
    assert client.version() == "TLSv1.3"
    assert names(client.getpeercert(), OTHER_IP)
    assert names(server.getpeercert(), IP)
    assert not names(server.getpeercert(), OTHER_IP)
    assert not names(None, IP)


def test_other_secret_is_a_violation(ours: Identity) -> None:
    stranger = identity(b"two secrets", OTHER_IP)
    with pytest.raises(ssl.SSLError) as caught:
        handshake(ours.client, stranger.server, OTHER_IP)
    assert is_violation(caught.value)


def test_masquerading_is_a_violation(ours: Identity) -> None:
    """A node that knows the secret but answers at another node's address."""
    with pytest.raises(ssl.SSLError) as caught:
        handshake(ours.client, identity(b"one secret", "127.0.9.3").server, OTHER_IP)
    assert is_violation(caught.value)


def test_client_without_certificate_is_a_violation(ours: Identity) -> None:
    """It joins no handshake: the server asks for a certificate and looks at it."""
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError) as caught:
        handshake(anonymous, ours.server, IP)
    assert is_violation(caught.value)


def test_other_failures_are_no_violation() -> None:
    assert not is_violation(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"))
    assert not is_violation(ConnectionResetError())


@pytest.mark.parametrize(("one", "other", "result"), [
    ("0.1.0", "0.1.7", True), ("0.1.0", "0.2.0", False), ("1.1.0", "0.1.0", False), ("4.3.1", "4.3.2", True),
])
def test_first_two_digits_decide(one: str, other: str, result: bool) -> None:
    assert compatible(one, other) is result
