"""The same answers in another form, as services of other makers write them: a drill for whoever reads them.

Nothing changes its meaning: whole numbers become 5.0 or "5", UUIDs get capitals, quantities of what is available
are null, unknown fields appear and a byte order mark stands in front.
"""

from __future__ import annotations

import codecs
import re
from typing import Any

import orjson
from starlette.responses import Response

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_AS_TEXT = frozenset({"requestedQuantity", "quantity"})


def in_another_form(response: Response) -> Response:
    """The same status and meaning, written as another service would."""
    body = _other(orjson.loads(response.body))
    content = codecs.BOM_UTF8 + orjson.dumps(body | {"apiVersion": "2.7", "links": []})
    headers = {"Retry-After": wait} if (wait := response.headers.get("Retry-After")) else None
    return Response(content, response.status_code, headers, media_type="application/json")


def _other(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        other = {key: _other(inner, key) for key, inner in value.items()}
        if other.get("available") is True and "availableQuantity" in other:
            other |= {"availableQuantity": None, "tracking": "NOT_TRACKED"}
        return other
    if isinstance(value, list):
        return [_other(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if name in _AS_TEXT else float(value)
    if isinstance(value, str) and _UUID.fullmatch(value):
        return value.upper()
    return value
