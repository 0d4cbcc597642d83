"""Secrets of users and projects. Their values go one way: in; only a lease carries those that its task names."""

from __future__ import annotations

from typing import Literal

from taskloom.wire.messages.base import Answer, Request

SecretScope = Literal["user", "project"]


class SecretPut(Request, frozen=True, kw_only=True):
    """A user's secret, or one of a project and the projects below it. The user's wins over the project's.

    url: what the value is a password for: git gets it for repositories whose address begins so, with `username`
    (some servers take any). Such a secret may be used like any other, too.
    """

    value: str
    scope: SecretScope = "user"
    project: str = ""
    description: str = ""
    url: str = ""
    username: str = ""


class SecretPlace(Request, frozen=True, kw_only=True):
    """Query string: whose secret of the name."""

    scope: SecretScope = "user"
    project: str = ""


class SecretInfo(Answer, frozen=True, kw_only=True):
    """Everything but the value. `owner`: the user, or the project's path."""

    name: str
    scope: SecretScope
    owner: str
    description: str = ""
    url: str = ""
    username: str = ""
    created: float = 0.0
    changed: float = 0.0
    changed_by: str = ""


class SecretList(Answer, frozen=True, kw_only=True):
    secrets: list[SecretInfo]


class SecretsRotated(Answer, frozen=True, kw_only=True):
    """How many values were encrypted anew, with the key that was made for it."""

    secrets: int
