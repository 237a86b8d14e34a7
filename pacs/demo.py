"""Something to look at without owning any DICOM: openly licensed images that pydicom's packages carry."""

from __future__ import annotations

from pathlib import Path

from pydicom.data import get_testdata_file

# One row a file: its name in pydicom or in the package pydicom-data, and what it shows.
DEMONSTRATION: dict[str, str] = {
    "CT_small.dcm": "CT, one small slice",
    "693_UNCR.dcm": "CT of a head",
    "explicit_VR-UN.dcm": "CT of an abdomen, JPEG 2000",
    "eCT_Supplemental.dcm": "CT perfusion of a brain, enhanced multi-frame with palette",
    "MR2_UNCR.dcm": "MR of a shoulder, 1024 x 1024",
    "examples_overlay.dcm": "MR of a liver, with an overlay",
    "emri_small.dcm": "MR, enhanced multi-frame: ten frames to scroll",
    "RG1_UNCR.dcm": "radiograph of a thorax",
    "RG3_J2KR.dcm": "radiograph of an ankle, JPEG 2000",
    "examples_ybr_color.dcm": "colour ultrasound, thirty frames to play, JPEG",
    "examples_palette.dcm": "colour ultrasound by palette",
    "examples_jpeg2k.dcm": "colour ultrasound, JPEG 2000",
    "JPEG-lossy.dcm": "nuclear medicine, whole body, JPEG of 12 bits",
    "waveform_ecg.dcm": "electrocardiogram of twelve leads",
}


def demo_files() -> list[Path]:
    """The demonstration files that are installed here; never fetches any.

    pydicom itself brings about half of them, the package pydicom-data (`pip install lightbox-pacs[demo]`) the rest.
    """
    found = (get_testdata_file(name, download=False) for name in DEMONSTRATION)
    return [Path(path) for path in found if isinstance(path, str)]
