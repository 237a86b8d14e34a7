"""Routes found by the shape of a path: its depth and its last segment leave a few patterns to try, of a hundred."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound, Route
from starlette.types import Receive, Scope, Send

_Shape = tuple[int, str]


class ByShape(BaseRoute):
    """Stands for `routes`, tried in their order; whoever looks at the scope sees the one that matched.

    A thumbnail is answered from memory: trying every pattern before its own would cost more than all the rest.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes
        endings = {path.rpartition("/")[2] for one in routes if "{" not in (path := _path(one)).rpartition("/")[2]}
        depths = {_path(one).count("/") for one in routes}
        self._by_shape: dict[_Shape, list[BaseRoute]] = {}
        for depth in depths:
            for ending in (*endings, ""):
                self._by_shape[depth, ending] = [one for one in routes if _may_match(one, depth, ending)]
        self._endings = endings

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        ending = path.rpartition("/")[2]
        shape = path.count("/"), ending if ending in self._endings else ""
        # A depth that no pattern has is that of a path below bulk data, or of nothing: nobody is in a hurry there.
        for route in self._by_shape.get(shape, self._routes):
            match, child = route.matches(scope)
            if match is not Match.NONE:
                # The router takes this over from us, after it has named us.
                return match, {**child, "route": route}
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: str) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["route"].handle(scope, receive, send)


def _path(route: BaseRoute) -> str:
    return str(getattr(route, "path", ""))


def _may_match(route: BaseRoute, depth: int, ending: str) -> bool:
    path = _path(route)
    if not isinstance(route, Route) or ":path}" in path:
        return True
    own = path.rpartition("/")[2]
    return path.count("/") == depth and ("{" in own or own == ending)
