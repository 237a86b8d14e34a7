"""An image that shows how it is turned, presentation states of it, and how both get into an archive."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from starlette.testclient import TestClient

from tests.support import web

STUDY, SERIES, IMAGE = "1.2.3", "1.2.3.4", "1.2.3.4.1"
STATE_SERIES, STATE = "1.2.3.9", "1.2.3.9.1"
# Where the state is found, below the root of DICOMweb.
STATE_PATH = f"studies/{STUDY}/series/{STATE_SERIES}/instances/{STATE}"
ROWS, COLUMNS = 96, 128
GREY, COLOUR, PSEUDO, BLENDING, ANGIOGRAPHY, VARIABLE = (f"1.2.840.10008.5.1.4.1.1.11.{number}" for number in (1, 2, 3, 4, 5, 12))


def store(client: TestClient, *datasets: Dataset) -> None:
    """Store these by STOW-RS."""
    answer = web.stow(client, [encoded(one) for one in datasets])
    assert answer.status_code == 200, answer.text


def letter() -> np.ndarray[Any, Any]:
    """An F, which no turn and no flip leaves as it is, and a ramp of all values at the left edge; 12 bits."""
    values = np.full((ROWS, COLUMNS), 200, "<u2")
    values[16:80, 30:44] = values[16:28, 30:90] = values[42:54, 30:74] = 3000
    values[:, :8] = np.linspace(0, 4095, ROWS).astype("<u2")[:, None]
    return values


def item(**attributes: Any) -> Dataset:
    """A data set of these attributes."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def image(values: np.ndarray[Any, Any] | None = None, uid: str = IMAGE, **attributes: Any) -> Dataset:
    """An image of `values`, (rows, columns) or (frames, rows, columns) of 12 bits, or (rows, columns, 3) of eight."""
    values = letter() if values is None else values
    colour = values.shape[-1] == 3
    made = _instance("1.2.840.10008.5.1.4.1.1.7", SERIES, uid, "OT")
    made.Rows, made.Columns = values.shape[:2] if colour else values.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated, made.BitsStored, made.HighBit = (8, 8, 7) if colour else (16, 12, 11)
    made.PixelRepresentation = 0
    if values.ndim == 3 and not colour:
        made.NumberOfFrames = len(values)
    made.PixelData = values.tobytes()
    made.update(item(**attributes))
    return made


def state(*images: Dataset, sop_class: str = GREY, area: Dataset | None = None, frames: list[int] | None = None, **attributes: Any) -> Dataset:
    """A presentation state of images, of all that is in them, with IDENTITY as its presentation LUT."""
    images = images or (image(),)
    made = _instance(sop_class, STATE_SERIES, STATE, "PR")
    references = [item(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID) for one in images]
    for reference in references if frames else ():
        reference.ReferencedFrameNumber = frames
    made.ReferencedSeriesSequence = [item(SeriesInstanceUID=images[0].SeriesInstanceUID, ReferencedImageSequence=references)]
    made.DisplayedAreaSelectionSequence = [area or displayed(right=images[0].Columns, bottom=images[0].Rows)]
    if sop_class == GREY:
        made.PresentationLUTShape = "IDENTITY"
    made.ContentLabel, made.PresentationCreationDate, made.PresentationCreationTime = "MADE", "20260101", "1200"
    made.ContentDescription = made.ContentCreatorName = ""
    made.update(item(**attributes))
    return made


def displayed(left: int = 1, top: int = 1, right: int = COLUMNS, bottom: int = ROWS, **attributes: Any) -> Dataset:
    """A displayed area."""
    area = {"PresentationSizeMode": "SCALE TO FIT", "PresentationPixelAspectRatio": [1, 1], **attributes}
    return item(DisplayedAreaTopLeftHandCorner=[left, top], DisplayedAreaBottomRightHandCorner=[right, bottom], **area)


def window(center: float, width: float, **attributes: Any) -> Dataset:
    """An item of the Softcopy VOI LUT Sequence."""
    return item(WindowCenter=center, WindowWidth=width, **attributes)


def graphic(kind: str, *data: float, units: str = "PIXEL", **attributes: Any) -> Dataset:
    """A graphic object."""
    return item(
        GraphicAnnotationUnits=units,
        GraphicDimensions=2,
        NumberOfGraphicPoints=len(data) // 2,
        GraphicData=list(data),
        GraphicType=kind,
        **{"GraphicFilled": "N", **attributes},
    )


def words(text: str, box: list[float], units: str = "PIXEL", **attributes: Any) -> Dataset:
    """A text object in a box: left, top, right, bottom."""
    return item(
        BoundingBoxAnnotationUnits=units,
        UnformattedTextValue=text,
        BoundingBoxTopLeftHandCorner=box[:2],
        BoundingBoxBottomRightHandCorner=box[2:],
        **{"BoundingBoxTextHorizontalJustification": "LEFT", **attributes},
    )


def annotation(layer: str, *objects: Dataset, **attributes: Any) -> Dataset:
    """Graphic and text objects of a layer."""
    made = item(GraphicLayer=layer, **attributes)
    if graphics := [one for one in objects if "GraphicType" in one]:
        made.GraphicObjectSequence = graphics
    if texts := [one for one in objects if "UnformattedTextValue" in one]:
        made.TextObjectSequence = texts
    return made


def encoded(dataset: Dataset) -> bytes:
    """The Part 10 file."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _instance(sop_class: str, series: str, uid: str, modality: str) -> Dataset:
    made = item(SOPClassUID=sop_class, SOPInstanceUID=uid, StudyInstanceUID=STUDY, SeriesInstanceUID=series, Modality=modality)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.PatientName, made.PatientID, made.StudyDate = "Letter^Jane", "F1", "20260101"
    for keyword in ("PatientBirthDate", "PatientSex", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "Manufacturer"):
        setattr(made, keyword, "")
    made.SeriesNumber, made.InstanceNumber = 1, 1
    return made
