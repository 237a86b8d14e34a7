"""Segmentations and contours over their images: the right pixels, in the right colour, the right way round."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from starlette.testclient import TestClient

from dicomweb.rendering.colours import srgb
from dicomweb.rendering.planes import plane_of
from dicomweb.rendering.segments import laid_over, turned
from storage.archive import Archive
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.corpus import corpus_file
from tests.test_wado import ONE, SERIES, get, store

SEG, LABELS, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.481.3"
OVER = "studies/1.2.3/series/1.2.3.9/instances/1.2.3.9.1"
AXIAL = [1, 0, 0, 0, 1, 0]


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


def image(number: int = 1, side: int = 16, z: float = 0, orientation: list[float] | None = None) -> bytes:
    return made.instance(
        number, side=side, ImagePositionPatient=[10, 20, z], ImageOrientationPatient=orientation or AXIAL, PixelSpacing=[2, 2],
        FrameOfReferenceUID="1.9", WindowCenter=100, WindowWidth=400,
    )  # fmt: skip


def group(**sequences: Dataset) -> Dataset:
    found = Dataset()
    for keyword, item in sequences.items():
        setattr(found, keyword, Sequence([item]))
    return found


def items(**attributes: Any) -> Dataset:
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def segmentation(
    masks: list[np.ndarray[Any, Any]],
    *,
    segments: list[int] | None = None,
    source: str | None = "1.2.3.4.1",
    position: tuple[float, float, float] = (10, 20, 0),
    orientation: list[float] | None = None,
    spacing: float = 2,
    sop_class: str = SEG,
    kind: str = "FRACTIONAL",
    **attributes: Any,
) -> bytes:
    """A segmentation with a byte to a pixel, a frame for each mask."""
    numbers = segments or list(range(1, len(masks) + 1))
    shared = group(
        PixelMeasuresSequence=items(PixelSpacing=[spacing, spacing]),
        PlaneOrientationSequence=items(ImageOrientationPatient=orientation or AXIAL),
        PlanePositionSequence=items(ImagePositionPatient=list(position)),
    )
    frames = []
    for number in numbers:
        frame = group(SegmentIdentificationSequence=items(ReferencedSegmentNumber=number))
        if source:
            of = items(ReferencedSOPClassUID=made.CT, ReferencedSOPInstanceUID=source)
            frame.DerivationImageSequence = Sequence([group(SourceImageSequence=of)])
        frames.append(frame)
    described = [items(SegmentNumber=number, SegmentLabel=f"S{number}") for number in sorted(set(numbers))]
    rows, columns = masks[0].shape
    return made.instance(
        series="1.2.3.9", sop_class=sop_class, Modality="SEG", pixel_vr="OB", Rows=rows, Columns=columns, BitsAllocated=8, BitsStored=8,
        HighBit=7, PixelRepresentation=0, NumberOfFrames=len(masks), SegmentationType=kind, MaximumFractionalValue=255,
        SegmentSequence=Sequence(described), SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(frames), PixelData=b"".join(mask.astype(np.uint8).tobytes() for mask in masks), **attributes,
    )  # fmt: skip


def corner() -> np.ndarray[Any, Any]:
    """An L whose foot is to the right: neither turned nor flipped does it look the same."""
    found = np.zeros((16, 16))
    found[2:10, 3] = found[9, 3:7] = 255
    return found


def colours(answer: Any) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def coloured(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where it is not grey."""
    return np.asarray(np.ptp(picture, axis=-1) > 20)


# ---- segmentations


def test_a_segment_is_where_it_is(client: TestClient) -> None:
    store(client, image(), segmentation([corner()]))
    shown = colours(get(client, f"{OVER}/rendered", "image/png"))
    plain = colours(get(client, f"{ONE}/rendered", "image/png"))
    assert np.array_equal(coloured(shown), corner() > 0)
    assert np.array_equal(shown[corner() == 0], plain[corner() == 0])


def test_on_an_image_of_another_grid_it_is_where_the_patient_has_it(client: TestClient) -> None:
    """Twice as fine, and its rows run from the left of the patient to the right, its columns upwards."""
    fine = np.kron(corner(), np.ones((2, 2)))[::-1, ::-1]
    # The centre of its first pixel is that of the last of the image's half pixels.
    first = (10 + 15 * 2 + 0.5, 20 + 15 * 2 + 0.5, 0.0)
    turned_round: list[float] = [-1, 0, 0, 0, -1, 0]
    store(client, image(), segmentation([fine], position=first, orientation=turned_round, spacing=1))
    shown = colours(get(client, f"{OVER}/rendered", "image/png"))
    assert np.array_equal(coloured(shown), corner() > 0)


def test_one_frame_or_all_of_a_plane(client: TestClient) -> None:
    other = corner().T
    store(client, image(), segmentation([corner(), other]))
    alone = colours(get(client, f"{OVER}/frames/2/rendered", "image/png"))
    both = colours(get(client, f"{OVER}/rendered", "image/png"))
    assert np.array_equal(coloured(alone), other > 0)
    assert np.array_equal(coloured(both), (other > 0) | (corner() > 0))
    assert get(client, f"{OVER}/frames/3/rendered", "image/png").status_code == 404


def test_fractions_show_through(client: TestClient) -> None:
    store(client, image(), segmentation([np.full((16, 16), 64.0)]))
    faint = colours(get(client, f"{OVER}/rendered", "image/png"))
    plain = colours(get(client, f"{ONE}/rendered", "image/png"))
    assert 0 < np.abs(faint - plain).max() < 40


def test_a_label_map(client: TestClient) -> None:
    labels = np.where(corner() > 0, 7, np.where(corner().T > 0, 9, 0))
    store(client, image(), segmentation([labels], segments=[7], sop_class=LABELS, kind="LABELMAP"))
    shown = colours(get(client, f"{OVER}/rendered", "image/png"))
    assert np.array_equal(coloured(shown), labels > 0)
    assert not np.array_equal(shown[2, 3], shown[3, 2])


def test_without_its_image_it_is_on_black_until_that_comes(client: TestClient) -> None:
    store(client, segmentation([corner()]))
    before = get(client, f"{OVER}/rendered", "image/png")
    assert colours(before)[0, 0].tolist() == [0, 0, 0]
    store(client, image())
    after = get(client, f"{OVER}/rendered", "image/png", **{"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert colours(after)[0, 0].min() > 20
    again = get(client, f"{OVER}/rendered", "image/png", **{"If-None-Match": after.headers["etag"]})
    assert again.status_code == 304


def test_an_image_that_only_its_series_names(client: TestClient) -> None:
    series = items(SeriesInstanceUID="1.2.3.4")
    store(client, image(1, z=0), image(2, z=5), segmentation([corner()], source=None, position=(10, 20, 5), ReferencedSeriesSequence=Sequence([series])))
    shown, second = colours(get(client, f"{OVER}/rendered", "image/png")), colours(get(client, f"{SERIES}/instances/1.2.3.4.2/rendered", "image/png"))
    assert np.array_equal(shown[corner() == 0], second[corner() == 0])


def test_the_window_of_the_request_is_that_of_the_image(client: TestClient) -> None:
    store(client, image(), segmentation([corner()]))
    shown = colours(get(client, f"{OVER}/rendered?window=0,2&viewport=32,32", "image/png"))
    assert shown.shape == (32, 32, 3)
    assert shown[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("name", ["series/ct-liver-3-with-seg/liver.dcm", "series/ct-liver-3-with-seg/partial_overlaps.dcm"])
def test_real_segments_are_where_pydicom_has_them(client: TestClient, archive: Archive, name: str) -> None:
    images = {}
    for slice_number in ("01", "02", "03"):
        below = ingest(archive, corpus_file(f"series/ct-liver-3-with-seg/{slice_number}.dcm")).uids
        path = f"studies/{below.study}/series/{below.series}/instances/{below.instance}"
        images[below.instance] = colours(get(client, f"{path}/rendered", "image/png"))
    uids, dataset = ingest(archive, corpus_file(name)).uids, dcmread(corpus_file(name))
    path = f"studies/{uids.study}/series/{uids.series}/instances/{uids.instance}"
    masks = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for number, (mask, about) in enumerate(zip(masks, dataset.PerFrameFunctionalGroupsSequence, strict=True), 1):
        below = about.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        shown = colours(get(client, f"{path}/frames/{number}/rendered", "image/png"))
        changed = (shown != images[below]).any(axis=-1)
        assert not (changed & (mask == 0)).any()
        assert not mask.any() or changed[mask > 0].mean() > 0.95


# PS3.3 C.10.7.1.1; Lab of sRGB under D50 by the ICC's own conversion.
LAB = [((100, 0, 0), (255, 255, 255)), ((0, 0, 0), (0, 0, 0)), ((54.29, 80.81, 69.89), (255, 0, 0)), ((87.82, -79.27, 80.99), (0, 255, 0)), ((29.57, 68.30, -112.03), (0, 0, 255))]  # fmt: skip


@pytest.mark.parametrize(("lab", "rgb"), LAB)
def test_recommended_colours(lab: tuple[float, float, float], rgb: tuple[int, int, int]) -> None:
    scaled = [lab[0] / 100 * 65535, (lab[1] + 128) / 255 * 65535, (lab[2] + 128) / 255 * 65535]
    assert np.abs(np.array(srgb(*scaled)) - rgb).max() <= 2


def test_colours_without_a_recommendation_differ() -> None:
    assert len({turned(index) for index in range(200)}) > 190


def test_an_outline_is_stronger_than_what_is_inside() -> None:
    mask = np.zeros((5, 5))
    mask[1:4, 1:4] = 1
    shown = laid_over(np.zeros((5, 5, 3), np.uint8), mask, (200, 0, 0))
    assert (shown[2, 2, 0], shown[1, 1, 0], shown[0, 0, 0]) == (70, 180, 0)


def test_a_segmentation_of_itself_is_no_circle(client: TestClient) -> None:
    store(client, segmentation([corner()], source="1.2.3.9.1"))
    assert get(client, f"{OVER}/rendered", "image/png").status_code == 200


def test_what_does_not_say_where_it_is_cannot_be_laid_over(client: TestClient) -> None:
    store(client, image(), segmentation([np.ones((4, 4))], orientation=[0, 0, 0, 0, 0, 0]))
    answer = get(client, f"{OVER}/rendered", "image/png")
    assert (answer.status_code, "where they are" in answer.text) == (406, True)
    assert get(client, f"{OVER}/thumbnail", "image/png").status_code == 200


# ---- structure sets


def structures(contours: list[tuple[str, list[float]]], source: str | None = "1.2.3.4.1", **attributes: Any) -> bytes:
    drawn = []
    for kind, data in contours:
        contour = items(ContourGeometricType=kind, NumberOfContourPoints=len(data) // 3, ContourData=data)
        if source:
            contour.ContourImageSequence = Sequence([items(ReferencedSOPClassUID=made.CT, ReferencedSOPInstanceUID=source)])
        drawn.append(contour)
    region = items(ReferencedROINumber=1, ROIDisplayColor=[255, 0, 0], ContourSequence=Sequence(drawn))
    return made.instance(
        series="1.2.3.9", sop_class=RTSTRUCT, Modality="RTSTRUCT", pixels=False, ROIContourSequence=Sequence([region]), **attributes
    )


# Pixels (2, 3), (2, 12), (8, 12) by column and row of an axial image at (10, 20), 2 mm.
TRIANGLE: list[float] = [14, 26, 0, 14, 44, 0, 26, 44, 0]


@pytest.mark.parametrize(("kind", "closed"), [("CLOSED_PLANAR", True), ("OPEN_PLANAR", False)])
def test_a_contour_is_where_it_is(client: TestClient, kind: str, closed: bool) -> None:
    store(client, image(), structures([(kind, TRIANGLE)]))
    red = coloured(colours(get(client, f"{OVER}/rendered", "image/png")))
    assert red[3:13, 2].all()
    assert red[12, 2:9].all()
    # The third side is only there where the contour is closed; it passes the middle between its ends.
    assert red[7:9, 5].any() == closed
    assert not red[:, 10:].any()


def test_a_contour_on_a_sagittal_image(client: TestClient) -> None:
    """Columns run to the back (y), rows to the feet (-z)."""
    store(client, image(orientation=[0, 1, 0, 0, 0, -1]), structures([("OPEN_PLANAR", [10, 24, -6, 10, 44, -6])]))
    red = coloured(colours(get(client, f"{OVER}/rendered", "image/png")))
    assert red[3, 2:13].all()
    assert not np.delete(red, 3, axis=0).any()


def test_images_with_contours_in_their_order(client: TestClient) -> None:
    high, low = [("CLOSED_PLANAR", [*TRIANGLE[:2], 5.0, *TRIANGLE[3:5], 5.0])], [("CLOSED_PLANAR", TRIANGLE)]
    reference = items(RTReferencedStudySequence=Sequence([items(RTReferencedSeriesSequence=Sequence([items(SeriesInstanceUID="1.2.3.4")]))]))
    store(client, image(1, z=5), image(2, z=0), image(3, z=-5))
    store(client, structures(high + low, None, ReferencedFrameOfReferenceSequence=Sequence([reference])))
    first, second = (coloured(colours(get(client, f"{OVER}/frames/{number}/rendered", "image/png"))) for number in (1, 2))
    assert first[12, 8]
    assert not second[12, 8]
    assert second[3:13, 2].all()
    assert get(client, f"{OVER}/frames/3/rendered", "image/png").status_code == 404


def test_the_real_one(client: TestClient, archive: Archive) -> None:
    ingest(archive, corpus_file("radiotherapy/breast-set/ct.0.dcm"))
    uids = ingest(archive, corpus_file("radiotherapy/breast-set/rtss.dcm")).uids
    shown = colours(get(client, f"studies/{uids.study}/series/{uids.series}/instances/{uids.instance}/rendered", "image/png"))
    assert 500 < coloured(shown).sum() < 20_000


@pytest.mark.parametrize(
    "contours",
    [
        [],
        [("CLOSED_PLANAR", [])],
        [("CLOSED_PLANAR", [1, 2])],
        [("POINT", [20, 30, 0])],
        [("CLOSED_PLANAR", [1e15, -1e15, 1e15] * 3)],
        [("NONSENSE", TRIANGLE)],
    ],
)
def test_odd_contours(client: TestClient, contours: list[tuple[str, list[float]]]) -> None:
    store(client, image(), structures(contours))
    there = any(len(data) >= 3 for _, data in contours)
    assert get(client, f"{OVER}/rendered", "image/png").status_code == (200 if there else 406)
    assert get(client, f"{OVER}/thumbnail", "image/png").status_code == 200


def test_without_its_images_it_says_so(client: TestClient) -> None:
    store(client, structures([("CLOSED_PLANAR", TRIANGLE)]))
    answer = get(client, f"{OVER}/rendered", "image/png")
    assert (answer.status_code, "in the archive" in answer.text) == (406, True)


@pytest.mark.parametrize("dataset", [{}, {"00200032": {"vr": "DS", "Value": [1, 2]}}, {"00280030": {"vr": "DS", "Value": [0, 1]}}])
def test_no_plane(dataset: Any) -> None:
    assert plane_of(dataset, 1) is None
