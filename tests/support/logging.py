"""Each test has the logs of a process that has configured none, whatever the tests before it have done."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Undo `pacs.logs.configure`, which a command run in this process calls: its stream is closed when the test is over."""
    root = logging.getLogger()
    level = root.level
    yield
    if not structlog.is_configured():
        return
    structlog.reset_defaults()
    root.setLevel(level)
    root.handlers[:] = [one for one in root.handlers if not isinstance(one.formatter, structlog.stdlib.ProcessorFormatter)]
    # Loggers of modules remember how they were made at their first use.
    for module in list(sys.modules.values()):
        getattr(getattr(module, "_log", None), "__dict__", {}).pop("bind", None)
