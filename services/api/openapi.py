"""The OpenAPI 3.1 document, made from the table of endpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.api.endpoints import Endpoint
from services.api.schemas import ErrorAnswer, Meta

REFERENCE = "#/components/schemas/{model}"
CURSOR = {
    "type": ["string", "null"],
    "description": "The cursor of the next page; null or absent when there is none. A page may hold fewer items than "
    "its limit, even none, and still name a next one: with a rare filter a page ends after so many rows looked at.",
}
ALWAYS_POSSIBLE = (400, 401, 403, 404, 500)


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """Describe every endpoint with its bodies, parameters and answers."""
    models: set[type[BaseModel]] = {ErrorAnswer, Meta}
    for endpoint in endpoints:
        models |= {model for model in (endpoint.body, *endpoint.answers.values()) if model}
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template=REFERENCE,
    )
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Holdfast", "version": version, "description": "Order and inventory integration service."},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"bearer": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": _operation_id(endpoint),
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(_ref(endpoint.body))}
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words: list[str] = [endpoint.method.lower(), *re.findall(r"[A-Za-z]+", endpoint.path.removeprefix("/api/v1"))]
    return words[0] + "".join(word[0].upper() + word[1:] for word in words[1:])


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    if endpoint.query is not None:
        schema = endpoint.query.model_json_schema()
        for name, described in schema["properties"].items():
            resolved = _inlined(described, schema.get("$defs", {}))
            parameters.append({"name": name, "in": "query", "required": False, "schema": resolved})
    headers = (
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}} for name in endpoint.headers
    )
    return [*parameters, *headers]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    responses = {
        str(status): {"description": HTTPStatus(status).phrase, "content": _json(_answer(endpoint, model))}
        for status, model in endpoint.answers.items()
    }
    body_errors = (413, 415) if endpoint.body else ()
    for status in sorted({*endpoint.errors, *ALWAYS_POSSIBLE, *body_errors} - set(endpoint.answers)):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": _json(_ref(ErrorAnswer))}
    return responses


def _answer(endpoint: Endpoint, model: type[BaseModel] | None) -> dict[str, Any]:
    data: dict[str, Any] = _ref(model) if model else {}
    if endpoint.is_list:
        data = {
            "type": "object",
            "required": ["items"],
            "properties": {"items": {"type": "array", "items": data}, "nextCursor": CURSOR},
        }
    return {
        "type": "object",
        "required": ["success", "data", "meta"],
        "properties": {"success": {"const": True}, "data": data, "meta": _ref(Meta)},
    }


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
