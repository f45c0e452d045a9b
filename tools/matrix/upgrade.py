"""Creates a stack with one virtual environment, and uses it with another: nothing may change.

python upgrade.py OLD_ENVIRONMENT OLD_ENGINE NEW_ENVIRONMENT NEW_ENGINE
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from coreweave_inference.emulator import Emulator, EmulatorSettings

PROGRAM = """
import pulumi

import pulumi_coreweave_inference as inference

count = int(pulumi.Config().get("count") or 4)
for name, explicit in (("training", None), ("serving", "serving")):
    inference.CapacityClaim(
        name,
        resources={
            "instance_id": "gb200-4x", "instance_count": count, "zones": ["US-WEST-04A", "US-EAST-04A"]
        },
        name=explicit,
    )
"""


def main() -> None:
    folders = [Path(argument) for argument in sys.argv[1:]]
    old, new = folders[:2], folders[2:]
    with (
        Emulator(EmulatorSettings(allocation_delay=0.2)) as emulator,
        tempfile.TemporaryDirectory() as folder,
    ):
        program, state = Path(folder) / "program", Path(folder) / "state"
        program.mkdir()
        state.mkdir()
        (program / "__main__.py").write_text(PROGRAM, encoding="utf-8")
        environment = (
            os.environ
            | emulator.environment()
            | {
                "PULUMI_HOME": f"{folder}/home",
                "PULUMI_BACKEND_URL": state.as_uri(),
                "PULUMI_CONFIG_PASSPHRASE": "test",
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                "PULUMI_SKIP_CONFIRMATIONS": "true",
            }
        )

        def use(parts: Sequence[Path], *commands: str) -> None:
            virtualenv, engine = parts
            text = f"name: upgrade\nruntime: {{name: python, options: {{virtualenv: {virtualenv}}}}}\n"
            (program / "Pulumi.yaml").write_text(text, encoding="utf-8")
            environment["PULUMI_COREWEAVE_HOST_PYTHON"] = str(virtualenv / "bin" / "python")
            environment["PATH"] = os.pathsep.join([str(engine), os.environ["PATH"]])
            for command in commands:
                done = subprocess.run(
                    [engine / "pulumi", *command.split()],
                    cwd=program,
                    env=environment,
                    capture_output=True,
                    text=True,
                )
                if done.returncode:
                    print(done.stdout, done.stderr, file=sys.stderr)
                    sys.exit(f"pulumi {command}")

        use(old, "stack init test", "up --yes --skip-preview")
        writes = _writes(emulator)
        same = (
            "preview --expect-no-changes",
            "refresh --yes --expect-no-changes",
            "up --yes --expect-no-changes",
        )
        use(new, *same)
        use(old, *same)
        if _writes(emulator) != writes:
            sys.exit("a write to the API")
        use(new, "config set count 6", "up --yes --skip-preview")
        use(old, *same, "destroy --yes --skip-preview")
        if emulator.claims():
            sys.exit("a claim is left")


def _writes(emulator: Emulator) -> int:
    return sum(request.method != "GET" for request in emulator.requests())


if __name__ == "__main__":
    main()
