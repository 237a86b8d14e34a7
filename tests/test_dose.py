"""Dose grids over the images of their frame of reference, and by themselves: where the dose is, and how much."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from starlette.testclient import TestClient

from dicomweb.rendering.dose import COVER, DoseGrid, colours_of, dose_grid, sampled, washed, with_legend
from dicomweb.rendering.planes import plane_of
from dicomweb.settings import WebSettings
from storage.archive import Archive
from tests.support import made, web
from tests.support.corpus import corpus_file, corpus_files
from tests.support.states import item

RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
DOSE = "studies/1.2.3/series/1.2.3.9/instances/1.2.3.9.1"
AXIAL, TURNED = [1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, 1, 0]

Pixels = np.ndarray[Any, Any]


def dose(grays: Pixels, *, study: str = "1.2.3", scaling: float = 0.001, bits: int = 32, **attributes: Any) -> bytes:
    """A dose grid of (frames, rows, columns) in Gy: pixels of 4 mm, planes of 3 mm, from the point 10, 20, 0 on."""
    frames, rows, columns = grays.shape
    known: dict[str, Any] = {
        "Modality": "RTDOSE", "Rows": rows, "Columns": columns, "NumberOfFrames": frames, "BitsAllocated": bits, "BitsStored": bits,
        "HighBit": bits - 1, "DoseUnits": "GY", "DoseType": "PHYSICAL", "DoseSummationType": "PLAN", "DoseGridScaling": scaling,
        "GridFrameOffsetVector": [3.0 * frame for frame in range(frames)], "FrameOfReferenceUID": "1.9", "ImagePositionPatient": [10, 20, 0],
        "ImageOrientationPatient": AXIAL, "PixelSpacing": [4, 4],
    }  # fmt: skip
    whole = dcmread(io.BytesIO(made.instance(study=study, series="1.2.3.9", sop_class=RT_DOSE, pixels=False)))
    whole.SamplesPerPixel, whole.PhotometricInterpretation, whole.PixelRepresentation = 1, "MONOCHROME2", 0
    for keyword, value in {**known, **attributes}.items():
        setattr(whole, keyword, value)
    whole.PixelData = np.rint(grays / scaling).astype(f"<u{bits // 8}").tobytes()
    whole["PixelData"].VR = "OW"
    return made.written(whole, ExplicitVRLittleEndian)


def ct(number: int = 1, z: float = 0, side: int = 16, **attributes: Any) -> bytes:
    """So many by so many pixels of 2 mm from the same point on, black in its window."""
    known = {"ImagePositionPatient": [10, 20, z], "ImageOrientationPatient": AXIAL, "PixelSpacing": [2, 2], "FrameOfReferenceUID": "1.9"}
    return made.instance(number, side=side, WindowCenter=2000, WindowWidth=100, **{**known, **attributes})


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def store(client: TestClient, *instances: bytes) -> None:
    answer = web.stow(client, instances)
    assert answer.status_code == 200, answer.text


def get(client: TestClient, path: str = f"{DOSE}/rendered", **parameters: str) -> httpx2.Response:
    return client.get(path, params=parameters, headers={"Accept": "image/png"})


def pixels(answer: httpx2.Response) -> Pixels:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def spots(*places: tuple[int, int, int, float]) -> Pixels:
    """A grid of 4 frames of 8 x 8, with so many Gy at frame, row and column, from 0."""
    grays = np.zeros((4, 8, 8))
    for frame, row, column, amount in places:
        grays[frame, row, column] = amount
    return grays


def test_the_dose_is_where_the_patient_has_it(client: TestClient) -> None:
    """Pixel 2, 5 of 4 mm is pixel 4, 10 of 2 mm; the highest dose is red, half of it on the next pixels."""
    store(client, ct(1, 0), ct(2, 3), ct(3, 6), dose(spots((1, 2, 5, 60.0))))
    shown = pixels(get(client))
    assert shown.shape == (16, 16, 3)
    full = np.rint(np.array([255, 0, 0]) * COVER)
    assert shown[4, 10].tolist() == full.tolist()
    half = np.rint(colours_of(np.array(0.5)) * COVER)
    for row, column in ((3, 10), (5, 10), (4, 9), (4, 11)):
        assert shown[row, column].tolist() == half.tolist()
    assert not shown[np.ix_([0, 1, 2, 6, 7, 8], range(16))].any()


@pytest.mark.parametrize(("frame", "z", "part"), [(2, 3, 1.0), (2, 4, 2 / 3), (1, 1.2, 0.4), (3, 6, 0.0)])
def test_between_planes_it_is_interpolated(client: TestClient, frame: int, z: float, part: float) -> None:
    """Of 60 Gy in frame 2 at 3 mm alone; the image lies at z."""
    store(client, ct(1, z), dose(spots((1, 2, 5, 60.0))))
    expected = np.rint(colours_of(np.array(part)) * COVER) if part else np.zeros(3)
    assert pixels(get(client, f"{DOSE}/frames/{frame}/rendered"))[4, 10].tolist() == pytest.approx(expected.tolist(), abs=1)


def test_the_window_is_that_of_the_image_below(client: TestClient) -> None:
    store(client, ct(), dose(spots((0, 0, 0, 60.0))))
    assert (pixels(get(client, window="50,100"))[10:] == 255).all()
    assert not pixels(get(client))[10:].any()


def test_a_frame_with_no_image_near_is_on_black(client: TestClient) -> None:
    store(client, ct(1, 0), dose(spots((0, 0, 0, 60.0), (3, 2, 5, 60.0))))
    shown = pixels(get(client, f"{DOSE}/frames/4/rendered"))
    assert shown.shape == (8, 8, 3)
    assert np.argwhere(shown.any(axis=-1)).tolist() == [[2, 5]]


OTHERS = (
    {"FrameOfReferenceUID": "1.8"},
    {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
    {"Modality": "SEG"},
)  # fmt: skip


@pytest.mark.parametrize("attributes", OTHERS)
def test_what_is_elsewhere_or_turned_is_not_below(client: TestClient, attributes: dict[str, Any]) -> None:
    store(client, ct(**attributes), dose(spots((1, 2, 5, 60.0))))
    shown = pixels(get(client))
    assert shown.shape[:2] == (8, 8)


def test_ct_is_below_before_mr(client: TestClient) -> None:
    mr = made.instance(1, series="1.2.3.5", side=12, Modality="MR", ImagePositionPatient=[10, 20, 0], ImageOrientationPatient=AXIAL, PixelSpacing=[2, 2], FrameOfReferenceUID="1.9")
    store(client, mr, made.instance(2, series="1.2.3.5", side=12), ct(), dose(spots((0, 2, 5, 60.0))))
    assert pixels(get(client)).shape == (16, 16, 3)


PLAN, STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.5", "1.2.840.10008.5.1.4.1.1.481.3"
ELSEWHERE: dict[str, Any] = {"study": "1.2.7", "series": "1.2.7.4"}


def naming(uid: str, sop_class: str) -> list[Dataset]:
    return [item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid)]


def structures(study: str, series: str, uid: str = "1.2.5.1") -> bytes:
    """A structure set, itself in a third study, that was drawn on the images of a series."""
    drawn = item(ReferencedSOPInstanceUID=study, RTReferencedSeriesSequence=[item(SeriesInstanceUID=series)])
    frames = [item(FrameOfReferenceUID="1.9", RTReferencedStudySequence=[drawn])]
    return made.instance(study="1.2.5", series=uid.rpartition(".")[0], sop_class=STRUCTURES, pixels=False, Modality="RTSTRUCT", ReferencedFrameOfReferenceSequence=frames)


def treatment(uid: str = "1.2.6.1") -> bytes:
    of = naming("1.2.5.1", STRUCTURES)
    return made.instance(study="1.2.6", series=uid.rpartition(".")[0], sop_class=PLAN, pixels=False, Modality="RTPLAN", ReferencedStructureSetSequence=of)


def larger(**attributes: Any) -> bytes:
    """A CT of 32 x 32 pixels of another study, whose picture is told by its size."""
    return ct(**{"side": 32, **ELSEWHERE, **attributes})


HOT = spots((0, 2, 5, 60.0))
BY_PLAN: dict[str, Any] = {"ReferencedRTPlanSequence": naming("1.2.6.1", PLAN)}
BY_STRUCTURES: dict[str, Any] = {"ReferencedStructureSetSequence": naming("1.2.5.1", STRUCTURES)}

# What is stored beside a CT of 16 x 16 of another patient's study, the dose, and how large the picture is.
PLANNED_ON: dict[str, tuple[list[bytes], dict[str, Any], int]] = {
    "of the plan": ([treatment(), structures("1.2.7", "1.2.7.4"), larger(PatientID="P2")], BY_PLAN, 32),
    "of the structure set that the dose names": ([structures("1.2.7", "1.2.7.4"), larger(PatientID="P2")], BY_STRUCTURES, 32),
    "before that of the study": ([ct(), treatment(), structures("1.2.7", "1.2.7.4"), larger()], BY_PLAN, 32),
    "not in another frame of reference": ([treatment(), structures("1.2.7", "1.2.7.4"), larger(PatientID="P2", FrameOfReferenceUID="1.8")], BY_PLAN, 8),
    "of the study where the plan is not stored": ([ct(), larger()], BY_PLAN, 16),
    "of the study where the planning images are not": ([ct(), treatment(), structures("1.2.7", "1.2.7.4")], BY_PLAN, 16),
    "of another study of the patient": ([larger()], {}, 32),
    "not of a study of the patient in another frame": ([larger(FrameOfReferenceUID="1.8")], {}, 8),
    "not of another patient": ([larger(PatientID="P2")], {}, 8),
    "not of who has the same ID from somebody else": ([larger(IssuerOfPatientID="B")], {"IssuerOfPatientID": "A"}, 8),
    "of who has the same ID, as far as anybody says": ([larger(IssuerOfPatientID="B")], {}, 32),
    "not of a patient by a wildcard": ([larger()], {"PatientID": "P*"}, 8),
    "a plan that names itself ends": ([made.instance(study="1.2.6", series="1.2.6", sop_class=PLAN, pixels=False, ReferencedStructureSetSequence=naming("1.2.6.1", PLAN)), ct()], BY_PLAN, 16),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANNED_ON)
def test_the_images_below_are_those_that_were_planned_on(client: TestClient, name: str) -> None:
    stored, attributes, side = PLANNED_ON[name]
    store(client, *stored, dose(HOT, **attributes))
    assert pixels(get(client, f"{DOSE}/frames/1/rendered")).shape[0] == side


def test_images_of_another_study_that_come_later_or_go_change_the_picture(client: TestClient) -> None:
    store(client, dose(HOT, **BY_PLAN), treatment(), structures("1.2.7", "1.2.7.4"))
    before = get(client)
    store(client, larger())
    after = get(client)
    assert (before.headers["etag"] != after.headers["etag"], pixels(after).shape[0]) == (True, 32)
    assert client.delete("studies/1.2.7").status_code in (200, 202, 204)
    assert pixels(get(client)).shape[0] == 8


@pytest.mark.parametrize("bits", [16, 32])
def test_alone_it_is_grey_in_a_window_of_grays(client: TestClient, bits: int) -> None:
    store(client, dose(spots((1, 2, 5, 60.0), (1, 0, 0, 30.0), (2, 1, 1, 15.0)), bits=bits))
    shown = pixels(get(client))
    assert (shown.ndim, shown[2, 5], shown[0, 0], shown[7, 7]) == (2, 255, 128, 0)
    # The window of all frames is the same.
    assert pixels(get(client, f"{DOSE}/frames/3/rendered"))[1, 1] == 64
    asked = pixels(get(client, f"{DOSE}/frames/3/rendered", window="15,10,linear-exact"))
    assert (asked[1, 1], asked[7, 7]) == (128, 0)


def test_the_image_that_comes_later_changes_the_picture(client: TestClient) -> None:
    store(client, dose(spots((0, 2, 5, 60.0))))
    before = get(client)
    store(client, ct())
    after = get(client)
    assert (before.headers["etag"] != after.headers["etag"], pixels(after).shape) == (True, (16, 16, 3))


def test_an_empty_grid_is_a_picture_too(client: TestClient) -> None:
    store(client, ct(), dose(spots()))
    assert not pixels(get(client)).any()
    assert get(client, f"{DOSE}/frames/5/rendered").status_code == 404


# Orientation, position, offsets, and the z of the frames. With the second orientation the normal goes down.
GRIDS: tuple[tuple[list[int], float, list[float], list[float]], ...] = (
    (AXIAL, 5, [0, 3, 6], [5, 8, 11]),
    (AXIAL, 5, [5, 8, 11], [5, 8, 11]),
    (AXIAL, 5, [0, -3, -6], [5, 2, -1]),
    (TURNED, 5, [0, 3, 6], [5, 2, -1]),
    (TURNED, 5, [5, 8, 11], [5, 8, 11]),
)


@pytest.mark.parametrize(("orientation", "z", "offsets", "expected"), GRIDS)
def test_where_the_planes_are(orientation: list[int], z: float, offsets: list[float], expected: list[float]) -> None:
    dataset = Dataset()
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient, dataset.PixelSpacing = orientation, [1, 2, z], [4, 4]
    dataset.GridFrameOffsetVector = offsets
    grid = dose_grid(dataset.to_json_dict(), 3)
    assert grid is not None
    assert [float(plane.origin[2]) for plane in grid.planes] == expected
    dataset.ImagePositionPatient = [1, 2, (expected[0] + expected[1] * 2) / 3]
    at = plane_of(dataset.to_json_dict(), 1)
    assert at is not None
    # Every frame has a dose of its number: a third of the first, two of the second.
    assert sampled(grid, lambda frame: np.full((1, 1), float(frame)), at, (1, 1))[0, 0] == pytest.approx(5 / 3)
    dataset.GridFrameOffsetVector = offsets[:2]
    assert dose_grid(dataset.to_json_dict(), 3) is None


def test_interpolation_is_between_four_pixels() -> None:
    dataset = Dataset()
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient, dataset.PixelSpacing = AXIAL, [0, 0, 0], [4, 4]
    of = plane_of(dataset.to_json_dict(), 1)
    dataset.ImagePositionPatient, dataset.PixelSpacing = [1, 2, 0], [2, 2]
    onto = plane_of(dataset.to_json_dict(), 1)
    assert of is not None
    assert onto is not None
    found = sampled(DoseGrid((of,), (0.0,)), lambda _frame: np.array([[0.0, 4.0], [8.0, 20.0]]), onto, (4, 4))
    # Columns 0.25, 0.75, 1.25 (still in the last pixel) and 1.75 of the grid, rows 0.5, 1, 1.5 and 2.
    assert found[0].tolist() == [6.0, 10.0, 12.0, 0.0]
    assert found[1].tolist() == [11.0, 17.0, 20.0, 0.0]
    assert found[2].tolist() == [11.0, 17.0, 20.0, 0.0]
    assert not found[3].any()


def test_a_tilted_image_has_the_dose_of_every_frame_that_it_cuts() -> None:
    """A dose that is z, on an image that rises by 3 in 5 from row to row of 5 mm."""
    dataset = Dataset()
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient, dataset.PixelSpacing = AXIAL, [0, 0, 0], [4, 4]
    dataset.GridFrameOffsetVector = [0, 2, 4, 6, 8]
    grid = dose_grid(dataset.to_json_dict(), 5)
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 0.8, 0.6], [5, 4]
    tilted = plane_of(dataset.to_json_dict(), 1)
    assert grid is not None
    assert tilted is not None
    found = sampled(grid, lambda frame: np.full((8, 2), 2.0 * (frame - 1)), tilted, (5, 2))
    assert found[:, 0].tolist() == pytest.approx([0, 3, 6, 8, 0]), "the fourth, at 9, is within half a step of the last frame"


def test_the_least_dose_is_not_coloured() -> None:
    grey = np.full((1, 3, 3), 100, np.uint8)
    shown = washed(grey, np.array([[0.0, 2.9, 60.0]]), 60.0)
    assert shown[0, :2].tolist() == [[100] * 3] * 2
    assert shown[0, 2].tolist() == [162, 60, 60]


def test_large_pictures_say_what_the_colours_are() -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    legend = with_legend(picture, {"30040002": {"vr": "CS", "Value": ["GY"]}}, 62.0)
    bar = legend[120:280, 384:392]
    assert bar[0, 0].tolist() == [255, 0, 0]
    assert bar[-1, 0].tolist() == [0, 0, 255]
    assert legend[:, 300:380].any()
    assert not legend[:, :300].any()
    assert with_legend(picture[:100], {}, 62.0) is not legend


REAL = tuple(f"radiotherapy/rtdose{kind}.dcm" for kind in ("", "_1frame", "_expb", "_expb_1frame", "_rle", "_rle_1frame"))


@pytest.mark.parametrize("name", REAL)
def test_real_grids_are_as_bright_as_their_dose(client: TestClient, name: str) -> None:
    """Whatever they are stored in; pydicom reads the witness."""
    whole = corpus_file(name).read_bytes()
    real, witness = dcmread(io.BytesIO(whole)), dcmread(corpus_file(f"radiotherapy/rtdose{'_1frame' if '1frame' in name else ''}.dcm"))
    store(client, whole)
    path = f"studies/{real.StudyInstanceUID}/series/{real.SeriesInstanceUID}/instances/{real.SOPInstanceUID}"
    grays = witness.pixel_array.reshape(-1, 10, 10) * float(witness.DoseGridScaling)
    for frame in range(1, len(grays) + 1, 7):
        shown = pixels(get(client, f"{path}/frames/{frame}/rendered"))
        assert np.abs(shown - grays[frame - 1] / grays.max() * 255).max() <= 1


def test_over_real_images(client: TestClient) -> None:
    """A dose about the middle of a phantom, on its own 54 images, whose gantry is tilted by 18.5 degrees."""
    stored = [one.path.read_bytes() for one in corpus_files() if one.name.startswith("series/ct-philips-phantom-54/")]
    images = sorted((dcmread(io.BytesIO(one)) for one in stored), key=lambda one: float(one.ImagePositionPatient[2]))
    middle = images[27]
    centre = np.array(middle.ImagePositionPatient, float) + 256 * middle.PixelSpacing[0] * (np.array(middle.ImageOrientationPatient[:3], float) + np.array(middle.ImageOrientationPatient[3:], float))
    origin = centre - [30 * 4, 30 * 4, 15 * 3]
    z, y, x = np.meshgrid(*(np.arange(count) * step for count, step in ((31, 3), (60, 4), (60, 4))), indexing="ij")
    grays = 62 * np.exp(-((((x - 120) / 40) ** 2 + ((y - 120) / 25) ** 2 + ((z - 45) / 20) ** 2) ** 2))
    study = str(middle.StudyInstanceUID)
    store(client, *stored, dose(grays, study=study, ImagePositionPatient=[round(float(one), 4) for one in origin], FrameOfReferenceUID=middle.FrameOfReferenceUID))
    path = f"studies/{study}/series/1.2.3.9/instances/1.2.3.9.1"
    shown = pixels(get(client, f"{path}/rendered"))
    below = pixels(get(client, f"studies/{study}/series/{middle.SeriesInstanceUID}/instances/{middle.SOPInstanceUID}/rendered"))
    changed = (shown != below[..., None]).any(axis=-1)[:, :400]
    rows, columns = np.nonzero(changed)
    assert [rows.min() + rows.max(), columns.min() + columns.max()] == pytest.approx([512, 512], abs=4)
    height, width = (rows.max() - rows.min()) * float(middle.PixelSpacing[0]), (columns.max() - columns.min()) * float(middle.PixelSpacing[1])
    # exp(-r^4) is a twentieth at 1.316; across the tilt r is of both y and z.
    down = 2 * 1.316 / np.hypot(0.9483237 / 25, 0.3173047 / 20)
    assert [height, width] == pytest.approx([down, 2 * 40 * 1.316], abs=3)
    assert get(client, f"{path}/thumbnail").status_code == 200
