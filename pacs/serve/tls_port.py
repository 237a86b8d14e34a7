"""Whether the settings of the port for DICOM over TLS can work: asked before anything starts."""

from __future__ import annotations

from pacs.settings import Settings, SettingsError
from pacs.tls import TlsSettings, server_context


def check_tls(settings: Settings) -> None:
    """Refuse to begin with TLS settings that cannot work. Raises SettingsError saying what to set."""
    if settings.dimse_tls_port is None:
        if not settings.dimse_plain:
            raise SettingsError("PACS_DIMSE_PLAIN=false leaves no port for DICOM: set PACS_DIMSE_TLS_PORT")
        return
    required = settings.dimse_tls_client_certificate == "required"
    if settings.dimse_tls_certificate is None:
        raise SettingsError("PACS_DIMSE_TLS_PORT needs a certificate: set PACS_DIMSE_TLS_CERTIFICATE and PACS_DIMSE_TLS_KEY")
    if required and settings.dimse_tls_ca is None:
        raise SettingsError(
            "PACS_DIMSE_TLS_PORT needs to know whose client certificates it accepts: set PACS_DIMSE_TLS_CA,"
            " or PACS_DIMSE_TLS_CLIENT_CERTIFICATE=optional, with which everybody who reaches the port is let in"
        )
    try:
        server_context(settings.tls_credentials, client_certificate=required)
    except TlsSettings as error:
        raise SettingsError(f"PACS_DIMSE_TLS_PORT cannot be served: {error}") from error
