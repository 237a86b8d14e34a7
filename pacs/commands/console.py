"""What commands share of the terminal: settings loaded and logs quiet, progress on standard error, JSON on standard output."""

from __future__ import annotations

import getpass
import os
import sys
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pacs import logs
from pacs import settings as settings_module
from pacs.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value, for scripts.")]


def begin() -> Settings:
    """The settings of a command, its logs no chattier than warnings: what it has to say it prints."""
    settings = settings_module.load()
    level = (
        "error" if settings.log_level == "error" else "debug" if settings.log_level == "debug" else "warning"
    )
    logs.configure("command", format=settings.log_format, level=level)
    return settings


def say(text: str) -> None:
    """A line for people, on standard output."""
    sys.stdout.write(f"{text}\n")


def secret_line(prompt: str) -> str:
    """A line that is secret: asked for without showing it, or the first of standard input where that is no terminal."""
    return getpass.getpass(f"{prompt}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")


def print_json(value: object) -> None:
    """A value for scripts, on standard output."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.flush()


def user() -> str:
    """Who runs the command, for what is recorded of it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container there may be a number without a name.
        return f"user {os.getuid()}"


def progress() -> Progress:
    """A progress bar on standard error, or nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
