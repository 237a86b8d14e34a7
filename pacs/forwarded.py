"""What a client asked for before proxies asked us: Forwarded (RFC 7239) and X-Forwarded-*, of those that are trusted alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+){1,8}")
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PORTS = {"http": "80", "https": "443"}
# token or quoted-string (RFC 9110 5.6), separated by semicolons and commas: a list of elements of pairs (RFC 7239 4).
_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*([;,]|$)')
_MOST_HOPS = 32
_CUSTOMARY = frozenset({"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"})


@dataclass(frozen=True, slots=True)
class Origin:
    """The request as its client made it; what no trusted proxy told is empty."""

    client: str = ""
    scheme: str = ""
    authority: str = ""
    prefix: str = ""


class Proxies:
    """Those whose word is taken: addresses and networks."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._networks = tuple(ip_network(one, strict=False) for one in trusted)

    def __contains__(self, address: str) -> bool:
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def origin(self, peer: str, headers: Mapping[str, str]) -> Origin | None:
        """What came before `peer`, which sent `headers` (names in lower case); None when its word is not taken: it is not
        trusted, or Forwarded and X-Forwarded-* contradict each other.

        Every proxy adds itself on the right, so the lists are read from there, for as long as the one who added is
        trusted: what a client wrote itself stands further left, and is never reached.
        """
        if peer not in self:
            return None
        if "forwarded" not in headers:
            return self._customary(headers)
        told = self._standard(headers["forwarded"], headers)
        if _CUSTOMARY.isdisjoint(headers) or _agree(told, self._customary(headers)):
            return told
        # A proxy that writes one kind passes the other on as the client wrote it, and nobody knows which it writes.
        return None

    def _standard(self, text: str, headers: Mapping[str, str]) -> Origin:
        client, scheme, authority = "", "", ""
        for element in reversed(_elements(text)):
            client = _node(element.get("for", ""))
            scheme = _SCHEMES.get(element.get("proto", "").lower(), scheme)
            authority = _authority(element.get("host", "")) or authority
            if client not in self:
                break
        return Origin(client, scheme, authority, _prefix(headers))

    def _customary(self, headers: Mapping[str, str]) -> Origin:
        client, hops = "", 0
        for hops, one in enumerate(reversed(_listed(headers, "x-forwarded-for")), start=1):  # noqa: B007
            client = _node(one)
            if client not in self:
                break
        scheme = _SCHEMES.get(_of_hop(headers, "x-forwarded-proto", hops).lower(), "")
        authority = _authority(_of_hop(headers, "x-forwarded-host", hops))
        port = _of_hop(headers, "x-forwarded-port", hops)
        return Origin(client, scheme, _with_port(authority, port, scheme), _prefix(headers))


class Forwarded:
    """ASGI middleware: behind trusted proxies, the scope is that of the client's own request.

    Its address, scheme and host become those that it used, and its path's prefix the `root_path`.
    """

    def __init__(self, app: ASGIApp, trusted: Iterable[str]) -> None:
        self._app = app
        self._proxies = Proxies(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope.get("client"):
            origin = self._proxies.origin(scope["client"][0], _headers(scope))
            if origin is not None:
                _apply(scope, origin)
        await self._app(scope, receive, send)


def _agree(one: Origin, other: Origin) -> bool:
    """Whether both kinds of headers name the same client, and nothing that they both say differs."""
    pairs = ((one.scheme, other.scheme), (one.authority, other.authority))
    return one.client == other.client and all(not a or not b or a == b for a, b in pairs)


def _apply(scope: Scope, origin: Origin) -> None:
    if origin.client:
        scope["client"] = (origin.client, 0)
    if origin.scheme:
        secure = origin.scheme == "https"
        scope["scheme"] = origin.scheme if scope["type"] == "http" else ("wss" if secure else "ws")
    if origin.authority:
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [(b"host", origin.authority.encode("ascii")), *others]
    if origin.prefix:
        scope["root_path"] = origin.prefix + scope.get("root_path", "")
        # A path of ASGI has its root in it; without, a route whose name is that of the prefix would lose it.
        scope["path"] = origin.prefix + scope["path"]


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1")
        if name.startswith(("forwarded", "x-forwarded-")):
            text = value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _elements(text: str) -> list[dict[str, str]]:
    """The elements of Forwarded. What cannot be read ends the list on its left: what is right of it was added later."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            comma = text.find(",", at)
            if comma < 0:
                return []
            elements, at = [{}], comma + 1
            continue
        elements[-1].setdefault(pair[1].lower(), _unquoted(pair[2]))
        if pair[3] == ",":
            elements.append({})
        at = pair.end()
    return [element for element in elements if element][-_MOST_HOPS:]


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _listed(headers: Mapping[str, str], name: str) -> Sequence[str]:
    return [one.strip() for one in headers.get(name, "").split(",") if one.strip()][-_MOST_HOPS:]


def _of_hop(headers: Mapping[str, str], name: str, hops: int) -> str:
    """What the outermost trusted proxy wrote: as far from the right as it stands in X-Forwarded-For, if all wrote one."""
    values = _listed(headers, name)
    return values[-min(max(hops, 1), len(values))] if values else ""


def _node(text: str) -> str:
    """The address of a node, without its port (RFC 7239 6); empty for one that hides its address or has none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return text if _address(text) is not None else ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _authority(text: str) -> str:
    return text if _AUTHORITY.fullmatch(text) else ""


def _with_port(authority: str, port: str, scheme: str) -> str:
    """The port that the client used, where the host does not say it and the scheme does not mean it."""
    if not authority or not port.isascii() or not port.isdigit() or len(port) > 5 or _PORTS.get(scheme) == port:
        return authority
    return authority if ":" in authority.rpartition("]")[2] else f"{authority}:{port}"


def _prefix(headers: Mapping[str, str]) -> str:
    """The part of the path that the nearest proxy takes off; a path and nothing else, or it is not believed."""
    values = _listed(headers, "x-forwarded-prefix")
    text = values[-1].rstrip("/") if values else ""
    return text if _PREFIX.fullmatch(text) and "/../" not in f"{text}/" and "/./" not in f"{text}/" else ""
