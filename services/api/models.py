"""Base classes and field types of all request bodies, parameters and answers. JSON fields are in camelCase."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import (
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from services.domain.external import NotAllowed, Text500, Text2000
from services.domain.orders.events import timestamp

Item = TypeVar("Item")

SMALL_BODY_BYTES = 32 * 1024
"""Largest body with a note or a reason."""

ITEMS_BODY_BYTES = 768 * 1024
"""Largest body with 200 order lines and metadata; a character of an id may take six bytes."""

MAX_BODY_BYTES = 1 << 20
"""Largest body of any route."""

MAX_FIELDS = 32
"""Most fields of one object, more than twice as many as any body needs. Reporting an unknown field costs time."""


def whole_float(value: Any) -> Any:
    """Return a float without a fraction as an integer, because JSON does not distinguish them."""
    return int(value) if type(value) is float and value.is_integer() else value


def one_of(*words: str) -> WithJsonSchema:
    """Return the JSON schema of a text field with these values. Other stored values are answered unchanged."""
    return WithJsonSchema({"type": "string", "enum": [str(word) for word in words]})


Timestamp = Annotated[
    datetime,
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time in UTC with milliseconds."""

Texts = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}})]
"""An object with text values. Stored values of another type are answered unchanged."""

Text = Annotated[Text500, Field(min_length=1)]
Note = Text2000
Limit = Annotated[int, Field(ge=1, le=200)]
Duration = Annotated[int, BeforeValidator(whole_float)]
"""A duration in whole milliseconds."""


class RequestBody(BaseModel):
    """A request body. Unknown fields are refused, because a misspelt field would have no effect."""

    model_config = ConfigDict(extra="forbid")

    max_bytes: ClassVar[int] = SMALL_BODY_BYTES

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > MAX_FIELDS:
            raise NotAllowed(f"an object of at most {MAX_FIELDS} fields")
        return data


class NoteBody(RequestBody):
    note: Note = ""


class ReasonBody(RequestBody):
    reason: Text


class Query(BaseModel):
    """The parameters of a query string. Unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")


class ListQuery(Query):
    limit: Limit = 200


class Resource(BaseModel):
    """A resource of the API. It is read from the attributes of a record and written in camelCase."""

    model_config = ConfigDict(from_attributes=True, alias_generator=AliasGenerator(serialization_alias=to_camel))

    @classmethod
    def of(cls, record: object, **derived: Any) -> Self:
        """Return the resource of a record that has attributes of the same names; ``derived`` sets further fields."""
        resource = cls.model_validate(record)
        for name, value in derived.items():
            setattr(resource, name, value)
        return resource


class Page(BaseModel, Generic[Item]):
    items: list[Item]

    @classmethod
    def of(cls, records: Iterable[object]) -> Self:
        """Return a page with the resources of the records, in the same order."""
        return cls.model_validate({"items": list(records)})
