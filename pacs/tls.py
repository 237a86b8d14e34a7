"""DICOM over TLS (PS3.15 annex B): the profiles, our own certificate and whom we trust, and in words why a handshake failed.

The files are read again when they change, so that a certificate is renewed without a restart; new ones that cannot be used
are told in the log, and the old ones stay.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from storage.errors import LightboxError

_log = structlog.get_logger(__name__)
# How often the files are looked at, at most.
_LOOK_SECONDS: Final = 1.0


class Profile(StrEnum):
    """Secure Transport Connection Profiles by their names in PS3.15; those of annexes B.1 to B.11 are retired."""

    BCP_195 = "BCP-195-RFC-8996-9325"
    MODIFIED = "Modified-BCP-195-RFC-8996-9325"


# Cipher suites for TLS 1.2, in OpenSSL's names, the best first; those of TLS 1.3 are all allowed by both profiles.
# B.12 leaves the choice to RFC 9325 4.2; B.13 lists what is allowed. Camellia in GCM is not in OpenSSL, and so not here.
SUITES: Final[Mapping[Profile, str]] = {
    Profile.BCP_195: "ECDHE+AESGCM:ECDHE+CHACHA20",
    Profile.MODIFIED: "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:ECDHE+AESCCM8",
}
# OpenSSL's security level that asks for RSA keys of 2048 bits and no SHA-1 in certificates (B.13, RFC 9325 4.5).
_LEVEL: Final = "@SECLEVEL=2"



def suites_of(profile: Profile) -> str:
    """A profile's cipher suites for people."""
    return SUITES[profile].replace("+", " with ").replace(":", ", ")


class TlsSettings(LightboxError):
    """A certificate, key or CA file that cannot be used; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are (certificate chain and private key, PEM files) and whose certificates we accept (CA certificates, PEM)."""

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None
    profile: Profile = Profile.BCP_195

    @property
    def files(self) -> tuple[Path, ...]:
        """All that are named."""
        return tuple(file for file in (self.certificate, self.key, self.authorities) if file is not None)


def server_context(credentials: Credentials, *, client_certificate: bool) -> ssl.SSLContext:
    """For a port of ours; `client_certificate`: who connects must show one of an authority of ours. Raises TlsSettings."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, credentials)
    if credentials.certificate is None:
        raise TlsSettings("a TLS port needs a certificate and its key")
    _identify(context, credentials)
    if client_certificate and credentials.authorities is None:
        raise TlsSettings("client certificates can be asked for only with the CA certificates that they must come from")
    if credentials.authorities is not None:
        _trust(context, credentials.authorities)
        context.verify_mode = ssl.CERT_REQUIRED if client_certificate else ssl.CERT_OPTIONAL
    # Associations last, and any process may get the next: there is nothing to resume, and no ticket key to keep (RFC 9325 3.3).
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


def client_context(credentials: Credentials, pinned: str = "") -> ssl.SSLContext:
    """For associations of ours. `pinned` (PEM) is the certificate of the node, or of the authority that has signed it: then
    nothing else is accepted, whatever name it is for. Else the authorities of `credentials`, or the system's, and the
    certificate must be for the node's host. Raises TlsSettings.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, credentials)
    if credentials.certificate is not None:
        _identify(context, credentials)
    if pinned:
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(cadata=pinned)
        except (ssl.SSLError, ValueError) as error:
            raise TlsSettings("the certificate of this node cannot be read: give it in PEM form") from error
    elif credentials.authorities is not None:
        _trust(context, credentials.authorities)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _context(protocol: int, credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{SUITES[credentials.profile]}:{_LEVEL}")
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _identify(context: ssl.SSLContext, credentials: Credentials) -> None:
    assert credentials.certificate is not None
    named = f"certificate {credentials.certificate} and key {credentials.key or credentials.certificate}"
    # Without a passphrase OpenSSL would ask whoever sits at the terminal for one.
    try:
        context.load_cert_chain(credentials.certificate, credentials.key, password=_no_passphrase)
    except ssl.SSLError as error:
        why = {
            "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
            "NO_CERTIFICATE_ASSIGNED": "the key does not belong to the certificate",
            "EE_KEY_TOO_SMALL": "its key is too short: RSA needs 2048 bits at least",
            "CA_MD_TOO_WEAK": "it is signed with a digest that is too weak (SHA-1 or MD5)",
        }.get(error.reason or "", "they are not a certificate chain and an unencrypted private key in PEM form")
        raise TlsSettings(f"{named} cannot be used: {why}") from error
    except _Encrypted as error:
        raise TlsSettings(f"{named} cannot be used: the private key must not be encrypted with a passphrase") from error
    except OSError as error:
        raise TlsSettings(f"{named} cannot be read ({error.strerror})") from error


class _Encrypted(Exception):
    pass


def _no_passphrase() -> str:
    raise _Encrypted


def _trust(context: ssl.SSLContext, authorities: Path) -> None:
    # An intermediate authority, or one node's own certificate, may be all that is trusted.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=authorities)
    except ssl.SSLError as error:
        raise TlsSettings(f"CA file {authorities} cannot be used: it holds no certificate in PEM form") from error
    except OSError as error:
        raise TlsSettings(f"CA file {authorities} cannot be read ({error.strerror})") from error


class Renewed:
    """The context of a port of ours, made anew when its files have changed. Raises TlsSettings where they cannot be used now."""

    def __init__(self, credentials: Credentials, *, client_certificate: bool) -> None:
        self._credentials = credentials
        self._client_certificate = client_certificate
        self._lock = threading.Lock()
        self._seen = self._state()
        self._looked = time.monotonic()
        self._context = server_context(credentials, client_certificate=client_certificate)

    def __call__(self) -> ssl.SSLContext:
        """What a connection that comes now is to be met with."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= _LOOK_SECONDS:
                self._looked = now
                self._look()
            return self._context

    def _look(self) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._context = server_context(self._credentials, client_certificate=self._client_certificate)
        except TlsSettings as error:
            # Half of what is changed, perhaps: the other half changes the files again.
            _log.error("tls.not_renewed", reason=str(error))
        else:
            _log.info("tls.renewed", certificate=str(self._credentials.certificate))

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_state_of(file) for file in self._credentials.files)


def _state_of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


# X.509 verification (X509_V_ERR_…) in words, about the peer's certificate.
_UNTRUSTED: Final = "its certificate comes from no authority that is trusted here (unknown CA)"
VERIFICATION: Final[Mapping[int, str]] = {
    9: "its certificate is not valid yet: compare the clocks",
    10: "its certificate has expired",
    18: "its certificate is signed by itself, and not one that is trusted here (unknown CA)",
    19: _UNTRUSTED,
    20: _UNTRUSTED,
    21: _UNTRUSTED,
    2: _UNTRUSTED,
    23: "its certificate has been revoked",
    24: "its certificate is signed by one that is no authority",
    26: "its certificate is not meant for this use (extended key usage)",
    62: "its certificate is for another name than that by which it is reached (name mismatch)",
    64: "its certificate is for another address than that by which it is reached (name mismatch)",
    66: "the key of its certificate is too short",
    67: "the key of its authority's certificate is too short",
    68: "its certificate is signed with a digest that is too weak",
}
# Errors of OpenSSL by their names, without the protocol that some begin with: what we have found, and what the peer says.
_FAILURES: Final[Mapping[str, str]] = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "HTTP_REQUEST": "it speaks HTTP",
    "UNSUPPORTED_PROTOCOL": "it offers only TLS versions before 1.2",
    "NO_PROTOCOLS_AVAILABLE": "there is no TLS version that both speak",
    "VERSION_TOO_LOW": "it offers only TLS versions before 1.2",
    "NO_SHARED_CIPHER": "there is no cipher suite that both know",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate, and one is required here",
    "EE_KEY_TOO_SMALL": "the key of its certificate is too short",
    "UNEXPECTED_EOF_WHILE_READING": "it hung up in the middle of the handshake",
    "ALERT_UNKNOWN_CA": "it does not trust our certificate's authority (unknown CA)",
    "ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "ALERT_CERTIFICATE_REVOKED": "it says that our certificate has been revoked",
    "ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "ALERT_UNSUPPORTED_CERTIFICATE": "it does not accept certificates of this kind from us",
    "ALERT_CERTIFICATE_REQUIRED": "it requires a certificate of ours, and we have shown none",
    "ALERT_ACCESS_DENIED": "it lets us in by no certificate of ours",
    "ALERT_PROTOCOL_VERSION": "there is no TLS version that both speak",
    "ALERT_HANDSHAKE_FAILURE": "it found no cipher suite, or no certificate of ours, that it accepts",
    "ALERT_INSUFFICIENT_SECURITY": "it asks for stronger cipher suites",
    "ALERT_UNRECOGNIZED_NAME": "it has no certificate for the name by which it is reached",
    "ALERT_DECRYPT_ERROR": "it could not check our signature",
    "ALERT_DECODE_ERROR": "it could not read what we sent",
    "ALERT_INTERNAL_ERROR": "it has failed in itself",
}
_SAYS: Final = re.compile(r".*?(ALERT_\w+)$")


def explained(error: ssl.SSLError) -> str:
    """Why it failed, in words about the peer ("it …", "its certificate …"), after which a person knows what to change."""
    if isinstance(error, ssl.SSLCertVerificationError):
        found = VERIFICATION.get(error.verify_code)
        return found or f"its certificate cannot be verified ({error.verify_message})"
    reason = error.reason or ""
    said = _SAYS.match(reason)
    name = said.group(1) if said else reason
    return _FAILURES.get(name) or f"the TLS handshake failed ({name.lower().replace('_', ' ') or 'no reason given'})"
