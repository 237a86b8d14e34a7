"""The settings: one frozen, documented object, from `PACS_` names in the environment and in an optional file.

An empty value means the default. What the file is, is in `settings_file`, how settings are shown in `settings_shown`. Only the composition root and the command line read settings; everybody else is given plain values.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from pacs import setting_values
from pacs.settings_file import PREFIX, SettingsError, check_names, read, settings_file
from pacs.tls import Credentials, Profile

Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(setting_values.as_tuple)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
_MIB = 1 << 20
# Beyond so many they wait for the index, which is written to by one at a time.
_MOST_PROCESSES = 4


class Settings(BaseSettings):
    """Everything that can be set. Sizes are bytes (`64MiB` is understood too), times are seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True, extra="forbid")

    data_dir: Path = Field(
        default=Path("./pacs-data"),
        description="folder of the archive: objects, index and what is being received",
    )
    http_host: str = Field(default="127.0.0.1", description="address that the web service listens on")
    http_port: Port = Field(default=8080, description="port of viewer and DICOMweb; 0 takes a free one")
    dimse_host: str = Field(default="127.0.0.1", description="address that the DIMSE service listens on")
    dimse_port: Port = Field(default=11112, description="port of the DIMSE service; 0 takes a free one")
    hl7_host: str = Field(default="127.0.0.1", description="address that HL7 v2 orders are taken on (MLLP)")
    hl7_port: Port | None = Field(
        default=None, description="port for HL7 v2 orders over MLLP, 2575 say; 0 takes a free one; empty: none are taken"
    )
    hl7_tls_port: Port | None = Field(
        default=None,
        description="port for HL7 v2 orders over MLLP in TLS, with the certificate and the trust of PACS_DIMSE_TLS_…; 0 takes a free one; empty: none",
    )
    hl7_tls_client_certificate: Literal["required", "optional"] = Field(
        default="required", description="whether who connects to PACS_HL7_TLS_PORT must show a certificate that PACS_DIMSE_TLS_CA vouches for"
    )
    hl7_senders: Annotated[Words, AfterValidator(setting_values.networks)] = Field(
        default=(), description="addresses or networks that may send HL7 messages, separated by commas; empty: any that reaches the port"
    )
    hl7_sender_certificates: Annotated[Words, AfterValidator(setting_values.fingerprints)] = Field(
        default=(),
        description="SHA-256 fingerprints of the certificates that may be shown to PACS_HL7_TLS_PORT, separated by commas; empty: any that is trusted",
    )
    ae_title: Annotated[str, AfterValidator(setting_values.ae_title)] = Field(
        default="LIGHTBOX", description="AE title of this archive"
    )
    database_url: Annotated[str, AfterValidator(setting_values.database_url)] = Field(
        default="",
        description="index: sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE; empty: index.sqlite in the data folder",
    )
    store_url: Annotated[str, AfterValidator(setting_values.store_url)] = Field(
        default="",
        description="object store: file:PATH or s3://BUCKET/PREFIX; empty: objects in the data folder",
    )
    s3_endpoint_url: str = Field(
        default="",
        description="S3 server that is not AWS, as https://HOST:PORT; credentials come from the environment as for every AWS client",
    )
    s3_region: str = Field(
        default="", description="region of the S3 bucket; empty: as the AWS configuration says"
    )

    auth: Literal["none", "oidc"] = Field(
        default="none",
        description="who may use the web service: none (everybody who reaches it) or oidc (not in this version)",
    )
    trust_network: bool = Field(
        default=False,
        description="true: listen on other than loopback addresses without authentication, because the network itself lets only the right people in",
    )
    oidc_issuers: Annotated[Words, AfterValidator(setting_values.issuers)] = Field(
        default=(),
        description="issuers whose tokens are accepted, separated by commas, as their tokens and their /.well-known/openid-configuration name"
        " them: of users of DIMSE callers (PS3.7 D.3.3.7), and of the web service with PACS_AUTH=oidc",
    )
    oidc_audience: str = Field(default="", description="audience that a token must name, unless it names PACS_OIDC_CLIENT_ID")
    oidc_client_id: str = Field(
        default="",
        description="client id that a token must name as its audience, or as its client where it has no audience",
    )
    oidc_keys: Path | None = Field(
        default=None,
        description="file with the public keys of the issuers (a JWK set), where they cannot be reached from here; empty: they are asked",
    )
    oidc_role_claim: str = Field(
        default="roles", description="path of the claim that lists a user's roles (with PACS_AUTH=oidc)"
    )
    public_url: str = Field(
        default="",
        description="scheme and host that clients use, behind a proxy that changes them; empty: those of the request",
    )
    trusted_proxies: Annotated[Words, AfterValidator(setting_values.networks)] = Field(
        default=(),
        description="addresses or networks of proxies whose Forwarded or X-Forwarded headers are believed, separated by commas; where"
        " the two contradict each other, neither is: have the proxy remove the kind that it does not write",
    )

    cors_origins: Annotated[Words, AfterValidator(setting_values.origins)] = Field(
        default=(),
        description="origins of web pages elsewhere, such as a viewer on another server, whose scripts may use DICOMweb, separated by commas: https://HOST:PORT",
    )
    cross_origin_isolation: bool = Field(
        default=False,
        description="true: the viewer's pages are cross-origin isolated (COOP and COEP), which gives its scripts shared memory, and takes pages of other sites away from them",
    )

    workers: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="processes that serve DIMSE, and as many that serve HTTP; empty: one for every core, at most four",
    )
    duplicates: Literal["keep", "replace"] = Field(
        default="keep",
        description="other bytes under a known SOP Instance UID: keep the first and put the newcomer in quarantine, or replace it and keep its history",
    )
    max_object_bytes: ByteSize = Field(
        default=ByteSize(8192 * _MIB), ge=1024, description="largest instance that is accepted"
    )
    min_free_bytes: ByteSize = Field(
        default=ByteSize(512 * _MIB), ge=0, description="free disk space below which /readyz says not ready"
    )
    viewer_dir: Path | None = Field(
        default=None,
        description="folder with the fetched viewer; empty: the checkout's, else viewer in the data folder",
    )
    stop_seconds: Seconds = Field(
        default=30, description="how long a stop waits for associations and requests in flight"
    )

    dimse_max_associations: int = Field(
        default=100, ge=1, le=10000, description="associations at the same time, in each dimse process"
    )
    dimse_max_pdu_bytes: ByteSize = Field(
        default=ByteSize(131072),
        ge=4096,
        le=_MIB,
        description="largest P-DATA PDU that is received (PS3.8 annex D.1)",
    )
    dimse_request_seconds: Seconds = Field(default=10, description="time for the whole A-ASSOCIATE-RQ")
    dimse_message_seconds: Seconds = Field(
        default=30,
        description="time without a byte in the middle of a message after which an association is aborted",
    )
    dimse_idle_seconds: Seconds = Field(
        default=60, description="time between messages after which an association is aborted"
    )
    dimse_any_called_ae: bool = Field(
        default=False, description="true: answer to any called AE title, not only to PACS_AE_TITLE"
    )

    dimse_user_identity: Literal["optional", "required", "verified"] = Field(
        default="optional",
        description="whether a DIMSE caller must say who its user is (PS3.7 D.3.3.7): optional, required (a name is recorded as it is said) or verified"
        " (only who shows a JSON web token of PACS_OIDC_ISSUERS; a token that is not right is always refused where there are issuers)",
    )
    unknown_callers: Literal["auto", "accept", "ask", "refuse"] = Field(
        default="auto",
        description="DIMSE callers that are no node of pacs ae: accept (they may do what PACS_UNKNOWN_CALLER_RIGHTS says), ask (refused, and under 'wants to connect' in /admin/ until they are allowed), or refuse; auto: accept while only this machine reaches the port or PACS_TRUST_NETWORK is true, else ask",
    )
    unknown_caller_rights: Annotated[Words, AfterValidator(setting_values.rights)] = Field(
        default=("all",),
        description="what a caller that is no node of pacs ae may do where such are accepted: words of pacs ae rights separated by commas, all or none",
    )
    association_log_days: Annotated[float, Field(gt=0)] = Field(
        default=30, description="days that the log of associations keeps an entry; it keeps 100,000 at most"
    )
    transfer_days: Annotated[float, Field(gt=0)] = Field(
        default=30, description="days that it is known what was sent to other nodes and fetched from them"
    )

    dimse_plain: bool = Field(default=True, description="false: no port for DICOM without TLS, only PACS_DIMSE_TLS_PORT")
    dimse_tls_port: Port | None = Field(
        default=None,
        description="port for DICOM over TLS, for which 2762 is registered; 0 takes a free one; empty: none",
    )
    dimse_tls_certificate: Path | None = Field(
        default=None,
        description="PEM file with this archive's certificate and the chain above it, for the TLS port and for nodes that it calls; read again when it changes",
    )
    dimse_tls_key: Path | None = Field(
        default=None,
        description="PEM file with the certificate's private key, unencrypted; empty: it is in the certificate's file",
    )
    dimse_tls_ca: Path | None = Field(
        default=None,
        description="PEM file with the CA certificates, or single certificates of nodes, that are trusted",
    )
    dimse_tls_client_certificate: Literal["required", "optional"] = Field(
        default="required",
        description="whether who connects to the TLS port must show a certificate that PACS_DIMSE_TLS_CA vouches for",
    )
    dimse_tls_profile: Profile = Field(
        default=Profile.BCP_195,
        description="which TLS versions and cipher suites are spoken: the profile of PS3.15 B.12 (BCP-195-RFC-8996-9325) or B.13 (Modified-BCP-195-RFC-8996-9325)",
    )

    availability_nodes: Words = Field(
        default=(),
        description="AE titles of nodes that are told what has come and what was deleted, by Instance Availability Notification (PS3.4 annex R), separated by commas",
    )

    http_max_connections: int = Field(
        default=1000, ge=1, le=100000, description="connections at the same time, in each web process"
    )
    http_header_seconds: Seconds = Field(default=10, description="time for the whole head of a request")
    http_idle_seconds: Seconds = Field(
        default=75, description="time that a connection is kept between requests"
    )
    http_body_idle_seconds: Seconds = Field(
        default=30, description="time without a byte in the middle of a request's body"
    )
    search_max_results: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="answers that one search over HTTP returns at most; the rest is on further pages, which its Link header leads to; 0: any number",
    )
    search_empty_status: Literal["200", "204"] = Field(
        default="200",
        description="status of a search over HTTP that finds nothing: 200 with an empty list, which every client reads, or 204 as PS3.18 8.3.4.4.1 says",
    )
    worklist_complete_minutes: Annotated[float, Field(ge=0)] = Field(
        default=120,
        description="minutes after the last image of a study after which its worklist entry is completed, for modalities without MPPS; 0: never",
    )
    worklist_days: Annotated[float, Field(gt=0)] = Field(
        default=30,
        description="days after which an entry of the modality worklist that has ended, or was to begin, is removed",
    )
    workitem_days: Annotated[float, Field(gt=0)] = Field(
        default=30,
        description="days after which workitems that are completed or canceled are removed, unless a subscriber has them locked",
    )

    rejection_notes: Literal["apply", "regular-use", "keep"] = Field(
        default="apply",
        description="rejection notes (Key Object Selection documents of IHE Imaging Object Change Management): apply (the images that they"
        " name are deleted, which can be undone, where the sender has the right to reject), regular-use (the same, but what is rejected for"
        " quality reasons, 113001, stays in use) or keep (they are stored as any other object)",
    )
    purge_days: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="days after which what was deleted, and what was rejected from quarantine, is removed for good with its bytes, unless it is under a legal hold; empty: never by itself",
    )

    htj2k_copies: Words = Field(
        default=(),
        description="modalities (such as MG DX) of whose images HTJ2K copies are made after they have come, for viewers that show them progressively; *: of all; empty: none",
    )
    htj2k_first: bool = Field(
        default=False,
        description="give frames that have an HTJ2K copy in that to viewers that name no transfer syntax; the stored one stays to be had by its name",
    )
    thumbnails: bool = Field(default=True, description="draw the thumbnails of each series and study when nothing more of it comes, so that they are there before anybody asks")
    thumbnail_quiet_seconds: float = Field(default=10.0, ge=0, le=86400, description="how long nothing must have come before thumbnails are drawn")

    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="json lines, or console for people; auto: console on a terminal"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit values, the environment, the file; there is no folder of secrets."""
        return init_settings, env_settings, dotenv_settings

    @property
    def folder(self) -> Path:
        """The data folder as an absolute path."""
        return self.data_dir.expanduser().resolve()

    @property
    def index_url(self) -> str:
        """Where the index is, the default filled in."""
        return self.database_url or f"sqlite:///{self.folder / 'index.sqlite'}"

    @property
    def blobs_url(self) -> str:
        """Where the objects are, the default filled in."""
        return self.store_url or f"file:{self.folder / 'objects'}"

    @property
    def unknown_callers_now(self) -> str:
        """What becomes of unknown callers, `auto` decided."""
        if self.unknown_callers != "auto":
            return self.unknown_callers
        return "accept" if self.trust_network or setting_values.is_loopback(self.dimse_host) else "ask"

    @property
    def unknown_caller_rights_now(self) -> tuple[str, ...]:
        """The names of their rights, `none` left out."""
        return () if self.unknown_caller_rights == ("none",) else self.unknown_caller_rights

    @property
    def tls_credentials(self) -> Credentials:
        """Who we are over TLS, and whom we trust."""
        return Credentials(self.dimse_tls_certificate, self.dimse_tls_key, self.dimse_tls_ca, self.dimse_tls_profile)

    @property
    def processes(self) -> int:
        """How many processes serve DIMSE, and how many HTTP: what storing and searching compute, they compute in Python."""
        return self.workers or min(_MOST_PROCESSES, os.cpu_count() or 1)


def load() -> Settings:
    """The settings of this process. Raises SettingsError with one line for everything that is wrong."""
    file = settings_file()
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    check_names(os.environ, "the environment", known)
    if file is not None:
        check_names(read(file), str(file), known, strict=True)
    try:
        return Settings(_env_file=file)  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError("; ".join(_problems(error))) from None


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        about = Settings.model_fields.get(field)
        shown = setting_values.masked(str(problem["input"]))
        reason = problem["msg"].removeprefix("Value error, ")
        meaning = f" ({about.description})" if about else ""
        yield f"{PREFIX}{field.upper()}={shown!r} cannot be used: {reason[:1].lower()}{reason[1:]}{meaning}"
