"""Arguments of stored commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.domain.errors import ValidationFailed


@contextmanager
def reading_arguments() -> Iterator[None]:
    """Wrap the reading of a command's arguments, and nothing that has an effect.

    Raises ValidationFailed for an argument that is missing or has another form.
    """
    try:
        yield
    except KeyError as error:
        raise ValidationFailed(f"The command could not be understood: {error} is missing.") from error
    except (TypeError, ValueError) as error:
        raise ValidationFailed(f"The command could not be understood: {error}") from error
