"""Draws the images of a review: the table in a terminal as SVG, the comment as PNG.

.venv/bin/python docs/images/review.py        # the PNG needs chromium on PATH
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from markdown_it import MarkdownIt
from rich.console import Console

from pulumi_coreweave_inference.cli.review.document import document
from pulumi_coreweave_inference.cli.review.markdown import markdown
from pulumi_coreweave_inference.cli.review.preview import parse
from pulumi_coreweave_inference.cli.review.prices import PriceBook
from pulumi_coreweave_inference.cli.review.review import review
from pulumi_coreweave_inference.cli.review.rules import Rules
from pulumi_coreweave_inference.cli.review.terminal import show
from pulumi_coreweave_inference.cli.review.toml_model import load_toml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLE = ROOT / "examples" / "ci-review"
PREVIEW = ROOT / "tests" / "unit" / "provider" / "review" / "data" / "release-first.json"
STYLE = """
body { font: 14px/1.5 "Noto Sans", sans-serif; color: #1f2328; margin: 24px; width: 1040px }
table { border-collapse: collapse; margin: 16px 0 } th, td { border: 1px solid #d1d9e0; padding: 6px 13px }
tr:nth-child(2n) { background: #f6f8fa } code { font: 85% monospace; background: #818b981f; padding: 2px 5px;
border-radius: 6px } h3 { font-size: 20px } sub { font-size: 12px }
"""


def main() -> None:
    found = document(
        review(
            parse(PREVIEW.read_text(encoding="utf-8")),
            load_toml(Rules, (EXAMPLE / "rules.toml").read_text(encoding="utf-8")),
            load_toml(PriceBook, (EXAMPLE / "prices.toml").read_text(encoding="utf-8")),
        )
    )
    console = Console(record=True, width=132, file=io.StringIO(), highlight=False, emoji=False)
    show(found, console)
    console.save_svg(str(HERE / "review-terminal.svg"), title="capacity-claims review")
    comment = markdown(found)
    (HERE / "review-comment.md").write_text(comment, encoding="utf-8")
    chromium = shutil.which("chromium")
    if chromium is None:
        return
    body = MarkdownIt("commonmark").enable("table").render(comment)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(f"<meta charset=utf-8><style>{STYLE}</style>{body}", encoding="utf-8")
        subprocess.run(  # noqa: S603  # chromium, on a page made here
            [chromium, "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1090,790",
             f"--user-data-dir={folder}/profile", f"--screenshot={HERE / 'review-comment.png'}",
             page.as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
