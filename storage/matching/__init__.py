"""Attribute matching of PS3.4 C.2.2.2, the same for C-FIND and QIDO-RS: conditions, and the pure test of a data set."""

from storage.matching.conditions import (
    ONE,
    STAR,
    AllOf,
    Condition,
    DateTimeRange,
    Empty,
    MomentRange,
    NameFuzzy,
    NameLike,
    Names,
    OneOf,
    Pattern,
    Range,
    Universal,
    like,
    matches,
)
from storage.matching.datasets import matches_dataset, values_of
from storage.matching.keys import MULTIPLE
from storage.matching.parsing import Conditions, combined, in_order, parse, parse_all

__all__ = (
    "MULTIPLE",
    "ONE",
    "STAR",
    "AllOf",
    "Condition",
    "Conditions",
    "DateTimeRange",
    "Empty",
    "MomentRange",
    "NameFuzzy",
    "NameLike",
    "Names",
    "OneOf",
    "Pattern",
    "Range",
    "Universal",
    "combined",
    "in_order",
    "like",
    "matches",
    "matches_dataset",
    "parse",
    "parse_all",
    "values_of",
)
