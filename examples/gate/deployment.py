"""Stands in for a Kubernetes deployment, so that the example needs no cluster."""

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider


class _Nothing(ResourceProvider):
    """Keeps its inputs and does nothing else."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Pretend to create the deployment."""
        return CreateResult("deployment", props)


class Deployment(Resource, module="example", name="Deployment"):
    """In a real stack this is `pulumi_kubernetes.apps.v1.Deployment`."""

    replicas: pulumi.Output[int]

    def __init__(
        self, name: str, *, replicas: pulumi.Input[int], opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__(_Nothing(), name, {"replicas": replicas}, opts)
