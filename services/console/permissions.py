"""Permissions of the console's users.

CONSOLE_ROLE is the role of everybody; CONSOLE_PEOPLE lists other roles for users who log in. A typed name never gets
the role of a listed name. Source: console rule 10; docs/adr/0016.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.domain.roles import ADMIN, NONE, OPERATE


class NotPermitted(Exception):
    """The actor may not do that; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class People:
    """Roles by name of the user."""

    default: str
    listed: Mapping[str, str] = field(default_factory=dict)

    def role_of(self, actor: str) -> str:
        """The role that is stored with an actor's commands."""
        return self.listed.get(actor, self.default)

    def is_listed(self, name: str) -> bool:
        """Whether the name belongs to a user who logs in; nobody else may type it."""
        return name in self.listed

    def may_look(self, actor: str) -> bool:
        return self.role_of(actor) != NONE

    def is_admin(self, actor: str) -> bool:
        return self.role_of(actor) == ADMIN

    def why_not_act(self, actor: str) -> str | None:
        """Why this actor may not store commands; None when the actor may."""
        role = self.role_of(actor)
        return None if role in OPERATE else f"Your role here is {role}: an operator may do this."

    def require(self, actor: str) -> None:
        """Raises NotPermitted for an actor who may not store commands."""
        if reason := self.why_not_act(actor):
            raise NotPermitted(reason)
