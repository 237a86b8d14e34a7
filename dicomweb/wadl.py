"""WADL (the W3C member submission of 2009, whose schema gives the order of elements): a document, as XML and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

# Documents are only made here, never read.
from xml.etree.ElementTree import Element, SubElement, indent, tostring

NAMESPACE: Final = "http://wadl.dev.java.net/2009/02"
# Of what there is at most one in its parent; all else is a list in JSON, however many there are.
_SINGLE: Final = frozenset({"application", "resources", "request"})


def application(base: str) -> tuple[Element, Element]:
    """A document for a service at `base`: its root, and the `resources` in it."""
    schema = {"xmlns": NAMESPACE, "xmlns:xsd": "http://www.w3.org/2001/XMLSchema"}
    root = Element("application", schema)
    return root, SubElement(root, "resources", {"base": base})


def resource(parent: Element, path: str, doc: str = "") -> Element:
    """A resource below `parent`; a path such as `{study}` is a template with a parameter of that name."""
    made = SubElement(parent, "resource", {"path": path})
    _doc(made, doc)
    if path.startswith("{"):
        parameter(made, path.strip("{}"), "template", required="true")
    return made


def method(parent: Element, name: str, identity: str, doc: str = "") -> Element:
    """A method of a resource; `identity` is what no other method of the document has."""
    made = SubElement(parent, "method", {"name": name, "id": identity})
    _doc(made, doc)
    return made


def parameter(
    parent: Element, name: str, style: str, *, kind: str = "", options: Iterable[str] = (), **more: str
) -> None:
    """A `param` of `style` template, query or header. `more`: its other attributes, such as default or repeating."""
    made = SubElement(parent, "param", {"name": name, "style": style, **({"type": f"xsd:{kind}"} if kind else {}), **more})
    for value in options:
        SubElement(made, "option", {"value": value})


def representations(parent: Element, media_types: Iterable[str]) -> None:
    """What a body may be, after the parameters of its request or response."""
    for media_type in media_types:
        SubElement(parent, "representation", {"mediaType": media_type})


def as_xml(root: Element) -> bytes:
    """The document in XML."""
    indent(root, " ")
    return bytes(tostring(root, encoding="utf-8", xml_declaration=True))


def as_json(root: Element) -> dict[str, Any]:
    """The same in JSON: attributes are members with an @ before their name, elements are members by theirs."""
    return {root.tag: _json(root)}


def _json(element: Element) -> dict[str, Any]:
    found: dict[str, Any] = {f"@{name}": value for name, value in _plain(element.attrib).items()}
    for child in element:
        if child.tag in _SINGLE:
            found[child.tag] = _json(child)
        else:
            found.setdefault(child.tag, []).append(_json(child))
    return found


def _plain(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if not name.startswith("xmlns")}


def _doc(parent: Element, title: str) -> None:
    if title:
        SubElement(parent, "doc", {"title": title})
