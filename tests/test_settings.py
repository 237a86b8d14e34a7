"""Settings: names, defaults and refusals by tables; secrets never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pacs import settings_file as module
from pacs.exposure import check_exposure
from pacs.serve.tls_port import check_hl7_tls, check_tls
from pacs.setting_values import is_loopback, masked
from pacs.settings import Settings, load
from pacs.settings_file import SettingsError
from pacs.settings_shown import environment, rows

# DESIGN 3: the contract with the outside.
CONTRACT = {
    "PACS_DATA_DIR": "pacs-data",
    "PACS_HTTP_HOST": "127.0.0.1",
    "PACS_HTTP_PORT": "8080",
    "PACS_DIMSE_HOST": "127.0.0.1",
    "PACS_DIMSE_PORT": "11112",
    "PACS_AE_TITLE": "LIGHTBOX",
    "PACS_DATABASE_URL": "",
    "PACS_STORE_URL": "",
    "PACS_S3_ENDPOINT_URL": "",
    "PACS_AUTH": "none",
    "PACS_OIDC_ISSUERS": "",
    "PACS_OIDC_AUDIENCE": "",
    "PACS_OIDC_CLIENT_ID": "",
    "PACS_OIDC_ROLE_CLAIM": "roles",
    "PACS_WORKERS": "",
}

# (name, value) -> what the one line must say
WRONG = [
    ("PACS_HTP_PORT", "1", "did you mean PACS_HTTP_PORT?"),
    ("PACS_AETITLE", "X", "did you mean PACS_AE_TITLE?"),
    ("pacs_http_port", "1", "did you mean PACS_HTTP_PORT?"),
    ("PACS_QUITE_ELSE", "1", "`pacs settings` lists all there are"),
    ("PACS_HTTP_PORT", "eighty", "PACS_HTTP_PORT='eighty' cannot be used"),
    ("PACS_HTTP_PORT", "70000", "65535"),
    ("PACS_AE_TITLE", "SEVENTEEN LETTERS", "1 to 16"),
    ("PACS_AE_TITLE", "BACK\\SLASH", "no backslash"),
    ("PACS_AE_TITLE", "ÄTITEL", "ASCII"),
    ("PACS_DATABASE_URL", "mysql://u:secret@h/d", "postgresql+psycopg://"),
    ("PACS_STORE_URL", "/srv/objects", "file:PATH"),
    ("PACS_AUTH", "basic", "'none' or 'oidc'"),
    ("PACS_DUPLICATES", "drop", "'keep' or 'replace'"),
    ("PACS_WORKERS", "0", "greater than or equal to 1"),
    ("PACS_TRUSTED_PROXIES", "10.0.0.0/33", "PACS_TRUSTED_PROXIES"),
    ("PACS_CORS_ORIGINS", "viewer.example", "is not an origin; write https://HOST"),
    ("PACS_CORS_ORIGINS", "https://viewer.example/ohif", "without a path"),
    ("PACS_CORS_ORIGINS", "null", "is not an origin"),
    ("PACS_CORS_ORIGINS", "https://me@viewer.example", "is not an origin"),
    ("PACS_CORS_ORIGINS", "https://viewer.example:port", "PACS_CORS_ORIGINS"),
    ("PACS_MAX_OBJECT_BYTES", "many", "PACS_MAX_OBJECT_BYTES"),
    ("PACS_SETTINGS_FILE", "nowhere.env", "there is no such file"),
]

# What a container platform adds for a service that is called pacs or pacs-web; none of it is a typo.
SERVICE_LINKS = {
    "PACS_SERVICE_HOST": "10.0.0.1",
    "PACS_SERVICE_PORT": "8080",
    "PACS_SERVICE_PORT_HTTP": "8080",
    "PACS_PORT": "tcp://10.0.0.1:8080",
    "PACS_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "PACS_PORT_8080_TCP_ADDR": "10.0.0.1",
    "PACS_WEB_PORT": "tcp://10.0.0.1:8080",
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("PACS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("name", "default"), CONTRACT.items())
def test_contract_names_and_defaults(name: str, default: str) -> None:
    row = next(row for row in rows(load()) if row.name == name)
    assert (row.default, row.value, row.origin) == (default, default, "default")


def test_defaults_lie_in_the_data_folder(tmp_path: Path) -> None:
    settings = load()
    assert settings.folder == tmp_path / "pacs-data"
    assert settings.index_url == f"sqlite:///{tmp_path}/pacs-data/index.sqlite"
    assert settings.blobs_url == f"file:{tmp_path}/pacs-data/objects"


def test_every_setting_has_a_meaning() -> None:
    assert [row.name for row in rows(load()) if len(row.meaning) < 10] == []


@pytest.mark.parametrize(("name", "value", "says"), WRONG)
def test_wrong_settings_say_so_in_one_line(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_all_wrong_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_HTTP_PORT", "x")
    monkeypatch.setenv("PACS_WORKERS", "y")
    with pytest.raises(SettingsError, match=r"PACS_HTTP_PORT.*PACS_WORKERS"):
        load()


@pytest.mark.parametrize(("name", "value"), SERVICE_LINKS.items())
def test_service_links_are_not_typos(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert load() == Settings()


def test_a_port_of_ours_is_not_a_service_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_WEB_PORT", "8080")
    with pytest.raises(SettingsError, match="PACS_WEB_PORT"):
        load()


def test_file_gives_way_to_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lightbox.env").write_text(
        "# ours\nPACS_AE_TITLE=FROMFILE\nPACS_HTTP_PORT=1234\nPACS_WORKERS=\n"
    )
    monkeypatch.setenv("PACS_HTTP_PORT", "4321")
    settings = load()
    assert (settings.ae_title, settings.http_port, settings.workers) == ("FROMFILE", 4321, None)
    origins = {row.name: row.origin for row in rows(settings)}
    assert origins["PACS_AE_TITLE"] == "file"
    assert origins["PACS_HTTP_PORT"] == "environment"
    assert origins["PACS_WORKERS"] == "default"


def test_another_file_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lightbox.env").write_text("PACS_AE_TITLE=DEFAULT\n")
    (tmp_path / "other.env").write_text("PACS_AE_TITLE=OTHER\n")
    monkeypatch.setenv("PACS_SETTINGS_FILE", str(tmp_path / "other.env"))
    assert load().ae_title == "OTHER"


@pytest.mark.parametrize("line", ["PACS_AETITLE=X", "AE_TITLE=X"])
def test_unknown_names_in_the_file(line: str, tmp_path: Path) -> None:
    (tmp_path / "lightbox.env").write_text(line + "\n")
    with pytest.raises(SettingsError, match=r"lightbox\.env is not a setting"):
        load()


def test_sizes_can_be_written_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_MAX_OBJECT_BYTES", "2GiB")
    assert load().max_object_bytes == 2 << 30


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://u:pw@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql+psycopg://u:p@w/x:y@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql+psycopg://u@h/d?password=pw", "postgresql+psycopg://u@h/d?password=***"),
        ("postgresql+psycopg://h:5432/d", "postgresql+psycopg://h:5432/d"),
        ("https://key:pw@s3.test:9000", "https://key:***@s3.test:9000"),
        ("sqlite:////srv/a.sqlite", "sqlite:////srv/a.sqlite"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_no_row_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_DATABASE_URL", "postgresql+psycopg://lightbox:planted@db/lightbox")
    monkeypatch.setenv("PACS_S3_ENDPOINT_URL", "https://me:planted@s3.test")
    assert "planted" not in repr(list(rows(load())))


def test_a_child_gets_exactly_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_HTTP_PORT", "0")
    monkeypatch.setenv("PACS_TRUSTED_PROXIES", "10.0.0.0/8, 192.168.1.1")
    monkeypatch.setenv("PACS_TRUST_NETWORK", "yes")
    settings = load()
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "lightbox.env").write_text("PACS_AE_TITLE=CHANGED\n")
    again = load()
    assert again.model_dump(exclude={"data_dir"}) == settings.model_dump(exclude={"data_dir"})
    assert again.folder == settings.folder


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("pacs.example", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("values", "only", "says"),
    [
        ({}, {}, None),
        ({"http_host": "0.0.0.0"}, {}, "PACS_HTTP_HOST=0.0.0.0"),
        ({"dimse_host": "::"}, {}, "PACS_DIMSE_HOST=::"),
        # Whoever has a certificate that is trusted has authenticated itself; nobody else is let in.
        ({"dimse_host": "::", "dimse_plain": False, "dimse_tls_port": 0}, {}, None),
        ({"dimse_host": "::", "dimse_tls_port": 0}, {}, "PACS_DIMSE_HOST=::"),
        (
            {"dimse_host": "::", "dimse_plain": False, "dimse_tls_port": 0, "dimse_tls_client_certificate": "optional"},
            {},
            "PACS_DIMSE_HOST=::",
        ),
        ({"hl7_host": "0.0.0.0"}, {}, None),
        ({"hl7_host": "0.0.0.0", "hl7_port": 2575}, {}, "PACS_HL7_HOST=0.0.0.0"),
        ({"hl7_host": "0.0.0.0", "hl7_tls_port": 2576}, {}, None),
        ({"hl7_host": "0.0.0.0", "hl7_tls_port": 2576, "hl7_tls_client_certificate": "optional"}, {}, "PACS_HL7_HOST=0.0.0.0"),
        ({"hl7_host": "0.0.0.0", "hl7_port": 2575}, {"hl7": False}, None),
        ({"http_host": "0.0.0.0", "trust_network": True}, {}, None),
        ({"http_host": "0.0.0.0"}, {"web": False}, None),
        ({"auth": "oidc"}, {}, "not built yet"),
        ({"cors_origins": "*"}, {}, "name the origins that may"),
        ({"cors_origins": "*"}, {"web": False}, None),
        ({"auth": "oidc", "http_host": "0.0.0.0", "trust_network": True}, {}, "not built yet"),
    ],
)
def test_safe_by_default(values: dict[str, object], only: dict[str, bool], says: str | None) -> None:
    settings = Settings(**values)  # type: ignore[arg-type]
    if says is None:
        check_exposure(settings, **only)
        return
    with pytest.raises(SettingsError) as caught:
        check_exposure(settings, **only)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://Viewer.Example/, http://localhost:3000", ("https://viewer.example", "http://localhost:3000")),
        ("https://viewer.example:443,http://a.test:80", ("https://viewer.example", "http://a.test")),
        ("http://a.test:443", ("http://a.test:443",)),
        ("http://[::1]:3000", ("http://[::1]:3000",)),
    ],
)
def test_origins_are_as_browsers_write_them(written: str, meant: tuple[str, ...]) -> None:
    """RFC 6454 6.2."""
    assert Settings(cors_origins=written).cors_origins == meant  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"dimse_plain": False}, "leaves no port for DICOM: set PACS_DIMSE_TLS_PORT"),
        ({"dimse_tls_port": 0}, "set PACS_DIMSE_TLS_CERTIFICATE"),
        ({"dimse_tls_port": 0, "dimse_tls_certificate": Path("none.crt")}, "set PACS_DIMSE_TLS_CA"),
        (
            {"dimse_tls_port": 0, "dimse_tls_certificate": Path("none.crt"), "dimse_tls_ca": Path("none.crt")},
            "none.crt cannot be read",
        ),
    ],
)
def test_tls_that_cannot_work(values: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_tls(Settings(**values))  # type: ignore[arg-type]
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"hl7_tls_port": 0}, "PACS_HL7_TLS_PORT needs a certificate: set PACS_DIMSE_TLS_CERTIFICATE"),
        ({"hl7_tls_port": 0, "dimse_tls_certificate": Path("none.crt")}, "PACS_HL7_TLS_CLIENT_CERTIFICATE=optional"),
        ({"hl7_port": 0, "hl7_sender_certificates": "a" * 64}, "leave PACS_HL7_PORT empty"),
    ],
)
def test_mllp_in_tls_that_cannot_work(values: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_hl7_tls(Settings(**values))  # type: ignore[arg-type]
    assert says in str(caught.value)


@pytest.mark.parametrize(("given", "kept"), [("all", ("all",)), ("none", ()), ("echo, store", ("echo", "store"))])
def test_rights_of_unknown_callers(given: str, kept: tuple[str, ...]) -> None:
    chosen = Settings(unknown_caller_rights=given)  # type: ignore[arg-type]
    assert chosen.unknown_caller_rights_now == kept
    # As a process is told: an empty value would mean the default, which is everything.
    assert environment(chosen)["PACS_UNKNOWN_CALLER_RIGHTS"] == given.replace(" ", "")


def test_rights_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="no right 'delete'"):
        Settings(unknown_caller_rights="echo,delete")  # type: ignore[arg-type]


def test_fingerprints_are_taken_as_tools_print_them() -> None:
    printed = "sha256 Fingerprint=" + ":".join(["AB"] * 32)
    assert Settings(hl7_sender_certificates=printed).hl7_sender_certificates == ("ab" * 32,)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="SHA-256 fingerprint"):
        Settings(hl7_sender_certificates="CT1")  # type: ignore[arg-type]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().http_port = 1


def test_module_names_the_default_file() -> None:
    assert module.DEFAULT_FILE in (module.__doc__ or "")
