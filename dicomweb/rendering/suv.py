"""Standardized uptake values by body weight of PET images: what the output of the modality LUT is multiplied by (PS3.3 C.8.9.1).

The rules are those that QIBA has published for FDG PET: activity by the weight of the patient and the dose that is left at the time
to which the decay of the activity is corrected.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from datetime import datetime, timedelta
from typing import Final

from dicomweb.rendering.values import items, number, text, values
from storage.errors import BadRequest
from storage.matching.times import date_key, moment, time_span
from storage.types import Dataset

MODALITY, UNITS, SUV_TYPE, DECAY_CORRECTION = "00080060", "00541001", "00541006", "00541102"
CORRECTED, WEIGHT, RADIOPHARMACEUTICAL = "00280051", "00101030", "00540016"
START_TIME, START, DOSE, HALF_LIFE = "00181072", "00181078", "00181074", "00181075"
SERIES, ACQUISITION = ("00080021", "00080031"), ("00080022", "00080032")
REFERENCE_TIME, FRAME_DURATION = "00541300", "00181242"
# Private creators, group and element (without its block): when a GE scan began, and what Philips multiplies counts by, to
# SUV and to Bq/ml.
_GE_START: Final = ("0009", "GEMS_PETD_01", "0D")
_PHILIPS_SUV: Final = ("7053", "Philips PET Private Group", "00")
_PHILIPS_ACTIVITY: Final = ("7053", "Philips PET Private Group", "09")
# Less is no dose for a picture: somebody wrote MBq, and everything would come out a million times too bright.
LEAST_DOSE: Final = 10_000.0
# After so many half-lives nothing is left to see; one of the times is wrong.
MOST_HALF_LIVES: Final = 10.0
_DAY: Final = timedelta(days=1)


class Unknown(BadRequest):
    """SUV cannot be calculated, and why not."""


def suv_factor(dataset: Dataset) -> float:
    """Of a PET image: g/ml for one unit of the modality LUT's output. Raises Unknown, with what is missing or wrong."""
    if text(dataset, MODALITY) != "PT":
        raise Unknown("SUV is of PET images")
    units = text(dataset, UNITS)
    if units == "GML":
        if text(dataset, SUV_TYPE) not in ("", "BW"):
            raise Unknown(f"its values are SUV of type {text(dataset, SUV_TYPE)}, not by body weight")
        return 1.0
    if units == "BQML":
        return _of_activity(dataset)
    if units == "CNTS":
        ready, activity = _private(dataset, *_PHILIPS_SUV), _private(dataset, *_PHILIPS_ACTIVITY)
        if factor := _positive(ready):
            _check_corrections(dataset)
            return factor
        if factor := _positive(activity):
            return factor * _of_activity(dataset)
        raise Unknown("its Units (0054,1001) are counts, and it has no factor of Philips to make activity of them")
    raise Unknown(f"its Units (0054,1001) are {units or 'missing'}, not BQML, GML or CNTS")


def _of_activity(dataset: Dataset) -> float:
    """For values in Bq/ml."""
    _check_corrections(dataset)
    correction = text(dataset, DECAY_CORRECTION)
    if correction not in ("START", "ADMIN"):
        raise Unknown(f"its Decay Correction (0054,1102) is {correction or 'missing'}, not START or ADMIN")
    weight = number(dataset, WEIGHT)
    if not weight or weight < 0:
        raise Unknown("the weight of the patient (0010,1030) is missing")
    injected = next(iter(items(dataset, RADIOPHARMACEUTICAL)), {})
    dose = number(injected, DOSE)
    if not dose or dose < 0:
        raise Unknown("Radionuclide Total Dose (0018,1074) is missing")
    if dose < LEAST_DOSE:
        raise Unknown("Radionuclide Total Dose (0018,1074) is too small to be in Bq")
    left = dose if correction == "ADMIN" else dose * 2.0 ** -_half_lives(dataset, injected)
    return weight * 1000.0 / left


def _check_corrections(dataset: Dataset) -> None:
    corrected = set(map(str, values(dataset, CORRECTED)))
    if not corrected >= {"ATTN", "DECY"}:
        raise Unknown("its Corrected Image (0028,0051) is without attenuation (ATTN) or decay (DECY)")


def _half_lives(dataset: Dataset, injected: Dataset) -> float:
    """How many half-lives there are from the injection to the time that decay is corrected to."""
    half_life = number(injected, HALF_LIFE)
    if not half_life or half_life < 0:
        raise Unknown("Radionuclide Half Life (0018,1075) is missing")
    scan = _scan_start(dataset, half_life)
    start = moment_of(text(injected, START))
    if start is None:
        time = text(injected, START_TIME)
        start = moment_of(f"{scan:%Y%m%d}", time) if time else None
        # Without a date it was before the scan, perhaps before midnight.
        if start is not None and start > scan:
            start -= _DAY
    if start is None:
        raise Unknown("when the injection was (0018,1072 or 0018,1078) is missing")
    passed = (scan - start).total_seconds() / half_life
    if not 0 <= passed <= MOST_HALF_LIVES:
        raise Unknown("the injection is after the scan, or too long before it")
    return passed


def _scan_start(dataset: Dataset, half_life: float) -> datetime:
    """When the scan began: the series, unless it was made later than it was acquired; then as GE says, or by the frame."""
    series, acquired = (moment_of(text(dataset, date), text(dataset, time)) for date, time in (SERIES, ACQUISITION))
    if series is not None and (acquired is None or series <= acquired):
        return series
    begun = moment_of(_private(dataset, *_GE_START))
    if begun is not None:
        return begun
    reference, duration = number(dataset, REFERENCE_TIME), number(dataset, FRAME_DURATION)
    if acquired is None or reference is None or not duration or duration < 0:
        raise Unknown("when the scan began is not known: Series Time is after Acquisition Time, or missing")
    # Both in milliseconds. The frame's reference is where its mean activity is, this long after its begin.
    decay = math.log(2) / half_life * duration / 1000
    mean = math.log(decay / -math.expm1(-decay)) / decay * duration / 1000
    return acquired - timedelta(seconds=reference / 1000 - mean)


def moment_of(day: str, time: str | None = None) -> datetime | None:
    """A DT value, or those of DA and TM, without its time zone: all of them are of one scanner."""
    if time is None:
        whole = moment(re.split("[+-]", day)[0])
        key = whole.low if whole is not None and len(day) >= len("YYYYMMDDHHMM") else ""
    else:
        when, clock = date_key(day), time_span(time)
        key = f"{when}{clock.low}" if when and clock else ""
    try:
        return datetime.strptime(key, "%Y%m%d%H%M%S.%f") if key else None
    except ValueError:
        return None


def _private(dataset: Dataset, group: str, creator: str, element: str) -> str:
    """The first value of a private element, in the block that its creator has (PS3.5 7.8.1)."""
    for block in range(0x10, 0x100):
        if text(dataset, f"{group}00{block:02X}") == creator:
            found = dataset.get(f"{group}{block:02X}{element}", {})
            if "InlineBinary" in found:
                # Of Implicit VR, where nobody knows what it is.
                return _decoded(str(found["InlineBinary"]))
            return text(dataset, f"{group}{block:02X}{element}")
    return ""


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value).decode("ascii").strip("\0 ").partition("\\")[0]
    except (binascii.Error, ValueError):
        return ""


def _positive(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) and found > 0 else 0.0
