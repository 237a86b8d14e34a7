"""Synthetic CT instances for the benchmark: invented people, noise like a scanner's, some 110 attributes each.

The same on every machine: pixels come from a seeded generator and UIDs from the names of what they identify.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, HTJ2KLossless, JPEG2000Lossless, JPEGLSLossless

# What is in the folder was made by this version of this module.
VERSION: Final = "1"
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_SLICES: Final = 8
_FAMILIES: Final = ("ADLER", "BERG", "COSTA", "DUBOIS", "EVANS", "FISCHER", "GRAY", "HUBER", "KELLER", "MOREAU", "NOVAK", "SATO")
_GIVEN: Final = ("ANNA", "BEN", "CARLA", "EMMA", "HUGO", "MARIA", "OLGA", "PAUL", "ROSA", "TINA")
_MODALITIES: Final = ("CT", "MR", "CR", "US", "DX", "MG", "PT")

_ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    JPEG2000Lossless: lambda pixels: bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0)),
    HTJ2KLossless: lambda pixels: bytes(imagecodecs.htj2k_encode(pixels, reversible=True)),
    JPEGLSLossless: lambda pixels: bytes(imagecodecs.jpegls_encode(pixels)),
}


@dataclass(frozen=True, slots=True)
class Made:
    """One instance of the benchmark's data."""

    path: Path
    study: str
    series: str
    instance: str


@dataclass(frozen=True, slots=True)
class _Set:
    """A folder of alike instances: `studies` x `series` x `instances`, each of side x side pixels and `frames` frames."""

    studies: int
    series: int
    instances: int
    side: int = 512
    frames: int = 1
    syntax: str = ExplicitVRLittleEndian


SETS: Final[dict[str, _Set]] = {
    "incoming": _Set(5, 2, 100),
    "small": _Set(5, 2, 100, side=120),
    "series": _Set(1, 1, 1000),
    "series 200": _Set(1, 1, 200),
    "J2K": _Set(1, 1, 100, syntax=JPEG2000Lossless),
    "HTJ2K": _Set(1, 1, 100, syntax=HTJ2KLossless),
    "JPEG-LS": _Set(1, 1, 100, syntax=JPEGLSLossless),
    "multi-frame": _Set(1, 1, 1, frames=500),
    "2 GB": _Set(1, 4, 1000),
    "1 GB": _Set(1, 1, 1, frames=2000),
}


def prepared(folder: Path, names: tuple[str, ...] = tuple(SETS)) -> dict[str, list[Made]]:
    """The sets of these names, made where they are not there yet."""
    return {name: _set(folder / f"{VERSION}-{name.replace(' ', '-')}", name, SETS[name]) for name in names}


def _set(folder: Path, name: str, made: _Set) -> list[Made]:
    listing = folder / "instances.json"
    if not listing.exists():
        print(f"making {made.studies * made.series * made.instances} instances: {name}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        rows = list(_written(folder, name, made))
        # Last, so that a folder that was left half made is made again.
        listing.write_text(json.dumps(rows), encoding="utf-8")
    return [Made(folder / row[0], *row[1:]) for row in json.loads(listing.read_text(encoding="utf-8"))]


def _written(folder: Path, name: str, made: _Set) -> Iterator[tuple[str, str, str, str]]:
    slices = _slices(made.side)
    pixels = [_encoded(one, made.syntax) for one in slices]
    for study in range(made.studies):
        for series in range(made.series):
            for number in range(made.instances):
                dataset = _header(name, study, series, number, made.side)
                frames = [pixels[(number + frame) % _SLICES] for frame in range(made.frames)]
                file = folder / f"{study}-{series}-{number:04d}.dcm"
                file.write_bytes(_part10(dataset, frames, made.syntax))
                yield file.name, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID


def _part10(dataset: Dataset, frames: list[bytes], syntax: str) -> bytes:
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    dataset.PixelData = encapsulate(frames) if UID(syntax).is_compressed else b"".join(frames)
    dataset["PixelData"].VR = "OB" if UID(syntax).is_compressed else "OW"
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    written = io.BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue()


def _encoded(pixels: Any, syntax: str) -> bytes:
    encoder = _ENCODERS.get(syntax)
    return encoder(pixels) if encoder else pixels.tobytes()


def _slices(side: int) -> list[Any]:
    """Slices of a body with organs and bones in it, 12 bits, with noise that no codec can predict."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    made = []
    for number in range(_SLICES):
        hounsfield = np.full((side, side), -1000.0)
        hounsfield[(x / (0.40 + 0.002 * number)) ** 2 + (y / 0.30) ** 2 < 1] = 40
        for _ in range(14):
            (at_x, at_y), radius = random.uniform(-0.25, 0.25, 2), random.uniform(0.02, 0.08)
            hounsfield[(x - at_x) ** 2 + (y - at_y) ** 2 < radius**2] = random.choice([-700, -80, 20, 90, 150, 300, 900])
        noise = random.normal(0, 12, hounsfield.shape) * np.where(hounsfield > -900, 1, 0.6)
        made.append(np.clip(hounsfield + noise + 1024, 0, 4095).astype("<u2"))
    return made


def _uid(*parts: object) -> str:
    """A UUID-derived UID (PS3.5 B.2), the same for the same parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def _header(name: str, study: int, series: int, number: int, side: int) -> Dataset:
    dataset = Dataset()
    for keyword, value in _FIXED.items():
        setattr(dataset, keyword, value)
    dataset.SOPInstanceUID = _uid(name, study, series, number)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _uid(name, study), _uid(name, study, series)
    dataset.FrameOfReferenceUID = _uid(name, study, "frame")
    dataset.PatientID, dataset.PatientName = f"BENCH{study:05d}", f"{_FAMILIES[study % 12]}^{_GIVEN[study % 10]}"
    dataset.AccessionNumber, dataset.StudyID = f"A{study:08d}", str(study + 1)
    dataset.SeriesNumber, dataset.InstanceNumber = series + 1, number + 1
    dataset.ImagePositionPatient = [-184.64, -344.64, round(-500 + 1.25 * number, 2)]
    dataset.SliceLocation = str(round(-500 + 1.25 * number, 2))
    dataset.ContentTime = f"1007{number % 60:02d}.250000"
    dataset.XRayTubeCurrent = 180 + number % 40
    dataset.Rows = dataset.Columns = side
    dataset.ProcedureCodeSequence = Sequence([_code("CTTAC", "99BENCH", "CT thorax and abdomen")])
    dataset.CTDIPhantomTypeCodeSequence = Sequence([_code("113691", "DCM", "IEC Body Dosimetry Phantom")])
    dataset.ReferencedImageSequence = Sequence([_reference(_uid(name, study, "localizer", side)) for side in range(2)])
    dataset.RequestAttributesSequence = Sequence([Dataset()])
    dataset.RequestAttributesSequence[0].RequestedProcedureID = f"R{study:06d}"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(_CT)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _reference(instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = _CT, instance
    item.PurposeOfReferenceCodeSequence = Sequence([_code("121311", "DCM", "Localizer")])
    return item


_FIXED: Final[dict[str, Any]] = {
    "SpecificCharacterSet": "ISO_IR 100", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
    "InstanceCreationDate": "20240315", "InstanceCreationTime": "101112.345000", "SOPClassUID": _CT,
    "StudyDate": "20240315", "SeriesDate": "20240315", "AcquisitionDate": "20240315", "ContentDate": "20240315",
    "StudyTime": "100000", "SeriesTime": "100500", "AcquisitionTime": "100600.12", "AcquisitionDateTime": "20240315100600.12",
    "Modality": "CT", "Manufacturer": "BENCH MEDICAL", "InstitutionName": "Benchmark University Hospital",
    "InstitutionAddress": "1 Loopback Road", "ReferringPhysicianName": "REFERRER^REGINA", "StationName": "CT40312",
    "StudyDescription": "CT THORAX ABDOMEN W CONTRAST", "SeriesDescription": "Ax Soft 1.25 mm",
    "InstitutionalDepartmentName": "Radiology", "PhysiciansOfRecord": "RECORD^RON", "PerformingPhysicianName": "PERFORM^PAT",
    "NameOfPhysiciansReadingStudy": "READER^RITA", "OperatorsName": "OPERATOR^OLE", "AdmittingDiagnosesDescription": "Follow-up",
    "ManufacturerModelName": "Synth CT 128", "IssuerOfPatientID": "BENCH", "PatientBirthDate": "19700203", "PatientSex": "O",
    "PatientAge": "054Y", "PatientSize": "1.75", "PatientWeight": "78", "EthnicGroup": "U", "PatientComments": "synthetic",
    "PatientIdentityRemoved": "NO", "ContrastBolusAgent": "IODINE 350", "BodyPartExamined": "CHEST", "ScanOptions": "HELIX",
    "SliceThickness": "1.25", "KVP": "120", "DataCollectionDiameter": "500", "DeviceSerialNumber": "40312",
    "SoftwareVersions": ["VA44A", "SP2"], "ProtocolName": "ThorAbd_1.25", "ContrastBolusRoute": "IV",
    "ContrastBolusVolume": "90", "ContrastBolusTotalDose": "90", "ReconstructionDiameter": "370",
    "DistanceSourceToDetector": "1085.6", "DistanceSourceToPatient": "595", "GantryDetectorTilt": "0", "TableHeight": "151",
    "RotationDirection": "CW", "ExposureTime": "500", "Exposure": "120", "FilterType": "WEDGE_3", "GeneratorPower": "32",
    "FocalSpots": "1.2", "DateOfLastCalibration": "20240315", "TimeOfLastCalibration": "060000", "ConvolutionKernel": ["B30f", "2"],
    "PatientPosition": "HFS", "RevolutionTime": 0.5, "SingleCollimationWidth": 0.6, "TotalCollimationWidth": 38.4,
    "TableSpeed": 46.0, "TableFeedPerRotation": 23.0, "SpiralPitchFactor": 0.6, "ExposureModulationType": "XYZ_EC",
    "CTDIvol": 8.13, "AcquisitionNumber": "3", "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "PositionReferenceIndicator": "SN", "ImageComments": "bench", "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
    "PixelSpacing": ["0.722656", "0.722656"], "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
    "SmallestImagePixelValue": 0, "LargestImagePixelValue": 4095, "WindowCenter": ["40", "-600"], "WindowWidth": ["400", "1500"],
    "RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU", "WindowCenterWidthExplanation": ["SOFT", "LUNG"],
    "LossyImageCompression": "00", "RequestingPhysician": "REQUEST^RUTH", "RequestingService": "ONC",
    "RequestedProcedureDescription": "CT Thorax/Abdomen",
}  # fmt: skip


class Tiny:
    """One-instance studies by the thousand, for the size of the index: one file made once, its fields written over."""

    _FIELDS: Final = {
        "PatientID": b"PID00000000", "PatientName": b"FFFFFFFFFFFF^GGGGGGGG", "StudyDate": b"19991231", "AccessionNumber": b"ACC00000000",
        "StudyInstanceUID": b"2.25.7000000000", "SeriesInstanceUID": b"2.25.8000000000", "SOPInstanceUID": b"2.25.9000000000",
    }  # fmt: skip

    def __init__(self) -> None:
        dataset = _header("tiny", 0, 0, 0, 16)
        for keyword, value in self._FIELDS.items():
            setattr(dataset, keyword, value.decode())
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        self._template = _part10(dataset, [bytes(512)], ExplicitVRLittleEndian)

    def __getitem__(self, number: int) -> bytes:
        """The instance of study `number`: two studies to a patient, dates over ten years, seven modalities."""
        made = self._template
        for field, value in zip(self._FIELDS.values(), _tiny_values(number), strict=True):
            made = made.replace(field, value)
        modality = _MODALITIES[number % 7].encode()
        return made.replace(b"\x08\x00\x60\x00CS\x02\x00CT", b"\x08\x00\x60\x00CS\x02\x00" + modality)


def _tiny_values(number: int) -> tuple[bytes, ...]:
    # Coprime steps, so that neighbours in one attribute are strangers in the others.
    days = number * 37 % 3600
    date = f"{2015 + days // 360}{days % 360 // 30 + 1:02d}{days % 30 % 28 + 1:02d}"
    name = f"{_FAMILIES[number * 5 % 12]}{number // 97 % 7}".ljust(12) + "^" + _GIVEN[number * 3 % 10].ljust(8)
    uids = (f"2.25.{first}{number:09d}" for first in (7, 8, 9))
    return tuple(text.encode() for text in (f"PID{number // 2:08d}", name, date, f"ACC{number:08d}", *uids))


FAMILIES = _FAMILIES
GIVEN = _GIVEN
