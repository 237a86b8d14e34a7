"""SUV of synthetic PET images, by numbers worked by hand, and the windows of presets that are in SUV."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicomweb.rendering import Function, Window
from dicomweb.rendering.named_windows import window_named
from dicomweb.rendering.suv import Unknown, suv_factor
from dicomweb.rendering.uptake import uptake
from storage.archive import Archive
from storage.index.presets import put_presets
from storage.presets import Preset
from storage.transfer_syntaxes import EXPLICIT_LITTLE
from tests.support import made, web
from tests.support.corpus import corpus_file

PET = "1.2.840.10008.5.1.4.1.1.128"
HALF_LIFE = 6600.0
PATH = "studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.1/rendered"
PNG = {"accept": "image/png"}


def pet(**changes: Any) -> Dataset:
    """80 kg; 320 MBq, of which, two half-lives later (13200 s = 3 h 40 min), 80 MBq are left: 80000 g / 80 MBq = 0.001 g/Bq.

    `radio_` in a name: of the injection; None takes an attribute away.
    """
    dataset = Dataset()
    dataset.Modality, dataset.Units, dataset.DecayCorrection = "PT", "BQML", "START"
    dataset.CorrectedImage = ["NORM", "ATTN", "DECY", "SCAT"]
    dataset.PatientWeight = 80
    dataset.SeriesDate, dataset.SeriesTime = "20240102", "114000"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240102", "114500.25"
    injected = Dataset()
    injected.RadiopharmaceuticalStartTime = "080000"
    injected.RadionuclideTotalDose, injected.RadionuclideHalfLife = 320e6, HALF_LIFE
    dataset.RadiopharmaceuticalInformationSequence = [injected]
    for name, value in changes.items():
        place, keyword = (injected, name.removeprefix("radio_")) if name.startswith("radio_") else (dataset, name)
        if value is None:
            delattr(place, keyword)
        else:
            setattr(place, keyword, value)
    return dataset


def philips(ready: str = "", activity: str = "", **changes: Any) -> Dataset:
    dataset = pet(Units="CNTS", **changes)
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", ready)
    block.add_new(0x09, "DS", activity)
    return dataset


def siemens(**changes: Any) -> Dataset:
    """The series was made in the evening; the frame of 600 s was acquired 1000 s after the scan began.

    Its mean activity is 300 s less 600^2 ln2 / (24 * 6600) = 1.575 s after its begin, so its reference is at 1298.425 s.
    """
    times = {"SeriesTime": "200000", "AcquisitionTime": "115640", "FrameReferenceTime": 1_298_425.0, "ActualFrameDuration": 600_000}
    return pet(**times | changes)


def ge() -> Dataset:
    dataset = pet(SeriesTime="200000")
    dataset.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", "20240102114000.00")
    return dataset


def implicit() -> Dataset:
    """Of Implicit VR: of the private element nobody knows that it is a number."""
    dataset = pet(Units="CNTS")
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "UN", b"0.0005")
    return dataset


# A PET image, and its factor by hand.
KNOWN = (
    (pet(), 0.001),
    # Of the dose at administration nothing has decayed: 80000 / 320e6.
    (pet(DecayCorrection="ADMIN"), 0.00025),
    (pet(DecayCorrection="ADMIN", radio_RadionuclideHalfLife=None, radio_RadiopharmaceuticalStartTime=None), 0.00025),
    (pet(PatientWeight=40), 0.0005),
    # One half-life (1 h 50 min) leaves 160 MBq.
    (pet(radio_RadiopharmaceuticalStartTime="0950"), 0.0005),
    (pet(radio_RadiopharmaceuticalStartDateTime="20240102095000.0+0100"), 0.0005),
    (pet(radio_RadiopharmaceuticalStartDateTime="20240102095000", radio_RadiopharmaceuticalStartTime=None), 0.0005),
    # Injected at 22:00, scanned at 01:40 of the next day.
    (pet(SeriesTime="014000", AcquisitionTime="014000", radio_RadiopharmaceuticalStartTime="220000"), 0.001),
    (pet(Units="GML", CorrectedImage=None, PatientWeight=None), 1.0),
    (pet(Units="GML", SUVType="BW"), 1.0),
    (philips("0.0005"), 0.0005),
    (philips("0", "2"), 0.002),
    (philips("", "2"), 0.002),
    (implicit(), 0.0005),
    (ge(), 0.001),
    (siemens(), 0.001),
)  # fmt: skip


@pytest.mark.parametrize(("dataset", "expected"), KNOWN)
def test_the_factor_is_that_worked_by_hand(dataset: Dataset, expected: float) -> None:
    assert suv_factor(dataset.to_json_dict()) == pytest.approx(expected, rel=1e-6)


# Of two scanners, by hand: 69.7344 kg, 178340011.6 Bq 3976.921 s before the scan; 82.174 kg, 173529998.8 Bq 0.109 s before it; half-life 6586.2 s.
@pytest.mark.parametrize(("name", "expected"), [("1", 69734.4 / (178340011.59668 * 2 ** (-3976.921 / 6586.2))), ("2", 82174 / (173529998.7793 * 2 ** (-0.109 / 6586.2)))])
def test_real_images(name: str, expected: float) -> None:
    dataset = dcmread(corpus_file(f"nuclear-pet/{name}.dcm"), stop_before_pixels=True)
    assert suv_factor(dataset.to_json_dict()) == pytest.approx(expected, rel=1e-9)


UNKNOWN = (
    (pet(Modality="NM"), "of PET images"),
    (pet(Units="PROPCPS"), "PROPCPS, not BQML"),
    (pet(Units=None), "Units .* are missing"),
    (pet(Units="GML", SUVType="LBM"), "type LBM"),
    (pet(Units="CNTS"), "counts"),
    (philips("0", "0"), "counts"),
    (pet(CorrectedImage=["DECY"]), r"attenuation \(ATTN\)"),
    (pet(CorrectedImage=None), "ATTN"),
    (pet(DecayCorrection="NONE"), "is NONE"),
    (pet(DecayCorrection=None), "is missing"),
    (pet(PatientWeight=None), "weight"),
    (pet(PatientWeight=0), "weight"),
    (pet(radio_RadionuclideTotalDose=None), "Dose .* missing"),
    (pet(radio_RadionuclideTotalDose=320), "too small to be in Bq"),
    (pet(radio_RadionuclideHalfLife=None), "Half Life"),
    (pet(radio_RadiopharmaceuticalStartTime=None), "when the injection was"),
    (pet(radio_RadiopharmaceuticalStartDateTime="20240103"), None),
    (pet(radio_RadiopharmaceuticalStartDateTime="20240103080000"), "after the scan"),
    (pet(radio_RadiopharmaceuticalStartDateTime="20231201080000"), "too long before"),
    (pet(SeriesTime="200000"), "when the scan began"),
    (siemens(ActualFrameDuration=0), "when the scan began"),
    (pet(RadiopharmaceuticalInformationSequence=[]), "Dose"),
)  # fmt: skip


@pytest.mark.parametrize(("dataset", "why"), UNKNOWN)
def test_what_cannot_be_calculated_says_why(dataset: Dataset, why: str | None) -> None:
    if why is None:
        # A start without a time says nothing of when: that of the other attribute is taken.
        assert suv_factor(dataset.to_json_dict()) == pytest.approx(0.001)
        return
    with pytest.raises(Unknown, match=why):
        suv_factor(dataset.to_json_dict())


@pytest.mark.parametrize(("name", "top"), [("SUV 0 to 5", 5), ("pt-suv-7", 7), ("suv 0 TO 10", 10), ("SUV 0 to 15", 15)])
def test_a_window_in_suv_is_one_in_the_images_units(name: str, top: float) -> None:
    window = window_named(name, dataset=pet().to_json_dict())
    assert isinstance(window, Window)
    assert [window.center, window.width] == pytest.approx([top / 2 / 0.001, top / 0.001])
    assert window.function is Function.LINEAR_EXACT


SUV_CODE, ACTIVITY_CODE = "g/ml{SUVbw}", "Bq/ml"


def group(**attributes: Any) -> Dataset:
    made_of = Dataset()
    for keyword, value in attributes.items():
        setattr(made_of, keyword, value)
    return made_of


def mapped(code: str, slope: float, intercept: float = 0.0) -> Dataset:
    units = [group(CodeValue=code, CodingSchemeDesignator="UCUM", CodeMeaning=code)]
    return group(RealWorldValueSlope=slope, RealWorldValueIntercept=intercept, MeasurementUnitsCodeSequence=units)


def enhanced(*mappings: Dataset, slope: float = 2.0, shared: dict[str, Any] | None = None, **changes: Any) -> Dataset:
    """80 kg; 320 MBq, of which two half-lives later, at the time that decay is corrected to, 80 MBq are left: 0.001 g/Bq.

    The mappings are of the frame, the rescale of all frames.
    """
    dataset = group(Modality="PT", PatientWeight=80, DecayCorrected="YES", AttenuationCorrected="YES", DecayCorrectionDateTime="20240102114000")
    injected = group(RadiopharmaceuticalStartDateTime="20240102080000", RadionuclideTotalDose=320.0, RadionuclideHalfLife=HALF_LIFE)
    dataset.RadiopharmaceuticalInformationSequence = [injected]
    rescale = [group(RescaleSlope=slope, RescaleIntercept=10, RescaleType="US")]
    dataset.SharedFunctionalGroupsSequence = [group(PixelValueTransformationSequence=rescale, **(shared or {}))]
    dataset.PerFrameFunctionalGroupsSequence = [group(RealWorldValueMappingSequence=list(mappings))]
    for name, value in changes.items():
        setattr(injected if name == "RadionuclideTotalDose" else dataset, name, value)
    return dataset


def converted(**changes: Any) -> Dataset:
    """Legacy converted: what the classic image said is among the unassigned attributes."""
    classic = pet(SeriesTime="200000", FrameReferenceTime=598_425.0, ActualFrameDuration=600_000, AcquisitionTime="114500", **changes)
    times = ("FrameReferenceTime", "ActualFrameDuration", "AcquisitionDate", "AcquisitionTime")
    whole = group(Modality="PT", PatientWeight=80, SeriesDate="20240102", SeriesTime="200000")
    whole.RadiopharmaceuticalInformationSequence = classic.RadiopharmaceuticalInformationSequence
    rest = group(Units=classic.Units, DecayCorrection=classic.DecayCorrection, CorrectedImage=classic.CorrectedImage)
    own = group(**{name: classic[name].value for name in times})
    whole.SharedFunctionalGroupsSequence = [group(UnassignedSharedConvertedAttributesSequence=[rest])]
    whole.PerFrameFunctionalGroupsSequence = [group(UnassignedPerFrameConvertedAttributesSequence=[own])]
    return whole


# An enhanced image, its factor and its offset by hand. Of slope 2 and intercept 10 an output p is of the stored value (p - 10) / 2.
ENHANCED = (
    (enhanced(mapped(SUV_CODE, 0.004)), 0.002, -0.02),
    (enhanced(mapped("{SUVbw}g/ml", 0.004, 1)), 0.002, 0.98),
    (enhanced(mapped(SUV_CODE, 0.004), DecayCorrected="NO"), 0.002, -0.02),
    (enhanced(mapped("1", 3), mapped(ACTIVITY_CODE, 2, 10)), 0.001, 0),
    (enhanced(mapped("kBq/ml", 0.002, 0.01)), 0.001, 0),
    (enhanced(mapped(ACTIVITY_CODE, 6, 30)), 0.003, 0),
    # Bq, as in classic images.
    (enhanced(mapped(ACTIVITY_CODE, 2, 10), RadionuclideTotalDose=320e6), 0.001, 0),
    # At the time of the injection nothing has decayed.
    (enhanced(mapped(ACTIVITY_CODE, 2, 10), DecayCorrectionDateTime="20240102080000"), 0.00025, 0),
    (enhanced(shared={"RealWorldValueMappingSequence": [mapped(SUV_CODE, 0.004)]}), 0.002, -0.02),
    (converted(), 0.001, 0),
    (pet(), 0.001, 0),
)  # fmt: skip


@pytest.mark.parametrize(("dataset", "factor", "offset"), ENHANCED)
def test_enhanced_images_say_it_by_their_mappings(dataset: Dataset, factor: float, offset: float) -> None:
    assert uptake(dataset.to_json_dict()) == pytest.approx((factor, offset), rel=1e-4, abs=1e-12)


ENHANCED_UNKNOWN = (
    (enhanced(), "neither to SUV"),
    (enhanced(mapped("g/ml{SUVlbm}", 1)), "neither to SUV"),
    (enhanced(mapped(ACTIVITY_CODE, 2), DecayCorrected="NO"), "decay correction"),
    (enhanced(mapped(ACTIVITY_CODE, 2), PatientWeight=None), "weight"),
    (enhanced(mapped(ACTIVITY_CODE, 2), RadionuclideTotalDose=None), "Dose"),
    (enhanced(mapped(ACTIVITY_CODE, 2), RadiopharmaceuticalInformationSequence=[Dataset(), Dataset()]), "2 radiopharmaceuticals"),
    (enhanced(mapped(ACTIVITY_CODE, 2), DecayCorrectionDateTime=""), "0018,9701"),
    (enhanced(mapped(ACTIVITY_CODE, 2), DecayCorrectionDateTime="20240101"), "0018,9701"),
    (enhanced(mapped(ACTIVITY_CODE, 2), DecayCorrectionDateTime="20240102070000"), "after the time"),
    (enhanced(mapped(SUV_CODE, 1), Modality="NM"), "of PET"),
    (converted(Units="PROPCPS"), "PROPCPS"),
)  # fmt: skip


@pytest.mark.parametrize(("dataset", "why"), ENHANCED_UNKNOWN)
def test_enhanced_images_without_say_why(dataset: Dataset, why: str) -> None:
    with pytest.raises(Unknown, match=why):
        uptake(dataset.to_json_dict())


def stored(dataset: Dataset, slope: float = 2) -> bytes:
    """A PET instance of 4 x 4: stored values 0, 250, … 3750, in Bq/ml twice as many."""
    values = np.arange(16, dtype="<u2") * 250
    instance = made.instance(sop_class=PET, PixelData=values.tobytes(), RescaleSlope=slope, RescaleIntercept=0)
    whole = dcmread(io.BytesIO(instance))
    whole.update(dataset)
    return made.written(whole, EXPLICIT_LITTLE)


def levels(content: bytes) -> list[int]:
    return [int(level) for level in np.asarray(Image.open(io.BytesIO(content))).reshape(-1)]


def test_pictures_by_name_are_in_suv(archive: Archive) -> None:
    """2 * 250 n Bq/ml * 0.001 g/Bq = n / 2 SUV: of 0 to 5, n tenths."""
    with web.client(archive) as client:
        web.stow(client, [stored(pet())])
        answer = client.get(PATH, params={"window": "SUV 0 to 5"}, headers=PNG)
        assert levels(answer.content) == pytest.approx([min(255, round(25.5 * n)) for n in range(16)], abs=1)
        ten = client.get(PATH, params={"window": "pt-suv-10"}, headers=PNG)
        assert levels(ten.content) == pytest.approx([round(12.75 * n) for n in range(16)], abs=1)


def test_a_frame_of_an_enhanced_image_by_name(archive: Archive) -> None:
    """Stored values 0, 250, ...: of SUV 0.002 each every step is half an SUV, whatever the rescale makes of them."""
    whole = dcmread(io.BytesIO(stored(enhanced(mapped(SUV_CODE, 0.002)))))
    del whole.RescaleSlope, whole.RescaleIntercept
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.130")
    whole.NumberOfFrames = 1
    with web.client(archive) as client:
        web.stow(client, [made.written(whole, EXPLICIT_LITTLE)])
        answer = client.get(PATH.replace("rendered", "frames/1/rendered"), params={"window": "SUV 0 to 5"}, headers=PNG)
        assert levels(answer.content) == pytest.approx([min(255, round(25.5 * n)) for n in range(16)], abs=1)


def test_by_name_it_is_said_why_not_and_a_default_that_cannot_be_is_passed_over(archive: Archive) -> None:
    put_presets(archive.index, [Preset("pt-default", "Body", "PT", 2.5, 5, "LINEAR_EXACT", units="SUV", default=True)])
    with web.client(archive) as client:
        web.stow(client, [stored(pet(PatientWeight=None))])
        refused = client.get(PATH, params={"window": "SUV 0 to 5"}, headers=PNG)
        assert refused.status_code == 400
        assert "weight of the patient" in refused.json()["error"]
        assert levels(client.get(PATH, headers=PNG).content)[-1] == 255, "the automatic window is from the least to the most"
        again = stored(pet())
        web.stow(client, [again.replace(b"1.2.3.4.1", b"1.2.3.4.2")])
        shown = client.get(PATH.replace(".4.1/", ".4.2/"), headers=PNG)
        assert levels(shown.content) == pytest.approx([min(255, round(25.5 * n)) for n in range(16)], abs=1)
    assert window_named("Lung", dataset=pet().to_json_dict()) == Window(-600, 1500)
