"""Retrieve Capabilities (PS3.18 8.9, annex H): what a resource and those below it can do, in WADL, as XML or JSON.

Made from the table of resources, the table of transactions and the table of attributes, when it is asked for: attributes
that an administrator makes searchable are in it at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement

import orjson

from dicomweb import negotiation, wadl
from dicomweb.exchange import Answer, Call, Reader
from dicomweb.media_types import JSON
from dicomweb.search_parameters import PARAMETERS as SEARCHING
from dicomweb.search_parameters import open_levels
from dicomweb.transactions import DESCRIBED, Resource, Transaction
from storage.attributes import TABLE, name_of
from storage.index.searchable import Searchable
from storage.non_patient import CATEGORIES
from storage.types import Level

_VARIABLE: Final = re.compile(r"\{(\w+)(?::path)?\}")
_LEVELS: Final = ("study", "series", "instance", "frames")
# Parameters of queries that are not text: type in XML Schema, and what else is said of them.
_TYPES: Final[dict[str, tuple[str, dict[str, str]]]] = {
    **dict.fromkeys(("limit", "offset"), ("nonNegativeInteger", {})),
    **dict.fromkeys(("frameNumber", "quality", "imageQuality", "rows", "columns"), ("positiveInteger", {})),
    **dict.fromkeys(("windowCenter", "windowWidth"), ("decimal", {})),
    **dict.fromkeys(
        ("fuzzymatching", "emptyvaluematching", "multiplevaluematching", "totalcount", "deletionlock"),
        ("boolean", {"default": "false"}),
    ),
    **dict.fromkeys(("includefield", "orderby"), ("", {"repeating": "true"})),
    **dict.fromkeys(("requestType", "studyUID", "seriesUID", "objectUID"), ("", {"required": "true"})),
}
_OPTIONS: Final = {"includefield": ("all",), "requestType": ("WADO",), "annotation": ("patient", "technique")}

Known = Callable[[], Mapping[tuple[str, ...], Searchable]]


class Capabilities:
    """Describes `resources`, which lie below `mount` of this server; `path` is where the service does.

    `sections` has the section of PS3.18 for each name of what answers; `known` are the additional attributes.
    """

    def __init__(
        self, resources: Sequence[Resource], sections: Mapping[str, str], known: Known, *, path: str, mount: str
    ) -> None:
        self._resources = resources
        self._sections = sections
        self._known = known
        self._path = path
        self._mount = mount

    def of(self, path: str) -> Reader:
        """What answers OPTIONS at a path of the table. Raises NotAcceptable."""

        def answer(call: Call) -> Answer:
            offer = negotiation.choose(call.accepted(), negotiation.CAPABILITIES)
            document = self.document(call.root.removesuffix(self._path) + self._mount, path)
            body = orjson.dumps(wadl.as_json(document)) if offer.media_type == JSON else wadl.as_xml(document)
            return Answer(200, {"Content-Type": offer.media_type, "Vary": "Accept"}, (body,))

        return answer

    def document(self, base: str, path: str) -> Element:
        """The WADL of a service at `base`: the resource at `path` with its methods and all below it, in its place."""
        root, resources = wadl.application(base)
        made: dict[tuple[str, ...], Element] = {(): resources}
        names = self._parameters_by_level()
        for one in self._resources:
            if one.path == path or path == "/" or one.path.startswith(f"{path}/"):
                self._describe(one, _place(made, one.path), names)
        return root

    def _describe(self, resource: Resource, place: Element, names: Mapping[Level, Sequence[str]]) -> None:
        for method, name in resource.methods.items():
            # WADL does not describe how it is itself retrieved (annex H).
            if method != "OPTIONS":
                transaction = DESCRIBED[name]
                made = wadl.method(place, method, _identity(transaction.name, resource), self._sections[name])
                _request(made, transaction, _matched(transaction, resource, names))
                _responses(made, transaction)

    def _parameters_by_level(self) -> dict[Level, list[str]]:
        """The attributes that are matched, by keyword and by tag (annex H), at the level where they live."""
        found: dict[Level, list[str]] = {level: [] for level in Level}
        for attribute in TABLE.values():
            found[attribute.level] += [attribute.keyword, attribute.tag]
        for path, one in self._known().items():
            # A private attribute is asked for by its tag, and its creator's.
            if not any(":" in tag for tag in path):
                found[one.level] += [".".join(map(name_of, path)), ".".join(path)]
        return found


def _place(made: dict[tuple[str, ...], Element], path: str) -> Element:
    """The element of a path, with those above it; segment by segment, each made once."""
    place = made[()]
    at: tuple[str, ...] = ()
    for segment in filter(None, path.replace(":path}", "}").split("/")):
        at = (*at, segment)
        if at not in made:
            made[at] = wadl.resource(place, segment)
        place = made[at]
    return place


def _identity(name: str, resource: Resource) -> str:
    """The name of a transaction at a path, as annex H has it: RetrieveStudyMetadata, SearchForStudySeries."""
    levels = [one.capitalize() for one in _VARIABLE.findall(resource.path) if one in _LEVELS]
    end = "ByRequester" if resource.path.endswith("{requester}") else ""
    npi = "".join(map(str.capitalize, resource.fixed.get("npi", "").split("-")))
    return name.format(level=levels[-1] if levels else "", parents="".join(levels), end=end, npi=npi)


def _matched(transaction: Transaction, resource: Resource, names: Mapping[Level, Sequence[str]]) -> Iterator[str]:
    category = CATEGORIES.get(resource.fixed.get("npi", "")) if transaction.parameters is SEARCHING else None
    for tag in sorted(category.tags if category else ()):
        yield from (name_of(tag), tag)
    if transaction.level is None:
        return
    levels = set(open_levels(_VARIABLE.findall(resource.path), transaction.level))
    # A patient's attributes are the study's (PS3.18 table 10.6.1-5).
    levels |= {Level.PATIENT} if Level.STUDY in levels else set()
    for level in sorted(levels, key=list(Level).index):
        yield from names[level]


def _request(method: Element, transaction: Transaction, matched: Iterable[str]) -> None:
    request = SubElement(method, "request")
    if transaction.gives:
        wadl.parameter(request, "Accept", "header", options=transaction.gives, default=transaction.gives[0])
    for name in transaction.sends:
        wadl.parameter(request, name, "header")
    for name in sorted(transaction.parameters):
        kind, more = _TYPES.get(name, ("", {}))
        wadl.parameter(request, name, "query", kind=kind, options=_OPTIONS.get(name, ()), **more)
    for name in matched:
        wadl.parameter(request, name, "query")
    wadl.representations(request, transaction.takes)


def _responses(method: Element, transaction: Transaction) -> None:
    success = SubElement(method, "response", {"status": transaction.success})
    for name in transaction.answers:
        wadl.parameter(success, name, "header")
    wadl.representations(success, transaction.gives)
    failure = SubElement(method, "response", {"status": transaction.failure})
    wadl.representations(failure, (JSON,))
