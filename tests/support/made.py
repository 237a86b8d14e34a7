"""Small instances made for a test: written by pydicom, so that none of our own code is on both sides."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

CT = "1.2.840.10008.5.1.4.1.1.2"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
VIDEO = "1.2.840.10008.5.1.4.1.1.77.1.1.1"
MP4 = "1.2.840.10008.1.2.4.102"


def instance(
    number: int = 1,
    *,
    study: str = "1.2.3",
    series: str = "1.2.3.4",
    syntax: str = ExplicitVRLittleEndian,
    sop_class: str = CT,
    frames: int = 1,
    side: int = 4,
    pixels: bool = True,
    pixel_vr: str = "OW",
    **attributes: Any,
) -> bytes:
    """A Part 10 file of `frames` native 16-bit frames of side x side pixels; each pixel is 100 times its frame's number.

    SOP Instance UID is the series' with `number`. `attributes` are keywords and their values, over the defaults.
    """
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, f"{series}.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = "Müller^Hans", "P1"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20240102", "101112", "A1"
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "CT", 1, number
    if pixels:
        dataset.Rows = dataset.Columns = side
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation, dataset.NumberOfFrames = 15, 0, frames
        dataset.PixelData = b"".join(frame_of(frame, side, syntax) for frame in range(1, frames + 1))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = pixel_vr
    return written(dataset, syntax)


def frame_of(number: int, side: int, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The bytes of one frame of `instance`."""
    return np.full((side, side), 100 * number, "<u2" if UID(syntax).is_little_endian else ">u2").tobytes()


def encapsulated(fragments: list[bytes], syntax: str, **attributes: Any) -> bytes:
    """An instance whose frames are `fragments` as they are, whatever they hold."""
    return instance(
        syntax=syntax, frames=len(fragments), pixel_vr="OB", PixelData=encapsulate(fragments), **attributes
    )


def rle(number: int = 1, **attributes: Any) -> bytes:
    """`instance` with its frames in RLE Lossless, compressed by pydicom."""
    dataset = dcmread(io.BytesIO(instance(number, **attributes)))
    dataset.compress(RLELossless, generate_instance_uid=False)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def written(dataset: Dataset, syntax: str) -> bytes:
    """`dataset` as a Part 10 file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "1.2")
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2")
    meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta = meta
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
