"""An authority of a test's own and what it signs, as files."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CERTIFIES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
"""What an authority may do with its key."""


@dataclass(frozen=True)
class Files:
    cert: str
    key: str


class Authority:
    """Signs for names and addresses; `ca` is the file to believe."""

    def __init__(self, folder: Path, name: str = "a test's authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(self._name, self._key, 30).add_extension(x509.BasicConstraints(True, None), True)
        made = made.add_extension(CERTIFIES, True)
        self.ca = str(folder / "ca.pem")
        Path(self.ca).write_bytes(self._signed(made))

    def issue(self, *names: str, days: float = 30, called: str = "host") -> Files:
        """Return certificate and key for these names; with negative `days`, one that has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), key, days
        ).add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        files = Files(str(self._folder / f"{called}.pem"), str(self._folder / f"{called}.key"))
        Path(files.cert).write_bytes(self._signed(made))
        Path(files.key).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
    ) -> x509.CertificateBuilder:
        until = datetime.now(UTC) + timedelta(days=days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - timedelta(days=60))
            .not_valid_after(until)
            # clients of Python 3.13 and later believe no certificate without these
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )

    def _signed(self, made: x509.CertificateBuilder) -> bytes:
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
