"""`python -m edge_fleet.access.table`: which role may what, and with --routes the right of every route."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from starlette.routing import BaseRoute

from edge_fleet.api.access import area_of, every, stated_right
from edge_fleet.auth import PERSONAL, RIGHTS, Right


def roles() -> str:
    """The table of docs/access.md, from `auth.RIGHTS`."""
    lines = [f"| | {' | '.join(Right)} |", "|" + "---|" * (len(Right) + 1)]
    for role in PERSONAL:
        cells = (" yes |" if right in RIGHTS[role] else " |" for right in Right)
        lines.append(f"| `{role}` |" + "".join(cells))
    return "\n".join(lines)


def rights(routes: Iterable[BaseRoute]) -> Iterator[str]:
    """A line for each route: method, path, right and area."""
    for route in every(routes):
        right = stated_right(route)
        says = f"{right} {area_of(route)}" if right else "a device of its own, or public"
        for method in sorted(route.methods or ()):
            yield f"{method:6} {route.path:45} {says}"


def main() -> None:
    """Print."""
    if "--routes" in sys.argv:
        from edge_fleet.app import routers

        for router in routers():
            print("\n".join(rights(router.routes)))
    else:
        print(roles())


if __name__ == "__main__":
    main()
