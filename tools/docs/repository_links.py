"""A hook for mkdocs: handles links from a page to files in the repository that are not pages.

In the repository, `[rules](../examples/ci-review/rules.toml)` leads to the file. The built site does not
contain that file. If the repository's address is known (`repo_url`), the link leads to the file there;
otherwise it becomes its text, followed by the file's name. A link to a file that does not exist is a warning,
which `--strict` turns into an error.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>\.\./[^)#\s]+)\)")
_LOG = logging.getLogger("mkdocs.hooks")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Replace such links on one page."""
    docs = Path(config.docs_dir).resolve()
    folder = Path(page.file.abs_src_path).resolve().parent

    def replaced(link: re.Match[str]) -> str:
        target = (folder / link["target"]).resolve()
        if target.is_relative_to(docs):
            return link[0]
        if not target.exists():
            _LOG.warning("%s links to %s, which does not exist", page.file.src_uri, link["target"])
        path = target.relative_to(docs.parent)
        if config.repo_url:
            return f"[{link['text']}]({config.repo_url.rstrip('/')}/blob/HEAD/{path})"
        name = f"`{path}`"
        return name if Path(link["text"].strip("`")).name == target.name else f"{link['text']} ({name})"

    return _LINK.sub(replaced, markdown)
