"""What a person sees: OHIF, served by a whole Lightbox, in headless Chromium with software WebGL."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pydicom
import pytest
from playwright.sync_api import Browser

from pacs.viewer import find
from tests.browser.conftest import absent
from tests.browser.ohif import Ohif, colourfulness, detail, difference, unlike
from tests.support.corpus import corpus_file
from tests.support.lightbox import Lightbox, running
from tests.support.made import instance
from tests.test_suv import PET, pet

# One worker runs all of these: one server and one Chromium are enough for two cores.
pytestmark = [pytest.mark.browser, pytest.mark.slow]

class Case(NamedTuple):
    """Something to open: a file or folder of the corpus, whether it is in colour, and whether it scrolls."""

    name: str
    where: str
    colour: bool = False
    scrolls: bool = False


CT = Case("ct", "series/ct-philips-phantom-54", scrolls=True)
MR = Case("mr", "series/mr-ge-signa-16", scrolls=True)
# Stored in colour, but with nothing coloured in the middle of the picture.
ULTRASOUND = Case("ultrasound", "ultrasound/examples_ybr_color.dcm", scrolls=True)
COMPRESSED = "transfer-syntaxes/one-ct-every-syntax/CTImage.dcm_"
CASES = [
    CT,
    MR,
    ULTRASOUND,
    Case("ct-jpeg-ls", f"{COMPRESSED}JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm"),
    Case("mr-jpeg-2000", "transfer-syntaxes/wg04/MR2_J2KR.dcm"),
    Case("ultrasound-rle-palette", "ultrasound/US-PAL-8-10x-echo", colour=True, scrolls=True),
    Case("ultrasound-big-endian", "ultrasound/US-RGB-8-epicard", colour=True),
    Case("ultrasound-raw-ybr-422", "ultrasound/US-YBR_FULL_422-EVRLE.dcm"),
]
PDF = "encapsulated-documents/pdf.dcm"
VIDEO = "video/h264_hp41_102_mp4.dcm"
PET_STUDY = "1.2.9"
UPLOADED = "transfer-syntaxes/wg04/RG3_J2KR.dcm"


def files_of(where: str) -> list[Path]:
    place = corpus_file(where)
    return sorted(place.iterdir()) if place.is_dir() else [place]


def study_of(where: str) -> str:
    return str(pydicom.dcmread(files_of(where)[0], specific_tags=["StudyInstanceUID"]).StudyInstanceUID)


@pytest.fixture(scope="module")
def lightbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lightbox]:
    """A server with all cases stored."""
    if find() is None:
        absent("NO VIEWER: OHIF is not fetched (make viewer): nothing is tested in a browser")
    with running(tmp_path_factory.mktemp("browser") / "data") as server:
        server.store(path for case in CASES for path in files_of(case.where))
        server.store([corpus_file(PDF), corpus_file(VIDEO)])
        server.store(positrons(tmp_path_factory.mktemp("pet")))
        yield server


@pytest.fixture
def ohif(chromium: Browser, lightbox: Lightbox, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ohif]:
    """A new person at a new tab; afterwards nothing may have gone wrong in the page unseen."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    tab = Ohif(context, lightbox.url)
    yield tab
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    tab.page.screenshot(path=folder / f"{request.node.name.replace('/', '-')}.png")
    context.close()
    assert tab.complaints.found == []


def test_the_list_shows_every_study(ohif: Ohif) -> None:
    ohif.open_list()
    assert ohif.listed() >= {study_of(case.where) for case in CASES}


def test_the_list_is_filtered_as_one_types(ohif: Ohif) -> None:
    ohif.open_list()
    everything = ohif.listed()
    name = str(pydicom.dcmread(files_of(CT.where)[0]).PatientName).lower()[1:4]
    ohif.filter_by_name(name)
    ohif.until(lambda: ohif.listed() < everything, "the list is not filtered")
    assert study_of(CT.where) in ohif.listed()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_picture_is_shown(ohif: Ohif, case: Case) -> None:
    ohif.open_study(study_of(case.where))
    picture = ohif.settled()
    assert detail(picture) > 2.0
    assert (colourfulness(picture) > 0.5) == case.colour, f"{colourfulness(picture):.2f} % of the picture is coloured"
    if case.scrolls:
        ohif.changes(lambda: ohif.scroll(3), "scrolling")


def test_a_video_is_shown(ohif: Ohif) -> None:
    ohif.open_study(study_of(VIDEO))
    assert colourfulness(ohif.settled()) > 50


def test_a_report_in_pdf_is_shown(ohif: Ohif) -> None:
    ohif.page.goto(f"{ohif.origin}/viewer?StudyInstanceUIDs={study_of(PDF)}")
    shown = ohif.page.locator("object[type='application/pdf']")
    shown.wait_for(state="attached")
    read = "part => fetch(part.data).then(answer => answer.arrayBuffer()).then(bytes => Array.from(new Uint8Array(bytes)))"
    stored = pydicom.dcmread(corpus_file(PDF)).EncapsulatedDocument
    assert bytes(shown.evaluate(read)).startswith(stored.rstrip(b"\0"))


def test_from_the_list_to_the_picture_by_clicks(ohif: Ohif) -> None:
    ohif.open_list()
    ohif.click_first_study_of(study_of(MR.where))
    assert study_of(MR.where) in ohif.page.url


def test_the_tools_do_what_they_say(ohif: Ohif) -> None:
    ohif.open_study(study_of(MR.where))
    ohif.changes(lambda: ohif.drag(150, 80), "window and level (left button)")
    ohif.changes(lambda: ohif.drag(0, 80, "right"), "zoom (right button)")
    upright = ohif.changes(lambda: ohif.drag(60, 50, "middle"), "pan (middle button)")
    for _ in range(4):
        turned = ohif.changes(ohif.rotate_right, "rotation")
    assert difference(upright, turned) < 1.0, "four quarter turns are not a whole one"


def test_a_length_is_measured_in_millimetres(ohif: Ohif) -> None:
    ohif.open_study(study_of(MR.where))
    text = ohif.measure_length()
    number, unit = text.split()
    assert unit == "mm"
    assert 1.0 < float(number) < 200.0


def test_window_presets_are_those_of_the_configuration(ohif: Ohif) -> None:
    ohif.open_study(study_of(CT.where))
    ohif.scroll(20)
    ohif.changes(lambda: ohif.choose_window_preset("Temporal bone"), "the preset Temporal bone")


def test_the_viewer_comes_up_on_every_warm_load(ohif: Ohif) -> None:
    """OHIF 3.12's prebuilt bundle goes blank on more than half of all warm loads unless it is told a file name."""
    for _ in range(6):
        ohif.open_study(study_of(MR.where))


def test_an_upload_is_stored(ohif: Ohif, lightbox: Lightbox) -> None:
    ohif.open_list()
    assert study_of(UPLOADED) not in ohif.listed()
    ohif.upload(corpus_file(UPLOADED))
    found = httpx.get(f"{lightbox.url}/dicom-web/studies", params={"StudyInstanceUID": study_of(UPLOADED)}).json()
    assert len(found) == 1
    ohif.open_study(study_of(UPLOADED))


def test_a_preset_of_the_site_is_in_the_viewer_and_is_the_same_picture_as_on_the_server(ohif: Ohif, lightbox: Lightbox, tmp_path: Path) -> None:
    """Added by a person on the page of administration, chosen by name in OHIF, asked for by name of the server."""
    page = ohif.page
    page.goto(f"{lightbox.url}/admin/presets")
    page.get_by_text("Add a preset").click()
    form = page.locator("form[data-url='/api/presets']")
    for label, value in (("Name", "Phantom inserts"), ("Modality", "CT"), ("Center", "900"), ("Width", "600")):
        form.get_by_label(label, exact=True).fill(value)
    form.locator("select[name=function]").select_option("LINEAR_EXACT")
    form.get_by_role("button", name="Add").click()
    page.get_by_role("row", name="Phantom inserts").get_by_role("link").click()
    page.get_by_label("Center", exact=True).fill("100")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("row", name="Phantom inserts").get_by_text("site").wait_for()
    page.screenshot(path=Path(os.environ.get("SCREENSHOTS") or tmp_path) / "presets.png", full_page=True)
    ohif.open_study(study_of(CT.where))
    ohif.scroll(20)
    before = ohif.settled()
    ohif.changes(lambda: ohif.choose_window_preset("Phantom inserts"), "the preset Phantom inserts")
    server = rendered(lightbox, CT, ohif.place, window="Phantom inserts")
    assert unlike(server, ohif.settled(), ohif.canvas_size) < 2.0
    assert unlike(server, before, ohif.canvas_size) > 2.0, "this test could not tell"


def test_a_users_preset_is_in_the_viewer_that_was_opened_for_the_user(ohif: Ohif, lightbox: Lightbox) -> None:
    """`?user=` once on any page; from then on this browser has it, on studies that are opened without."""
    preset = {"name": "Inserts of Anna", "modality": "CT", "center": 100, "width": 600}
    assert httpx.post(f"{lightbox.url}/api/presets", params={"user": "anna"}, json=preset).status_code == 200
    ohif.page.goto(f"{lightbox.url}/?user=anna")
    ohif.open_study(study_of(CT.where))
    ohif.scroll(20)
    ohif.changes(lambda: ohif.choose_window_preset("Inserts of Anna"), "the preset Inserts of Anna")
    server = rendered(lightbox, CT, ohif.place, window="Inserts of Anna", user="anna")
    assert unlike(server, ohif.settled(), ohif.canvas_size) < 2.0


def positrons(folder: Path) -> list[Path]:
    """A PET series in Bq/ml of 64 x 64: from 0 to 7.75 SUV from left to right, half of that in the lower half."""
    # Where the least and the most are whole numbers, OHIF keeps whole numbers of SUV alone; no scanner writes such an image.
    ramp = np.tile(np.linspace(0, 15500, 64), (64, 1))
    ramp[32:] /= 2
    for number in range(1, 4):
        geometry: dict[str, Any] = {"ImagePositionPatient": [0, 0, 4 * number], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [4, 4], "SliceThickness": 4}
        scaled: dict[str, Any] = {"PixelData": ramp.astype("<u2").tobytes(), "RescaleSlope": 0.5, "RescaleIntercept": 0, "FrameOfReferenceUID": "1.2.9.9"}
        image = pydicom.dcmread(io.BytesIO(instance(number, study=PET_STUDY, series=f"{PET_STUDY}.1", sop_class=PET, side=64, **geometry, **scaled)))
        image.update(pet())
        image.save_as(folder / f"{number}.dcm")
    return sorted(folder.iterdir())


def test_a_preset_in_suv_is_the_same_picture_as_on_the_server(ohif: Ohif, lightbox: Lightbox) -> None:
    ohif.open_study(PET_STUDY)
    before = ohif.settled()
    ohif.changes(lambda: ohif.choose_window_preset("SUV 0 to 10"), "the preset SUV 0 to 10")
    path = f"{lightbox.url}/dicom-web/studies/{PET_STUDY}/series/{PET_STUDY}.1/instances/{PET_STUDY}.1.2/rendered"
    server = httpx.get(path, params={"window": "SUV 0 to 10"}, headers={"Accept": "image/png"}).raise_for_status().content
    assert unlike(server, ohif.settled(), ohif.canvas_size) < 2.0
    assert unlike(server, before, ohif.canvas_size) > 2.0, "this test could not tell"


def rendered(lightbox: Lightbox, case: Case, place: int, **parameters: str) -> bytes:
    """The image of a case that OHIF has in a place, the last by its number first, as the server draws it."""
    images = sorted((pydicom.dcmread(path, stop_before_pixels=True) for path in files_of(case.where)), key=lambda one: -int(one.InstanceNumber))
    one = images[place - 1]
    path = f"studies/{one.StudyInstanceUID}/series/{one.SeriesInstanceUID}/instances/{one.SOPInstanceUID}/rendered"
    answer = httpx.get(f"{lightbox.url}/dicom-web/{path}", params=parameters, headers={"Accept": "image/png"})
    return answer.raise_for_status().content
