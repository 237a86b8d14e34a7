"""`pacs worklist`: what is scheduled, as modalities see it."""

from __future__ import annotations

from typing import Annotated

import typer

from pacs.commands.console import AsJson, begin, print_json, say
from pacs.logs import escaped
from storage.errors import BadRequest

app = typer.Typer(
    help="The modality worklist: list, add, remove.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_(
    filters: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEYWORD=VALUE", help="What entries must match, as C-FIND does: Modality=CT, PatientName=DOE*."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those too that have ended or departed.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the entries of the modality worklist that are still to be done, by when they begin."""
    from pacs import compose
    from storage.worklist import Search, Worklist
    from storage.worklist_entries import StepState, conditions_by_keyword, fields_of

    search = Search(conditions_by_keyword(_pairs(filters or [])), frozenset(StepState) if everything else None)
    with compose.opened(begin(), migrate=True) as found:
        entries = list(Worklist(found.archive.index).find(search))
    if as_json:
        print_json([{"number": entry.number, **fields_of(entry.dataset)} for entry in entries])
        return
    for entry in entries:
        date, time = entry.value("ScheduledProcedureStepStartDate"), entry.value("ScheduledProcedureStepStartTime")
        station = entry.value("ScheduledStationAETitle") or "any station"
        who = f"{entry.value('PatientID')}  {entry.value('PatientName')}"
        what = entry.value("ScheduledProcedureStepDescription") or entry.value("RequestedProcedureDescription")
        line = f"{entry.number:6}  {date} {time[:4]}  {entry.state:12}  {entry.value('Modality'):4}  {station:16}  {who}  {what}"
        say(escaped(line).rstrip())
    if not entries:
        say("Nothing is scheduled: pacs worklist add PATIENT_ID PATIENT_NAME MODALITY")


@app.command()
def add(
    patient_id: Annotated[str, typer.Argument(help="Patient ID.")],
    patient_name: Annotated[str, typer.Argument(help="The patient's name as FAMILY^GIVEN.")],
    modality: Annotated[str, typer.Argument(help="Modality, CT or MR say.")],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEYWORD=VALUE", help="Further attributes: ScheduledStationAETitle=CT1, AccessionNumber=A1."),
    ] = None,
) -> None:
    """Add an entry to the modality worklist; what is not given of ids, date and time is made."""
    from pacs import compose
    from storage.worklist import Worklist

    fields = {"PatientID": patient_id, "PatientName": patient_name, "Modality": modality, **_pairs(more or [])}
    with compose.opened(begin(), migrate=True) as found:
        entry = Worklist(found.archive.index).create(fields)
    say(f"{entry.number} is added; its study is {entry.value('StudyInstanceUID')}")


@app.command()
def remove(numbers: Annotated[list[int], typer.Argument(metavar="NUMBER", help="Numbers of entries, as pacs worklist list shows them.")]) -> None:
    """Remove entries of the modality worklist, as if they had never been there."""
    from pacs import compose
    from storage.worklist import Worklist

    with compose.opened(begin(), migrate=True) as found:
        worklist = Worklist(found.archive.index)
        for number in numbers:
            worklist.remove(number)
            say(f"{number} is removed")


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    wrong = next((keyword for keyword, sign, _ in pairs if not sign), None)
    if wrong is not None:
        raise BadRequest(f"{wrong!r} is not KEYWORD=VALUE; write Modality=CT, say")
    return {keyword: value for keyword, _, value in pairs}
