"""Importing the package: lazy, complete, and with the published version."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import coreweave_inference

SDK = Path(coreweave_inference.__file__).parent


def test_every_exported_name_can_be_imported_and_is_listed() -> None:
    for name in coreweave_inference.__all__:
        assert getattr(coreweave_inference, name) is not None
        assert name in dir(coreweave_inference)
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        coreweave_inference.Clint  # noqa: B018 - the access is the test


@pytest.mark.parametrize("module", ["errors", "models"])
def test_the_package_exports_what_its_modules_do(module: str) -> None:
    names = set(import_module(f"coreweave_inference.{module}").__all__)
    assert names <= set(coreweave_inference.__all__)


def test_importing_the_package_imports_neither_httpx_nor_pydantic() -> None:
    program = (
        "import sys, coreweave_inference; coreweave_inference.ApiError;"
        "print([name for name in ('httpx', 'pydantic', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_httpx_is_imported_in_one_module_for_those_that_connect() -> None:
    importing = {
        path.name: re.findall(r"^\s*(?:import|from) (\S*httpx\S*)", path.read_text(), re.MULTILINE)
        for path in SDK.glob("*.py")
    }
    assert {name: found for name, found in importing.items() if found} == {
        "_httpx.py": ["httpx"],
        "network.py": ["._httpx"],
        "settings.py": ["._httpx"],
        "transport.py": ["._httpx"],
    }


def test_importing_the_client_leaves_out_the_command_line_of_httpx() -> None:
    program = (
        "import sys, coreweave_inference.client;"
        "print([name for name in ('httpx._main', 'click', 'rich') if name in sys.modules]);"
        "import httpx._main; print(httpx._main.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "httpx._main"]
