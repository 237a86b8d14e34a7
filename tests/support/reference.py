"""The parts of `deploy/reference.md` that are made from the program; `python -m tests.support.reference` writes them anew."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer.main

from pacs.cli import app
from pacs.settings import Settings
from pacs.settings_shown import rows
from tests.support.source import CHECKOUT

REFERENCE = CHECKOUT / "deploy" / "reference.md"


def settings_table() -> str:
    """Every setting with its default and meaning."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for row in rows(Settings.model_construct()):
        default = f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | {default} | {_cell(row.meaning)} |")
    return "\n".join(lines)


def commands_table() -> str:
    """Every command with its arguments and the first sentence of its help."""
    lines = ["| command | what it does |", "|---|---|"]
    for words, command in commands():
        usage = " ".join([*words, *_parameters(command)])
        lines.append(f"| `{_cell(usage)}` | {_cell(' '.join((command.help or '').split(chr(10) * 2)[0].split()))} |")
    return "\n".join(lines)


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that can be called, with the words that call it, in the order of the help."""
    yield from _below(("pacs",), typer.main.get_command(app))


# Typer carries a Click of its own, whose classes are private: commands and parameters are told apart by what they have.
def _below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, part in command.commands.items():
            if not part.hidden:
                yield from _below((*words, name), part)
    else:
        yield words, command


def _parameters(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = (parameter.metavar or parameter.name).upper() + ("..." if parameter.nargs == -1 else "")
            yield name if parameter.required else f"[{name}]"
        elif not parameter.hidden and parameter.name not in ("help", "install_completion", "show_completion"):
            value = "" if parameter.is_flag else f" {(parameter.metavar or parameter.name).upper()}"
            yield f"[{max(parameter.opts, key=len)}{value}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def parts() -> dict[str, str]:
    """The made parts by name."""
    return {"settings": settings_table(), "commands": commands_table()}


def written(text: str) -> str:
    """`text` with every made part between its marks written anew."""
    for name, part in parts().items():
        begin, end = f"<!-- {name}: made by python -m tests.support.reference -->", f"<!-- end of {name} -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n{part}\n{end}{tail}"
    return text


if __name__ == "__main__":
    REFERENCE.write_text(written(REFERENCE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{REFERENCE} is as the program is\n")
