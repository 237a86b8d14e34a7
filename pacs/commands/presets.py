"""`pacs presets`: the window/level presets of the site and of users."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacs.commands.console import AsJson, begin, print_json, say
from pacs.logs import escaped
from storage.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from storage.index import Index
    from storage.presets import Preset

app = typer.Typer(
    help="Window/level presets of pictures, thumbnails and the viewer: list, add, change, hide, remove, export, import.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the preset; pacs presets list shows it.")]
User = Annotated[str, typer.Option("--user", help="A user's own presets, by the key that is given as user in addresses of pictures.")]
Function = Annotated[str | None, typer.Option(help="LINEAR, LINEAR_EXACT or SIGMOID.")]
BodyPart = Annotated[str | None, typer.Option(help="Body Part Examined, such as CHEST.")]
Default = Annotated[
    bool | None, typer.Option("--default/--no-default", help="For images of this modality and body part that bring no window.")
]
Units = Annotated[str | None, typer.Option(help="SUV, for PET; PERCENT, percentiles of each frame's values; else those of the images.")]


@app.command("list")
def list_(user: User = "", as_json: AsJson = False) -> None:
    """List the presets that hold, for the site or for a user."""
    from pacs import compose
    from storage.index.presets import holding

    with compose.opened(begin(), migrate=True) as found:
        known = holding(found.archive.index, user).all
    if as_json:
        print_json([asdict(one) for one in known])
        return
    for one in known:
        extra = [one.body_part, one.units, "" if one.function == "LINEAR" else one.function, "default" if one.default else ""]
        said = ", ".join([*filter(None, extra), "hidden" if one.hidden else str(one.origin)])
        say(escaped(f"{one.id:24} {one.modality:4} {one.name:24} {one.center:g} / {one.width:g}  {said}"))


@app.command()
def add(
    modality: Annotated[str, typer.Argument(help="Modality, such as CT.")],
    name: Annotated[str, typer.Argument(help="Name, as people see it.")],
    center: Annotated[float, typer.Argument(help="Center, after -- where it is negative.")],
    width: Annotated[float, typer.Argument(help="Width.")],
    id_: Annotated[str, typer.Option("--id", help="Id; made of modality and name where it is not given.")] = "",
    function: Function = None,
    body_part: BodyPart = None,
    default: Default = None,
    units: Units = None,
    user: User = "",
) -> None:
    """Add a preset: pacs presets add CT "Lung nodules" -- -500 1400."""
    from storage.presets import Preset, id_of

    made = _changed(Preset(id_ or id_of(name, modality), name, modality, center, width), function, body_part, default, units)
    _put([made], user, new=True)
    say(escaped(f"{made.id} is added; it is there within a second"))


@app.command()
def change(
    id_: Id,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    center: Annotated[float | None, typer.Option(help="Another center.")] = None,
    width: Annotated[float | None, typer.Option(help="Another width.")] = None,
    function: Function = None,
    body_part: BodyPart = None,
    default: Default = None,
    units: Units = None,
    user: User = "",
) -> None:
    """Change a preset, one that comes with the archive too. What is not said stays as it is."""
    from pacs import compose

    with compose.opened(begin(), migrate=True) as found:
        known = _known(found.archive.index, id_, user)
    said: dict[str, Any] = {"name": name, "center": center, "width": width}
    known = replace(known, **{key: value for key, value in said.items() if value is not None}, hidden=False)
    _put([_changed(known, function, body_part, default, units)], user)
    say(escaped(f"{id_} is changed, everywhere within a second"))


@app.command()
def hide(id_: Id, user: User = "") -> None:
    """Hide a preset that comes with the archive; pacs presets remove brings it back."""
    from pacs import compose

    with compose.opened(begin(), migrate=True) as found:
        known = _known(found.archive.index, id_, user)
    _put([replace(known, hidden=True, default=False)], user)
    say(escaped(f"{id_} is hidden"))


@app.command()
def remove(id_: Id, user: User = "") -> None:
    """Remove a preset; one that comes with the archive and was changed or hidden is as it came."""
    from pacs import compose
    from storage.index.presets import remove_preset

    with compose.opened(begin(), migrate=True) as found:
        remove_preset(found.archive.index, id_, user)
    say(escaped(f"{id_} is removed, or as it came with the archive"))


@app.command()
def export(user: User = "", everything: Annotated[bool, typer.Option("--all", help="Also those that come with the archive.")] = False) -> None:
    """Print the presets of the site, or of a user, in the form that import reads."""
    from pacs import compose
    from storage.index.presets import holding, own
    from storage.presets import written

    with compose.opened(begin(), migrate=True) as found:
        index = found.archive.index
        known = holding(index, user).all if everything else own(index, user)
    sys.stdout.write(written(known).decode())


@app.command("import")
def import_(file: Annotated[Path, typer.Argument(help="A file as pacs presets export prints it, or - for standard input.")], user: User = "") -> None:
    """Add the presets of a file, or replace those of the same ids: all of them or none."""
    from storage.presets import Origin, read

    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise BadRequest(f"{file} cannot be read: {error.strerror}") from error
    presets = read(content, Origin.SITE)
    _put(presets, user)
    say(f"{len(presets)} presets are there within a second")


def _changed(preset: Preset, function: str | None, body_part: str | None, default: bool | None, units: str | None) -> Preset:
    from storage.presets import LINEAR, LINEAR_EXACT

    said: dict[str, Any] = {"function": function, "body_part": body_part, "default": default, "units": units}
    preset = replace(preset, **{key: value for key, value in said.items() if value is not None})
    # The only straight line that a window in SUV or PERCENT can have.
    return replace(preset, function=LINEAR_EXACT) if preset.units and preset.function == LINEAR and function is None else preset


def _put(presets: Iterable[Preset], user: str, *, new: bool = False) -> None:
    from pacs import compose
    from storage.index.presets import put_presets

    with compose.opened(begin(), migrate=True) as found:
        put_presets(found.archive.index, presets, user, new=new)


def _known(index: Index, id_: str, user: str) -> Preset:
    from storage.index.presets import holding

    known = next((one for one in holding(index, user).all if one.id == id_), None)
    if known is None:
        raise NotFound(f"there is no preset {id_}; pacs presets list shows those there are")
    return known
