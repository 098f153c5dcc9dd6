"""Routes whose path parameters may be any text: they are cut at the slashes that were sent, and decoded afterwards.

A server decodes a path before it is routed, so `a%2Fb` would become two segments. These routes look at the path as it
came (ASGI's `raw_path`): https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope
"""

from urllib.parse import unquote

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from store_runtime.errors import InvalidInput


class EncodedPathRoute(APIRoute):
    """Use as `APIRouter(route_class=EncodedPathRoute)`; raises InvalidInput for what is not UTF-8."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raw_path: bytes = scope["raw_path"].partition(b"?")[0]
        match, found = super().matches({**scope, "path": raw_path.decode("ascii", "replace")})
        if "path_params" in found:
            found["path_params"] = {name: _decoded(name, text) for name, text in found["path_params"].items()}
        return match, found


def _decoded(name: str, text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput(f"{name} in the path is not percent-encoded UTF-8", field=name) from None
