"""What a window in SUV is in the units of a PET image's modality LUT: of classic, converted and enhanced images (PS3.3 C.8.9, C.8.22).

Enhanced images say by Real World Value Mappings what their values are, SUV or an activity (PS3.3 C.7.6.16.2.11).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from dicomweb.rendering.suv import (
    DOSE,
    HALF_LIFE,
    LEAST_DOSE,
    MODALITY,
    MOST_HALF_LIVES,
    RADIOPHARMACEUTICAL,
    START,
    UNITS,
    WEIGHT,
    Unknown,
    moment_of,
    suv_factor,
)
from dicomweb.rendering.values import SHARED_GROUPS, items, macro, number, own_groups, text
from storage.types import Dataset

REAL_WORLD, REAL_SLOPE, REAL_INTERCEPT, REAL_UNITS, CODE = "00409096", "00409225", "00409224", "004008EA", "00080100"
PIXEL_VALUE_TRANSFORMATION, SLOPE, INTERCEPT = "00289145", "00281053", "00281052"
UNASSIGNED_SHARED, UNASSIGNED_PER_FRAME = "00209170", "00209171"
DECAY_CORRECTED, ATTENUATION_CORRECTED, CORRECTED_TO = "00189758", "00189759", "00189701"
# UCUM writes annotations before or after the unit; CID 85 after, many before.
SUV_UNITS: Final = frozenset({"g/ml{SUVbw}", "{SUVbw}g/ml"})
# Bq/ml in one of each.
ACTIVITY_UNITS: Final = {"Bq/ml": 1.0, "Bq/mL": 1.0, "kBq/ml": 1e3, "MBq/ml": 1e6}


class Uptake(NamedTuple):
    """SUV by body weight is `factor` times the output of the modality LUT, and `offset` more."""

    factor: float
    offset: float = 0.0


class _Mapping(NamedTuple):
    """A real-world value is `slope` times the stored value, and `intercept` more."""

    slope: float
    intercept: float
    units: str


def uptake(dataset: Dataset, frame: int = 1) -> Uptake:
    """Of a frame (from 1) of a PET image. Raises Unknown, with what is missing or wrong."""
    if text(dataset, MODALITY) != "PT":
        raise Unknown("SUV is of PET images")
    ready = next((one for one in _mappings(dataset, frame) if one.units in SUV_UNITS), None)
    known = _with_unassigned(dataset, frame)
    if text(known, UNITS) or not items(dataset, SHARED_GROUPS):
        try:
            return Uptake(suv_factor(known))
        except Unknown:
            if ready is None:
                raise
    if ready is not None:
        return _through(ready, dataset, frame)
    for one in _mappings(dataset, frame):
        if one.units in ACTIVITY_UNITS:
            factor, offset = _through(one, dataset, frame)
            each = ACTIVITY_UNITS[one.units] * _of_enhanced(dataset)
            return Uptake(factor * each, offset * each)
    raise Unknown("its Real World Value Mapping (0040,9096) is neither to SUV by body weight nor to Bq/ml")


def _mappings(dataset: Dataset, frame: int) -> Iterator[_Mapping]:
    """Those of the frame, else of all frames, else of the image, that are linear."""
    for group in (*own_groups(dataset, frame), *items(dataset, SHARED_GROUPS)[:1], dataset):
        for item in items(group, REAL_WORLD):
            slope, intercept = number(item, REAL_SLOPE), number(item, REAL_INTERCEPT)
            if slope and intercept is not None:
                yield _Mapping(slope, intercept, text(next(iter(items(item, REAL_UNITS)), {}), CODE))


def _through(mapping: _Mapping, dataset: Dataset, frame: int) -> Uptake:
    """From the output of the modality LUT back to stored values, and from there to those of the mapping."""
    group = macro(dataset, frame, PIXEL_VALUE_TRANSFORMATION)
    slope, intercept = number(group, SLOPE) or 1.0, number(group, INTERCEPT) or 0.0
    factor = mapping.slope / slope
    return Uptake(factor, mapping.intercept - factor * intercept)


def _with_unassigned(dataset: Dataset, frame: int) -> Dataset:
    """With what a conversion from classic images had no other place for (PS3.3 C.7.6.16.2.24, C.7.6.16.2.25)."""
    shared, own = items(dataset, SHARED_GROUPS)[:1], own_groups(dataset, frame)
    found: dict[str, Any] = {}
    for groups, tag in ((shared, UNASSIGNED_SHARED), (own, UNASSIGNED_PER_FRAME)):
        found |= {key: value for group in groups for item in items(group, tag)[:1] for key, value in item.items()}
    return {**found, **dataset} if found else dataset


def _of_enhanced(dataset: Dataset) -> float:
    """SUV of one Bq/ml: the dose is in MBq here, and decays to the time that all frames are corrected to (PS3.3 C.8.22.4, C.8.22.6)."""
    if text(dataset, DECAY_CORRECTED) != "YES" or text(dataset, ATTENUATION_CORRECTED) != "YES":
        raise Unknown("it is without attenuation correction (0018,9759) or decay correction (0018,9758)")
    injected = items(dataset, RADIOPHARMACEUTICAL)
    if len(injected) != 1:
        raise Unknown(f"it has {len(injected)} radiopharmaceuticals (0054,0016), not one")
    weight, dose, half_life = number(dataset, WEIGHT), number(injected[0], DOSE), number(injected[0], HALF_LIFE)
    if not weight or weight < 0:
        raise Unknown("the weight of the patient (0010,1030) is missing")
    if not dose or dose < 0 or not half_life or half_life < 0:
        raise Unknown("Radionuclide Total Dose (0018,1074) or Radionuclide Half Life (0018,1075) is missing")
    start, to = moment_of(text(injected[0], START)), moment_of(text(dataset, CORRECTED_TO))
    if start is None or to is None:
        raise Unknown("when the injection was (0018,1078), or the time that decay is corrected to (0018,9701), is missing")
    passed = (to - start).total_seconds() / half_life
    if not 0 <= passed <= MOST_HALF_LIVES:
        raise Unknown("the injection is after the time that decay is corrected to, or too long before it")
    # So much in MBq nobody has been given: it is in Bq, as in classic images.
    left: float = dose * (1e6 if dose < LEAST_DOSE else 1.0) * 2.0**-passed
    return weight * 1000.0 / left
