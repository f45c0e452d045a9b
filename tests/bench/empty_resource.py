"""The yardstick: a dynamic resource that does nothing, declared as often as claims are."""

from __future__ import annotations

import uuid
from typing import Any

from pulumi import ResourceOptions
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult


class EmptyProvider(ResourceProvider):
    """Creates, compares and updates without asking anybody."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(str(uuid.uuid4()), props)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=_olds.get("resources") != _news.get("resources"))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(_news)


class Empty(Resource, module="bench", name="Empty"):
    """A resource with a claim's inputs and nothing behind it."""

    def __init__(self, name: str, resources: dict[str, Any], opts: ResourceOptions | None = None) -> None:
        super().__init__(EmptyProvider(), name, {"resources": resources}, opts)
