"""Whether settings would open the archive to a network that has to authenticate nobody."""

from __future__ import annotations

from pacs.setting_values import is_loopback
from pacs.settings import Settings
from pacs.settings_file import SettingsError
from pacs.users import users_of


def check_exposure(settings: Settings, *, web: bool = True, dimse: bool = True, hl7: bool = True) -> None:
    """Refuse to serve the network without authentication (RELIABILITY 22). Raises SettingsError saying what to set."""
    if settings.auth == "oidc":
        raise SettingsError(
            "PACS_AUTH=oidc is not built yet in this version: set PACS_AUTH=none and stay on 127.0.0.1, behind a proxy that authenticates"
        )
    if web and "*" in settings.cors_origins:
        raise SettingsError(
            "PACS_CORS_ORIGINS=* would let every page that anybody here opens read the archive, for nobody has to log in:"
            " name the origins that may, as https://HOST:PORT"
        )
    if dimse:
        # Whether they contradict each other is known before anything is served.
        users_of(settings)
    hosts = {"PACS_HTTP_HOST": settings.http_host} if web else {}
    # Who shows a certificate that we trust has authenticated itself.
    certified = not settings.dimse_plain and settings.dimse_tls_client_certificate == "required"
    hosts |= {"PACS_DIMSE_HOST": settings.dimse_host} if dimse and not certified else {}
    hl7_open = settings.hl7_port is not None or (
        settings.hl7_tls_port is not None and settings.hl7_tls_client_certificate != "required"
    )
    hosts |= {"PACS_HL7_HOST": settings.hl7_host} if hl7 and hl7_open else {}
    exposed = [f"{name}={host}" for name, host in hosts.items() if not is_loopback(host)]
    if exposed and not settings.trust_network:
        raise SettingsError(
            f"{' and '.join(exposed)} would open the archive to the network without authentication: set it to 127.0.0.1"
            " (behind a proxy that authenticates), or, where only the right people reach this network, PACS_TRUST_NETWORK=true"
        )
