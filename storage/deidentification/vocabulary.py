"""Words that may stay in a description: those that the standard itself uses, and those of technique; all others go."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.sr._concepts_dict import concepts

_LETTERS: Final = re.compile(r"[^\W\d_]+", re.ASCII)
_WORD: Final = re.compile(r"[\w*.+%-]+|[(),/:]", re.UNICODE)
# Numbers with at most three digits, with or without a unit, names of sequences such as T2 or T2W, and reconstruction kernels.
_TECHNICAL: Final = re.compile(
    r"[+-]?\d{1,3}(\.\d{1,2})?(mm|cm|s|ms|kv|kvp|ma|mas|ml|%|t)?|[23]d|t[12]w?\*?|[a-z]?[bhiuj]\d{2}[a-z]?|c[1-7]|l[1-5]|th?\d{1,2}", re.I
)
_MORE: Final = frozenset(
    ["abd", "abdo", "abdomen", "adc", "angio", "ap", "art", "arterial", "ax", "axial", "b", "bone", "br", "brain", "bw", "c", "cardiac", "cc", "cephal", "cerv", "cervical", "chest", "ciss", "coll", "contrast", "cor", "coronal", "ct", "cta", "ctac", "delay", "delayed", "dce", "dixon", "dti", "dual", "dwi", "dyn", "dynamic", "dx", "dyna", "ecg", "ekg", "echo", "energy", "enhanced", "epi", "fast", "fat", "fb", "fdg", "fiesta", "film", "flair", "flash", "fov", "fs", "fse", "full", "gad", "gd", "gre", "haste", "head", "hip", "hr", "inj", "inner", "insp", "ir", "iso", "kernel", "knee", "l", "la", "lao", "lat", "lateral", "left", "liver", "loc", "localizer", "low", "lower", "lumbar", "lung", "ma", "mag", "med", "mip", "mpr", "mprage", "mr", "mra", "mri", "mrcp", "native", "nac", "neck", "no", "non", "oblique", "opp", "pa", "pelvis", "perf", "pet", "phase", "pd", "pdw", "plain", "post", "pre", "post-contrast", "pre-contrast", "processed", "prone", "prot", "rao", "rad", "recon", "ref", "rest", "right", "routine", "rt", "sag", "sagittal", "scan", "scout", "screening", "se", "series", "sinus", "soft", "spair", "spect", "spine", "space", "spin", "spgr", "stack", "std", "stir", "stress", "stirfs", "study", "sub", "supine", "survey", "swi", "tfe", "thick", "thin", "thorax", "thoracic", "tir", "tirm", "tof", "topogram", "tra", "trans", "transverse", "tse", "tumor", "upper", "us", "vent", "vessel", "vibe", "view", "vol", "volume", "w", "wb", "wo", "with", "without", "whole", "body", "and", "of", "the", "for", "in", "to", "by", "x", "xa"]
)


@cache
def _known() -> frozenset[str]:
    words = set(_MORE)
    for row in DicomDictionary.values():
        words.update(word.lower() for word in _LETTERS.findall(row[2]))
    tables: Any = concepts
    for scheme in tables.values():
        for codes in scheme.values():
            for meaning, *_ in codes.values():
                words.update(word.lower() for word in _LETTERS.findall(meaning))
    return frozenset(words)


def cleaned(text: str, identifying: frozenset[str]) -> str:
    """The words of a description that say nothing of anybody; `identifying` are lower-case words of the same data set."""
    kept = []
    for word in _WORD.findall(text):
        parts = [part for part in re.split(r"[._+-]+", word.lower()) if part]
        if not any(part in identifying for part in parts) and all(_may_stay(part) for part in parts):
            kept.append(word)
    return " ".join(kept)


def _may_stay(part: str) -> bool:
    return not part.strip("(),/:") or part in _known() or _TECHNICAL.fullmatch(part) is not None
