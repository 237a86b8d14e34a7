"""Whether the settings of the ports for DICOM and HL7 over TLS can work: asked before anything starts."""

from __future__ import annotations

from pacs.settings import Settings
from pacs.settings_file import SettingsError
from pacs.tls import TlsSettings, server_context


def check_tls(settings: Settings) -> None:
    """Refuse to begin with TLS settings that cannot work. Raises SettingsError saying what to set."""
    if settings.dimse_tls_port is None:
        if not settings.dimse_plain:
            raise SettingsError("PACS_DIMSE_PLAIN=false leaves no port for DICOM: set PACS_DIMSE_TLS_PORT")
        return
    _check(settings, "PACS_DIMSE_TLS", required=settings.dimse_tls_client_certificate == "required")


def check_hl7_tls(settings: Settings) -> None:
    """The same for HL7."""
    if settings.hl7_tls_port is not None:
        _check(settings, "PACS_HL7_TLS", required=settings.hl7_tls_client_certificate == "required")
    if settings.hl7_sender_certificates and settings.hl7_port is not None:
        raise SettingsError(
            "PACS_HL7_SENDER_CERTIFICATES protects nothing while HL7 comes without TLS too: leave PACS_HL7_PORT empty"
        )


def _check(settings: Settings, prefix: str, *, required: bool) -> None:
    if settings.dimse_tls_certificate is None:
        raise SettingsError(f"{prefix}_PORT needs a certificate: set PACS_DIMSE_TLS_CERTIFICATE and PACS_DIMSE_TLS_KEY")
    if required and settings.dimse_tls_ca is None:
        raise SettingsError(
            f"{prefix}_PORT needs to know whose client certificates it accepts: set PACS_DIMSE_TLS_CA,"
            f" or {prefix}_CLIENT_CERTIFICATE=optional, with which everybody who reaches the port is let in"
        )
    try:
        server_context(settings.tls_credentials, client_certificate=required)
    except TlsSettings as error:
        raise SettingsError(f"{prefix}_PORT cannot be served: {error}") from error
