"""The interactive documentation: complete examples, and a page whose files all come from this service."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.api.envelope import ErrorAnswer
from services.api.openapi import DOCS
from services.api.routing import ApiRoute
from tests.support.api import Api


@pytest.fixture
async def document(api: Api) -> Any:
    return (await api.get("/api/v1/openapi.json")).json()


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


async def test_every_file_of_the_page_comes_from_this_service(api: Api) -> None:
    page = await api.get(DOCS)
    assert page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(loaded) >= 3
    assert "/api/v1/openapi.json" in page.text
    assert not re.search(r"https?://", page.text)
    for address in loaded:
        assert address.startswith("/"), address
        assert (await api.get(address)).status_code == 200, address


async def test_every_body_and_answer_has_an_example(document: Any) -> None:
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            media = response["content"]["application/json"]
            assert media.get("example") or media.get("examples"), (method, path, status)
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["example"]


async def test_every_example_of_a_body_is_accepted(api: Api, document: Any) -> None:
    routes = [route for route in api.app.routes if isinstance(route, ApiRoute) and route.body_field]
    assert routes
    for route in routes:
        (method,) = route.methods
        body = document["paths"][route.path][method.lower()]["requestBody"]
        model: Any = route.body_field.field_info.annotation
        model.model_validate(body["content"]["application/json"]["example"])


async def test_every_example_of_an_answer_is_one_that_its_schema_allows(api: Api, document: Any) -> None:
    for route in (route for route in api.app.routes if isinstance(route, ApiRoute)):
        (method,) = route.methods
        responses = document["paths"][route.path][method.lower()]["responses"]
        example = responses[str(route.status_code or 200)]["content"]["application/json"]["example"]
        schema = document["components"]["schemas"]
        reference = responses[str(route.status_code or 200)]["content"]["application/json"]["schema"]["$ref"]
        assert set(example) == set(schema[reference.rsplit("/", 1)[1]]["properties"])
        assert example["success"] is True
        assert example["data"]


async def test_every_error_of_every_route_is_described_with_its_codes(document: Any) -> None:
    for method, path, operation in operations(document):
        errors = {status: response for status, response in operation["responses"].items() if status >= "400"}
        assert {"400", "401", "403", "404", "500"} <= set(errors), (method, path)
        for status, response in errors.items():
            media = response["content"]["application/json"]
            assert media["schema"] == {"$ref": "#/components/schemas/ErrorAnswer"}
            for code, example in media["examples"].items():
                answer = ErrorAnswer.model_validate(example["value"])
                assert (answer.error.code, status) == (code, status)


@pytest.mark.parametrize("path", ["/api/v1/bulk-jobs", "/healthz", DOCS])
async def test_head_is_answered_like_get(api: Api, path: str) -> None:
    assert (await api.client.head(path)).status_code == 200


async def test_another_method_is_refused_with_those_that_are_allowed(api: Api) -> None:
    answer = await api.client.put("/api/v1/orders")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "GET, HEAD, POST"
