"""The emulator's modules: independent of the client, and without import circles."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import coreweave_inference.emulator

PACKAGE = "coreweave_inference.emulator"
FOLDER = Path(coreweave_inference.emulator.__file__).parent


def imports(path: Path) -> set[str]:
    """All modules that a file imports, also inside of functions and `if TYPE_CHECKING`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import hides where it leads"
            inner = {f"{node.module}.{each.name}" for each in node.names}
            modules = {name for name in inner if (FOLDER / f"{name.rpartition('.')[2]}.py").exists()}
            found |= modules if node.module == PACKAGE and modules else {str(node.module)}
    return found


def test_the_emulator_imports_nothing_from_the_client() -> None:
    for path in FOLDER.rglob("*.py"):
        ours = {name for name in imports(path) if name.split(".")[0] == "coreweave_inference"}
        ours.discard("coreweave_inference._text_files")  # knows files, and nothing of the API
        assert all(name.startswith(f"{PACKAGE}.") for name in ours), (path.name, ours)


def test_the_modules_import_each_other_without_circles() -> None:
    graph = {
        module(path): {name for name in imports(path) if name.startswith(f"{PACKAGE}.")}
        for path in FOLDER.rglob("*.py")
    }
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert len(order) == len(graph) > 25


def module(path: Path) -> str:
    return ".".join((PACKAGE, *path.relative_to(FOLDER).with_suffix("").parts))
