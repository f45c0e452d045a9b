"""The programs in the README of the client run unchanged."""

import re
from pathlib import Path

import pytest

import coreweave_inference
from coreweave_inference import Client
from coreweave_inference.emulator import Emulator

README = Path(coreweave_inference.__file__).parents[1] / "README.md"


@pytest.mark.skipif(not README.exists(), reason="the package is installed without its README")
def test_the_programs_in_the_readme_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create, handle, emulate = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    with Emulator() as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        exec(create, {})
        assert "4\n" in capsys.readouterr().out
        with Client() as client:
            exec(handle, {"client": client, "claim_id": "9f0c8a52-0000-4000-8000-000000000001"})
    exec(emulate, {})
    assert "US-WEST-04A" in capsys.readouterr().out
