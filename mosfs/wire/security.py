"""From the shared secret to mutual TLS: every node makes the same certificate authority, so every node knows its own.

    secret --scrypt--> Ed25519 key of the authority
                          --> its certificate (fixed serial and dates: the same bytes on every node)
                          --> a throw-away key and certificate for this node, naming its IP

A node with another secret has another authority, so both sides see an unknown issuer: the manual's "Authentication
violation" (section 10.5). TLS 1.3 only. The secret never travels; guessing it offline remains possible for who can
connect, which is why it has to be random (`cluster.secret`).
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

#: About 40 ms: dear for who guesses, cheap for a daemon that must be up in a moment. A change makes nodes strangers.
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "maxmem": 2**26}
_SALT = b"mosfs certificate authority 1"

#: Clocks of nodes may be wrong; the certificates of a node live no longer than its daemon anyway.
_FROM = datetime.datetime(2000, 1, 1)
_UNTIL = datetime.datetime(9999, 12, 31)

_AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mosfs cluster")])


@dataclass(frozen=True, slots=True)
class Identity:
    """Contexts for the two ends of a link: ``client`` checks that the peer's certificate names the IP it asked for.

    ``gossip``: the key of datagrams (`wire.datagram`), 32 bytes.
    """

    client: ssl.SSLContext
    server: ssl.SSLContext
    gossip: bytes


def _stretched(secret: bytes) -> bytes:
    """32 bytes from which all keys are made; takes about 40 ms."""
    return hashlib.scrypt(secret, salt=_SALT, dklen=32, **_SCRYPT)


def authority_key(secret: bytes) -> Ed25519PrivateKey:
    """The authority's key that ``secret`` means; takes about 40 ms."""
    return Ed25519PrivateKey.from_private_bytes(_stretched(secret))


def _gossip_key(stretched: bytes) -> bytes:
    return hashlib.blake2b(b"gossip", key=stretched, digest_size=32).digest()


def _certificate(
    subject: x509.Name, key: Ed25519PrivateKey, authority: Ed25519PrivateKey, serial: int, extension: x509.ExtensionType
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_AUTHORITY)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(extension, critical=True)
        .sign(authority, None)
    )


def authority_certificate(key: Ed25519PrivateKey) -> x509.Certificate:
    """The same bytes on every node: Ed25519 signatures are deterministic and nothing else varies."""
    return _certificate(_AUTHORITY, key, key, 1, x509.BasicConstraints(ca=True, path_length=0))


def node_certificate(authority: Ed25519PrivateKey, key: Ed25519PrivateKey, ip: str) -> x509.Certificate:
    """A certificate for the node at ``ip``, which is its only name."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ip)])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ip))])
    return _certificate(name, key, authority, x509.random_serial_number(), address)


def identity(secret: bytes, ip: str) -> Identity:
    """All that the node ``ip`` needs to talk to others."""
    stretched = _stretched(secret)
    authority, own = Ed25519PrivateKey.from_private_bytes(stretched), Ed25519PrivateKey.generate()
    trusted = _pem(authority_certificate(authority))
    chain = _pem(node_certificate(authority, own, ip)) + own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context in (client, server):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trusted.decode())
        _load_chain(context, chain)
    # Tickets are written before the client reads: with both sides writing first, that can dead-lock (trio issue 819)
    server.num_tickets = 0
    return Identity(client, server, _gossip_key(stretched))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _load_chain(context: ssl.SSLContext, chain: bytes) -> None:
    """OpenSSL wants a file name: an anonymous file in memory has one, and leaves no key behind on disk."""
    descriptor = os.memfd_create("chain", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


def is_violation(error: BaseException) -> bool:
    """Did a handshake fail because the two nodes do not share the secret, or the certificate names another IP?

    One side sees the wrong certificate, the other side the alert that tells so.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    text = str(error).upper()
    return isinstance(error, ssl.SSLError) and any(word in text for word in _ALERTS)


_ALERTS = (
    "UNKNOWN_CA", "BAD_CERTIFICATE", "DECRYPT_ERROR", "CERTIFICATE_UNKNOWN", "CERTIFICATE_REQUIRED", "BAD SIGNATURE",
    "BAD_SIGNATURE", "PEER_DID_NOT_RETURN_A_CERTIFICATE", "CERTIFICATE_VERIFY_FAILED",
)


def names(certificate: Mapping[str, object] | None, ip: str) -> bool:
    """Does the peer's certificate, as `ssl.SSLObject.getpeercert` gives it, name ``ip``?"""
    found = (certificate or {}).get("subjectAltName", ())
    return isinstance(found, tuple) and ("IP Address", ip) in found
