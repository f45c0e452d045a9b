"""The links that a package index shows beside this package.

They follow from one address, the environment variable REPOSITORY_URL, which the release workflow sets to the
repository it runs in. A package built without it has no links.
"""

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ProjectLinks(MetadataHookInterface):
    """Sets `project.urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the links to the metadata, if the repository's address is known."""
        repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        if repository:
            metadata["urls"] = {
                "Homepage": repository,
                "Documentation": f"{repository}/blob/HEAD/docs/index.md",
                "Source": repository,
                "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
                "Issues": f"{repository}/issues",
            }
