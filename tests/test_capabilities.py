"""Capabilities (PS3.18 8.9, annex H): what OPTIONS says, that it is WADL, and that it is true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import httpx2
import pytest
from starlette.testclient import TestClient

from dicomweb.app import RESOURCES
from dicomweb.wadl import NAMESPACE
from storage.archive import Archive
from tests.support import web
from tests.support.archive import Store
from tests.support.made import instance

WADL = "application/vnd.sun.wadl+xml"
SCHEMA = {
    # Element of WADL -> its attributes, those that it must have, and its children in their order (the submission's schema;
    # what stands in one group may be mixed).
    "application": (set(), set(), (("doc",), ("resources",))),
    "resources": ({"base"}, {"base"}, (("doc",), ("resource",))),
    "resource": ({"id", "path"}, set(), (("doc",), ("param",), ("method", "resource"))),
    "method": ({"id", "name"}, {"name"}, (("doc",), ("request",), ("response",))),
    "request": (set(), set(), (("doc",), ("param",), ("representation",))),
    "response": ({"status"}, set(), (("doc",), ("param",), ("representation",))),
    "representation": ({"id", "mediaType"}, set(), (("doc",),)),
    "param": ({"name", "style", "id", "type", "default", "required", "repeating", "fixed"}, {"name", "style"}, (("doc",), ("option",))),
    "option": ({"value", "mediaType"}, {"value"}, (("doc",),)),
    "doc": ({"title"}, set(), ()),
}
VALUES = {
    "style": r"plain|query|matrix|header|template",
    "type": r"xsd:(string|boolean|decimal|positiveInteger|nonNegativeInteger)",
    "required": r"true|false",
    "repeating": r"true|false",
    "status": r"\d{3}( \d{3})*",
    "id": r"[A-Za-z_][\w.-]*",
    "name": r"[\w.-]+",
    "mediaType": r"[a-z]+/[\w.+-]+(; (type=\"[a-z]+/[\w.+-]+\"|transfer-syntax=(\*|[0-9.]+)))*",
}


@pytest.fixture
def client(archive: Archive) -> TestClient:
    return web.client(archive)


def options(client: TestClient, path: str, accept: str = WADL) -> httpx2.Response:
    answer: httpx2.Response = client.options(path, headers={"Accept": accept})
    return answer


def document(client: TestClient, path: str = "/") -> ElementTree.Element:
    answer = options(client, path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, WADL)
    return ElementTree.fromstring(answer.content)


def local(element: ElementTree.Element) -> str:
    namespace, _, name = element.tag.rpartition("}")
    assert namespace == "{" + NAMESPACE
    return name


def walk(element: ElementTree.Element, path: str = "") -> Iterator[tuple[str, ElementTree.Element]]:
    """Every method, with the path of its resource."""
    for child in element:
        if local(child) == "method":
            yield path, child
        else:
            yield from walk(child, f"{path}/{child.get('path')}" if local(child) == "resource" else path)


def below(method: ElementTree.Element, kind: str, style: str = "") -> list[str]:
    found = [one for one in method.iter() if local(one) == kind and (not style or one.get("style") == style)]
    return [str(one.get("name") or one.get("value") or one.get("mediaType")) for one in found]


@pytest.mark.parametrize("path", ["/", "", "studies", "studies/1.2/series/1.3/instances/1.4/frames/1", "workitems", "http://pacs.test/wado"])
def test_it_is_wadl_as_the_schema_has_it(client: TestClient, path: str) -> None:
    root = document(client, path)
    assert local(root) == "application"
    for element in root.iter():
        possible, needed, groups = SCHEMA[local(element)]
        assert needed <= set(element.attrib) <= possible, local(element)
        for name, value in element.attrib.items():
            assert re.fullmatch(VALUES.get(name, ".+"), value), f"{name}={value}"
        order = [next(at for at, group in enumerate(groups) if local(child) in group) for child in element]
        assert order == sorted(order), f"the children of {local(element)} are out of order"
    identities = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(identities) == len(set(identities))
    # Annex H: one element of it, with the base URL of the service.
    assert [one.get("base") for one in root] == ["http://pacs.test" + ("" if "wado" in path else "/dicom-web")]


def test_every_resource_and_method_is_in_it(client: TestClient) -> None:
    described = {(path, method.get("name")) for path, method in walk(document(client))}
    routed = {(one.path.replace(":path}", "}"), method) for one in RESOURCES for method in one.methods if method != "OPTIONS"}
    assert described == routed


@pytest.mark.parametrize(
    ("path", "first", "methods"),
    [
        ("studies/1.2", "/studies/{study}", {"RetrieveStudy", "StoreStudyInstances", "RetrieveStudyMetadata", "SearchForStudySeries"}),
        ("studies/1.2/series/3", "/studies/{study}/series/{series}", {"RetrieveSeries", "SearchForStudySeriesInstances", "RetrieveFrames"}),
        ("series", "/series", {"SearchForSeries"}),
        ("workitems/1.2/state/ME", "/workitems/{workitem}/state/{requester}", {"ChangeWorkitemStateByRequester"}),
    ],
)
def test_a_resource_describes_itself_and_those_below(client: TestClient, path: str, first: str, methods: set[str]) -> None:
    """Annex H: the target resource, all its methods and child resources; table H-1 for their names."""
    found = list(walk(document(client, path)))
    assert all(place == first or place.startswith(f"{first}/") for place, _ in found)
    assert {str(method.get("id")) for _, method in found} >= methods


@pytest.mark.parametrize("path", ["studies", "studies/1.2", "studies/1.2/metadata", "workitems", "workitems/1.2/state", "http://pacs.test/wado"])
def test_allow_says_the_methods(client: TestClient, path: str) -> None:
    allowed = set(client.options(path).headers["allow"].split(", "))
    root = document(client, path)
    own = min((place for place, _ in walk(root)), key=len)
    described = {str(method.get("name")) for place, method in walk(root) if place == own}
    assert allowed == described | {"OPTIONS"} | ({"HEAD"} if "GET" in described else set())


def test_json_says_the_same(client: TestClient) -> None:
    answer = options(client, "studies", "application/json")
    assert answer.headers["content-type"] == "application/json"
    (studies,) = answer.json()["application"]["resources"]["resource"]
    found: list[dict[str, Any]] = studies["method"]
    assert [one["@id"] for one in found] == [str(one.get("id")) for place, one in walk(document(client, "studies")) if place == "/studies"]
    (search,) = (one for one in found if one["@name"] == "GET")
    assert "PatientName" in [one["@name"] for one in search["request"]["param"]]
    assert "application/dicom+json" in [one["@mediaType"] for one in search["response"][0]["representation"]]


@pytest.mark.parametrize(
    ("accept", "status", "kind"),
    [
        ("", 200, WADL),
        ("*/*", 200, WADL),
        ("application/json;q=0.9, application/vnd.sun.wadl+xml;q=0.1", 200, "application/json"),
        ("text/html, application/xhtml+xml", 406, "application/json"),
    ],
)
@pytest.mark.parametrize("path", ["/", "studies/1.2/metadata", "workitems", "http://pacs.test/wado"])
def test_accept_chooses(client: TestClient, path: str, accept: str, status: int, kind: str) -> None:
    answer = options(client, path, accept)
    assert (answer.status_code, answer.headers["content-type"]) == (status, kind)
    if status == 406:
        assert f"{WADL}, application/json" in answer.json()["error"]


def test_an_event_channel_says_what_it_is(client: TestClient) -> None:
    """PS3.18 8.10.4: to who does not ask for a WebSocket."""
    answer = client.get("subscribers/ME")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert "WebSocket" in answer.json()["error"]
    assert client.options("subscribers/ME").headers["allow"] == "GET, HEAD, OPTIONS"
    with client.websocket_connect("ws://pacs.test/dicom-web/subscribers/ME"):
        pass


def test_what_is_not_there_is_not_described(client: TestClient) -> None:
    for method in ("OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE"):
        assert client.request(method, "nothing/here").status_code == 404
    assert client.get("/").headers["allow"] == "OPTIONS"


def test_attributes_made_searchable_are_in_it_at_once(client: TestClient, archive: Archive) -> None:
    archive.index.searchables.add(("00400555", "0040A160"), "UT")
    searches = {method.get("id"): below(method, "param", "query") for _, method in walk(document(client, "/"))}
    path = "AcquisitionContextSequence.TextValue"
    assert {path, "00400555.0040A160"} <= set(searches["SearchForInstances"])
    assert path not in searches["SearchForStudies"]


def test_every_search_parameter_that_it_names_is_taken(client: TestClient, store: Store) -> None:
    store(instance())
    values = {"emptyvaluematching": "false", "offset": "0", "limit": "1", "includefield": "all", "accept": "application/json", "charset": "utf-8"}
    for path, method in walk(document(client)):
        if str(method.get("id")).startswith("SearchFor"):
            place = path.format(study="1.2.3", series="1.2.3.4")
            names = [one for one in below(method, "param", "query") if one not in ("orderby", "cursor")]
            assert len(names) > 10
            for at in range(0, len(names), 150):
                asked = {name: values.get(name, "true" if name.endswith(("matching", "count")) else "") for name in names[at : at + 150]}
                answer = client.get(place.lstrip("/"), params=asked)
                assert answer.status_code == 200, f"{place}: {answer.text}"


def test_every_media_type_that_it_names_can_be_asked_for(client: TestClient, store: Store) -> None:
    """Not of every instance: but where it is of none that is stored, the refusal says so and not that it is unknown."""
    store(instance())
    made = {"study": "1.2.3", "series": "1.2.3.4", "instance": "1.2.3.4.1", "frames": "1"}
    for path, method in walk(document(client)):
        kinds = below(method, "option")
        if method.get("name") != "GET" or not set(re.findall(r"\{(\w+)\}", path)) <= set(made):
            continue
        place = path.format(**made).lstrip("/")
        answers = {kind: client.get(place, headers={"Accept": kind}).status_code for kind in kinds if "/" in kind}
        assert answers[kinds[0]] in (200, 204), f"{path}: the default {kinds[0]}"
        assert set(answers.values()) <= {200, 204, 406}, f"{path}: {answers}"
