"""Routes: from the path of a request to the endpoint that answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .answers import Endpoint

__all__ = ["Found", "Routes"]
_REST = ":path}"


class Found(NamedTuple):
    """What answers a path.

    Attributes:
        methods: the endpoint for each method.
        parameters: the parts of the path that they name.
    """

    methods: dict[str, Endpoint]
    parameters: dict[str, str]


class _Route(NamedTuple):
    """The endpoints of one path.

    Attributes:
        fixed: the parts of the path that are given, with their positions.
        named: the names of the others, with their positions.
        methods: the endpoint for each method.
    """

    fixed: tuple[tuple[int, str], ...]
    named: tuple[tuple[int, str], ...]
    methods: dict[str, Endpoint]

    def fits(self, parts: list[str]) -> bool:
        """Whether a path has the fixed parts, and some text for the others."""
        return all(parts[place] == part for place, part in self.fixed) and all(parts[place] for place, _ in self.named)

    def name(self, parts: list[str]) -> dict[str, str]:
        """The parts of a path that have names."""
        return {name: parts[place] for place, name in self.named}


class Routes:
    """The endpoints of an application by their paths.

    A part in braces stands for any text without slashes, and is not empty. The last part may be ``{name:path}``, which stands for any text.

    Args:
        endpoints: of paths of which no two fit the same text, but for those that differ in the method.

    Example:
        >>> from ndframes.server.answers import Endpoint
        >>> routes = Routes([Endpoint("GET", "/frames/{name}/tiles", print), Endpoint("GET", "/zarr/{name}/{key:path}", print)])
        >>> routes.find("/frames/cup/tiles").parameters, routes.find("/frames//tiles"), routes.find("/frames/cup")
        ({'name': 'cup'}, None, None)
        >>> routes.find("/zarr/cup/0/c/1").parameters
        {'name': 'cup', 'key': '0/c/1'}
    """

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        by_path: dict[str, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        # By the number of parts and the first one, which leave few to look through; and by the first one, those with a rest.
        self._routes: dict[tuple[int, str], list[_Route]] = {}
        self._with_rest: dict[str, list[tuple[int, str, _Route]]] = {}
        for path, methods in by_path.items():
            parts = path.split("/")
            rest = parts.pop()[1 : -len(_REST)] if path.endswith(_REST) else None
            fixed = tuple((place, part) for place, part in enumerate(parts) if not part.startswith("{"))
            named = tuple((place, part[1:-1]) for place, part in enumerate(parts) if part.startswith("{"))
            route = _Route(fixed, named, methods)
            if rest is None:
                self._routes.setdefault((len(parts), parts[1]), []).append(route)
            else:
                self._with_rest.setdefault(parts[1], []).append((len(parts), rest, route))

    def find(self, path: str) -> Found | None:
        """What answers a path, which begins with a slash; ``None`` if nothing does."""
        parts = path.split("/")
        if len(parts) < 2:
            return None
        for route in self._routes.get((len(parts), parts[1]), ()):
            if route.fits(parts):
                return Found(route.methods, route.name(parts))
        for count, rest, route in self._with_rest.get(parts[1], ()):
            if len(parts) > count and route.fits(parts):
                return Found(route.methods, {**route.name(parts), rest: "/".join(parts[count:])})
        return None
