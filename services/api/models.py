"""What bodies, parameters and answers of all resources have in common. camelCase is the wire's own."""

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
"""Limit of a body with a note or a reason."""

ITEMS_BODY_BYTES = 768 * 1024
"""Limit of a body with 200 lines, whose ids may take six bytes a character, and metadata."""

MAX_BODY_BYTES = 1 << 20
"""Limit of the largest body of any route."""

MAX_FIELDS = 32
"""Limit of one object; no body has half as many fields. Each unknown field costs time to report."""


def whole_float(value: Any) -> Any:
    """A float without a fraction as an integer: JSON has one kind of number."""
    return int(value) if type(value) is float and value.is_integer() else value


def one_of(*words: str) -> WithJsonSchema:
    """Documents the words of a text field; a word that another version stored is answered unchanged."""
    return WithJsonSchema({"type": "string", "enum": [str(word) for word in words]})


Timestamp = Annotated[
    datetime,
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""UTC with milliseconds."""

Texts = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}})]
"""Texts by name; a value that another version stored is answered unchanged."""

Text = Annotated[Text500, Field(min_length=1)]
Note = Text2000
Limit = Annotated[int, Field(ge=1, le=200)]
Duration = Annotated[int, BeforeValidator(whole_float)]
"""Whole milliseconds."""


class RequestBody(BaseModel):
    """A body; unknown fields are refused, because a misspelt one would be lost."""

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
    """The parameters of a query string; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")


class ListQuery(Query):
    limit: Limit = 200


class Resource(BaseModel):
    """What the API answers: read from the attributes of a stored record, written in camelCase."""

    model_config = ConfigDict(from_attributes=True, alias_generator=AliasGenerator(serialization_alias=to_camel))

    @classmethod
    def of(cls, record: object) -> Self:
        """The resource of a record with attributes of the same names."""
        return cls.model_validate(record)


class Page(BaseModel, Generic[Item]):
    items: list[Item]

    @classmethod
    def of(cls, records: Iterable[object]) -> Self:
        """The resources of the records, in their order."""
        return cls.model_validate({"items": list(records)})
