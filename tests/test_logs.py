"""Logs: one line each, an action, and nothing that a patient or a hostile peer wrote in clear."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator

import orjson
import pytest
import structlog

from pacs import logs
from storage.errors import StoreFull

Lines = Callable[[], list[dict[str, object]]]
PLANTED = "DOE^JANE"


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Configure JSON logs into memory and read them back; everything as before afterwards."""
    root, shown = logging.getLogger(), warnings.showwarning
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure("web", format="json", level="debug", stream=stream)
    yield lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)
    warnings.showwarning = shown
    structlog.reset_defaults()


def test_one_shape(lines: Lines) -> None:
    structlog.get_logger("pacs.x").info("association.accepted", uid="1.2.3", count=2)
    logging.getLogger("dicomweb.x").error("it failed", extra={"action": "request.failed", "uid": "1.2"})
    first, second = lines()
    assert list(first)[:3] == ["time", "level", "action"]
    assert (first["action"], first["uid"], first["count"], first["process"]) == (
        "association.accepted",
        "1.2.3",
        2,
        "web",
    )
    assert (second["level"], second["action"], second["message"], second["uid"]) == (
        "error",
        "request.failed",
        "it failed",
        "1.2",
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Größe, 山田", "plain, Größe, 山田"),
        ("a\nlevel=error", "a\\nlevel=error"),
        ("\r\x1b[31mred", "\\r\\x1b[31mred"),
        ("c1\x9b31m", "c1\\x9b31m"),
        ("line\u2028break", "line\\u2028break"),
        ("right\u202eleft", "right\\u202eleft"),
        ("half \ud83d", "half \\ud83d"),
        ("x" * 3000, "x" * 2000 + "…"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert logs.escaped(text) == shown


def test_escaping_reaches_every_value(lines: Lines) -> None:
    structlog.get_logger("pacs.x").info("a\nb", text="c\nd", nested={"e\n": ["f\n", b"g\n"]})
    assert lines()[0]["nested"] == {"e\\n": ["f\\n", "b'g\\n'"]}
    assert all("\n" not in str(value) for value in lines()[0].values())


@pytest.mark.parametrize("logger", ["pydicom", "pynetdicom.events", "sqlalchemy.engine", "asyncio", "boto3"])
def test_words_of_libraries_are_withheld(logger: str, lines: Lines) -> None:
    logging.getLogger(logger).critical("Invalid value for PN: %s", PLANTED)
    assert PLANTED not in str(lines())
    assert lines()[0]["at"]


def test_access_log_is_silent(lines: Lines) -> None:
    logging.getLogger("uvicorn.access").critical("GET /dicom-web/studies?PatientName=%s", PLANTED)
    assert lines() == []


def test_warnings_lose_their_words(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._warned
        warnings.warn(f"Invalid value for VR PN: {PLANTED}", UserWarning, stacklevel=1)
    assert lines()[0]["category"] == "UserWarning"
    assert PLANTED not in str(lines())


def test_exceptions_lose_their_words_unless_they_are_ours(lines: Lines) -> None:
    try:
        try:
            raise ValueError(PLANTED)
        except ValueError as error:
            raise StoreFull("no room; free space") from error
    except StoreFull:
        structlog.get_logger("pacs.x").exception("store.failed")
    line = lines()[0]
    assert line["error"] == "StoreFull: no room; free space <- ValueError"
    assert "tests/test_logs.py" in str(line["trace"])
    assert PLANTED not in str(line)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (StoreFull("no room"), "StoreFull: no room"),
        (
            FileNotFoundError(2, "No such file or directory", PLANTED),
            "FileNotFoundError: No such file or directory",
        ),
        (KeyError(PLANTED), "KeyError"),
        (OSError(PLANTED), "OSError"),
    ],
)
def test_described(error: BaseException, text: str) -> None:
    assert logs.described(error) == text


@pytest.mark.usefixtures("lines")
def test_for_people() -> None:
    stream = io.StringIO()
    logs.configure("web", format="console", level="info", stream=stream)
    structlog.get_logger("pacs.x").info("server.ready", port=8080)
    structlog.get_logger("pacs.x").debug("not.shown")
    assert "server.ready" in stream.getvalue()
    assert "port=8080" in stream.getvalue()
    assert "not.shown" not in stream.getvalue()
