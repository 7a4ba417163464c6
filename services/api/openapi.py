"""The OpenAPI 3.1 document of the routes, with error bodies and examples, and the Swagger UI page."""

from __future__ import annotations

import asyncio
import functools
from http import HTTPStatus
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from services.api.envelope import STATUS_OF
from services.http_server.envelope import json_response

REFERENCE = "#/components/schemas/"
ERROR_ANSWER = {"$ref": f"{REFERENCE}ErrorAnswer"}
ALWAYS_POSSIBLE = (400, 401, 403, 404, 500)
WITH_BODY = (413, 415)

OPENAPI, DOCS, STATIC = "/api/v1/openapi.json", "/api/v1/docs", "/api/v1/docs/static"
STATIC_FILES = Path(fastapi_offline.__file__).parent / "static"
"""Files of Swagger UI, served locally so that the page needs no internet access."""

NOON = "2026-03-01T12:00:00.000Z"
EXAMPLES: dict[str, Any] = {
    "action": "APPROVE",
    "actor": "ada",
    "alertId": "a3f1c2",
    "cursor": "MjAyNi0wMy0wMVQxMjowMDowMCBvcmRlci0xMDAx",
    "customerPriority": "standard",
    "details": {"orderId": "order-1001"},
    "expiresIn": 60_000,
    "labels": {"alertname": "ReleaseQueueGrowing", "severity": "warning"},
    "limit": 50,
    "matchers": [{"name": "alertname", "value": "ReleaseQueueGrowing", "isRegex": False, "isEqual": True}],
    "metadata": {"channel": "web"},
    "name": "inventoryServiceReserver",
    "note": "checked with the warehouse",
    "orderId": "order-1001",
    "orderIds": ["order-1001", "order-1002"],
    "productId": "chair",
    "quantity": 2,
    "reason": "CUSTOMER_CANCELLED",
    "reservationId": "res-7",
    "returnId": "return-1",
    "reviewId": "review-5",
    "userId": "user-7",
    "variantId": "oak",
    "version": 3,
}
"""Example values by field name, used where the schema of the field allows them."""


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of all routes of the app."""
    texts: dict[str, Any] = {"title": app.title, "version": app.version, "description": app.description}
    document = get_openapi(**texts, routes=app.routes, openapi_version="3.1.0")
    schemas = document["components"]["schemas"]
    for methods in document["paths"].values():
        for operation in methods.values():
            _complete(operation, schemas)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"bearer": []}]
    return document


def docs_routes(app: FastAPI) -> list[BaseRoute]:
    """Return the routes of the OpenAPI document, the Swagger UI page, and the files of the page."""
    page = get_swagger_ui_html(
        openapi_url=OPENAPI,
        title=app.title,
        swagger_js_url=f"{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{STATIC}/favicon.png",
    )

    @functools.cache
    def document() -> Response:
        return json_response(openapi_document(app))

    async def openapi(_: object) -> Response:
        # The first call takes 0.1 s, so it runs on a thread and does not block the event loop.
        return await asyncio.to_thread(document)

    async def docs(_: object) -> Response:
        return page

    return [Route(OPENAPI, openapi), Route(DOCS, docs), Mount(STATIC, StaticFiles(directory=STATIC_FILES))]


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    operation.setdefault("parameters", [])
    responses = operation["responses"]
    if responses.get("422", {}).get("description") == "Validation Error":
        # FastAPI documents 422 by default, but this API answers a malformed request with 400.
        del responses["422"]
    body = operation.get("requestBody")
    if body:
        body["required"] = True
        _exemplify(body["content"]["application/json"], schemas)
    for status in (*ALWAYS_POSSIBLE, *(WITH_BODY if body else ())):
        responses.setdefault(str(status), {"content": {"application/json": {"schema": ERROR_ANSWER}}})
    for status, response in responses.items():
        response["description"] = HTTPStatus(int(status)).phrase
        media = response["content"]["application/json"]
        if int(status) < HTTPStatus.BAD_REQUEST:
            _exemplify(media, schemas)
        else:
            media["examples"] = {code: {"value": _error(code)} for code, of in STATUS_OF.items() if of == int(status)}
    operation["responses"] = dict(sorted(responses.items()))


def _exemplify(media: dict[str, Any], schemas: dict[str, Any]) -> None:
    media["example"] = example("", media["schema"], schemas)


def _error(code: str) -> dict[str, Any]:
    is_retryable = STATUS_OF[code] in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.SERVICE_UNAVAILABLE)
    message = code.replace("_", " ").capitalize() + "."
    error = {"code": code, "message": message, "details": EXAMPLES["details"], "retryable": is_retryable}
    return {"success": False, "error": error, "meta": {"timestamp": NOON}}


def example(name: str, schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Return an example value that the schema of the field allows."""
    if "$ref" in schema:
        return example(name, schemas[schema["$ref"].removeprefix(REFERENCE)], schemas)
    if "anyOf" in schema:
        return example(name, schema["anyOf"][0], schemas)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return EXAMPLES[name] if EXAMPLES.get(name) in schema["enum"] else schema["enum"][0]
    kinds = schema.get("type", "object")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if isinstance(EXAMPLES.get(name), PYTHON_TYPES.get(kind, ())):
        return EXAMPLES[name]
    return _made(name, kind, schema, schemas)


def _made(name: str, kind: str, schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    if kind == "object":
        properties = schema.get("properties", {})
        return {field: example(field, of, schemas) for field, of in properties.items()}
    if kind == "array":
        return [example(name, schema["items"], schemas)]
    if kind == "string":
        return NOON if schema.get("format") == "date-time" else f"{name or 'text'}-1"
    if kind == "boolean":
        return schema.get("default", False)
    if kind in ("integer", "number"):
        return schema.get("default", max(schema.get("minimum", 1), 1))
    return None


PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
}
