"""Record the previews in `data/` on the real engine, against the emulator.

    PATH="$(make -s engine):$PATH" PYTHONPATH=tests .venv/bin/python tests/unit/provider/review/record.py [NAME…]

Without names, all of them. A new recording has new ids of claims, and with them a new fingerprint.

Source positions outside the program are shortened to their file names; nothing else is touched.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.stack import BACKWARD, FORWARD, ROOT, CommandFailed, Stack, claim

from coreweave_inference import CapacityClaimResources, Client
from coreweave_inference.emulator import Emulator, EmulatorSettings

DATA = Path(__file__).parent / "data"
WHOLE = ("--show-sames", "--show-replacement-steps")
THREE = [*FORWARD, "US-EAST-02A"]

MIXED = """
import uuid

import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider

import pulumi_coreweave_inference as inference


class Sizes(ResourceProvider):
    def create(self, props):
        return CreateResult(uuid.uuid4().hex, {"size": 3})

    def diff(self, id, olds, news):
        from pulumi.dynamic import DiffResult
        return DiffResult(changes=olds.get("generation") != news.get("generation"))


class Size(Resource):
    size: pulumi.Output[int]

    def __init__(self, name, **props):
        super().__init__(Sizes(), name, {"size": None, **props})


size = Size("size", generation=1)
other = Size("other", generation=1)
zones = ["US-WEST-04A", "US-EAST-04A"]


def declare(name, count, zones=zones, **options):
    inference.CapacityClaim(
        name,
        pulumi.ResourceOptions(**options),
        resources={"instance_id": "gb200-4x", "instance_count": count, "zones": zones},
        readiness=None,
    )


declare("training", 4)
declare("batch", 2, delete_before_replace=True)
# changes
"""

CHANGES = """
declare("sized-later", size.size)
declare("sized-secretly", pulumi.Output.secret(5))
"""


HOSTED = """
import uuid

import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider

import pulumi_coreweave_inference as inference


class Hosts(ResourceProvider):
    def create(self, props):
        return CreateResult(uuid.uuid4().hex, {})

    def diff(self, id, olds, news):
        from pulumi.dynamic import DiffResult
        return DiffResult(changes=False)


class Host(Resource):
    def __init__(self, name):
        super().__init__(Hosts(), name, {})


def declare(name, host):
    inference.CapacityClaim(
        name,
        pulumi.ResourceOptions(deleted_with=host),
        resources={"instance_id": "gb200-4x", "instance_count": 4, "zones": ["US-WEST-04A"]},
        readiness=None,
    )


"""
HOSTS = """
declare("with-a-host-that-stays", Host("staying"))
declare("with-a-host-that-goes", Host("going"))
"""


def main() -> None:
    DATA.mkdir(exist_ok=True)
    with _stack() as stack:
        stack.declare(training=claim(4), batch=claim(2))
        record("create", stack)
        stack.up()
        for name, declared in {
            "scale-up": {"training": claim(6), "batch": claim(2)},
            "scale-down": {"training": claim(1), "batch": claim(2)},
            "reorder-zones": {"training": claim(4, BACKWARD), "batch": claim(2)},
            "add-zone": {"training": claim(4, THREE), "batch": claim(2)},
            "change-type": {
                "training": claim(4, resources={"instance_id": "h100-80gb-sxm5"}),
                "batch": claim(2),
            },
            "wrong-type": {
                "training": claim(4, resources={"instance_id": "gb200-4"}),
                "batch": claim(2),
            },
            "rename": {"trainer": claim(4), "batch": claim(2)},
            "delete": {"training": claim(4)},
            "release-first": {
                "training": claim(4, BACKWARD, opts={"delete_before_replace": True}),
                "batch": claim(3),
            },
        }.items():
            stack.declare(**declared)
            record(name, stack)
        stack.declare(training=claim(4, BACKWARD), batch=claim(3))
        record("plain-flags", stack, "preview")

        held = {claim.name: claim.id for claim in stack.emulator.claims()}
        training = next(id for name, id in held.items() if name.startswith("training"))
        batch = next(id for name, id in held.items() if name.startswith("batch"))
        stack.declare(training=claim(4), batch=claim(2))
        stack.emulator.edit_claim(training, spec={"resources": {"instanceCount": 9}})
        record("drift", stack, "preview", "--refresh", *WHOLE)
        stack.declare(training=claim(9), batch=claim(2))
        record("drift-only", stack, "preview", "--refresh", *WHOLE)
        stack.emulator.edit_claim(batch, delete=True)
        record("drift-gone", stack, "preview", "--refresh", *WHOLE)
        record("refresh-only", stack, "refresh", "--preview-only")

    with _stack() as stack:
        stack.declare(training=claim(4, opts={"protect": True}), batch=claim(2))
        stack.up()
        stack.declare(batch=claim(2))
        record("protect", stack)

    with _stack() as stack:
        stack.declare(training=claim(4, opts={"retain_on_delete": True}))
        stack.up()
        request = _import_request(stack)
        record("import", stack, "import", "-f", str(request), "--generate-code=false", "--preview-only")
        stack.declare()
        record("retain", stack)
        stack.declare(training=claim(4, BACKWARD))
        record("retain-replaced", stack)

    with _stack() as stack:
        stack.declare(training=claim(4))
        stack.up()
        urn = stack.resources()["training"]["urn"]
        record("forced-replacement", stack, "preview", "--replace", urn, *WHOLE)
        stack.declare(training=claim(4, BACKWARD, opts={"retain_on_delete": True}))
        record("retain-added", stack)
        stack.declare(trainer=claim(4, opts={"aliases": ["training"]}))
        (made,) = stack.emulator.claims()
        stack.emulator.edit_claim(made.id, spec={"resources": {"instanceCount": 9}})
        record("drift-renamed", stack, "preview", "--refresh", *WHOLE)
        stack.emulator.edit_claim(made.id, spec={"resources": {"instanceCount": 4}})
        stack.pulumi("state", "delete", urn, "--yes")
        stack.declare(training=claim(4))
        record("take-over", stack)
        stack.declare(training=claim(4, BACKWARD))
        record("left-behind", stack)

    with _stack() as stack:
        source = stack.folder / "__main__.py"
        source.write_text(HOSTED + HOSTS, encoding="utf-8")
        stack.up()
        source.write_text(HOSTED + 'Host("staying")\n', encoding="utf-8")
        record("deleted-with", stack)

    with _stack(inventory={"US-WEST-04A": {"gb200-4x": 6}, "US-EAST-04A": {"gb200-4x": 0}}) as stack:
        stack.declare(training=claim(4))
        stack.up()
        stack.declare(training=claim(4, BACKWARD, readiness={"timeout": "2s"}))
        try:
            stack.up()
        except CommandFailed:
            record("unfinished-replacement", stack)
        stack.declare(training=claim(4))
        record("going-back", stack)
        stack.declare(training=claim(4, BACKWARD))
        left = next(
            each["id"]
            for each in stack.export()["resources"]
            if each.get("delete") and each["type"].endswith(":CapacityClaim")
        )
        stack.emulator.edit_claim(left, spec={"resources": {"instanceCount": 3}})
        record("drift-unfinished", stack, "preview", "--refresh", *WHOLE)
        record("refresh-only-unfinished", stack, "refresh", "--preview-only")

    with _stack() as stack:
        source = stack.folder / "__main__.py"
        source.write_text(MIXED.replace("# changes", ""), encoding="utf-8")
        stack.up()
        changed = MIXED.replace("generation=1", "generation=2")
        changed = changed.replace('"batch", 2,', '"batch", 2, ["US-EAST-04A"],')
        changed = changed.replace('size = Size("size"', 'size = Size("new-size"')
        source.write_text(changed.replace("# changes", CHANGES), encoding="utf-8")
        record("mixed", stack)


def record(name: str, stack: Stack, *command: str) -> None:
    """Run a preview and keep what it prints."""
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    # `refresh` refuses `--preview-only` together with the setting that skips confirmations.
    environment = {
        k: v for k, v in (os.environ | stack.environment).items() if k != "PULUMI_SKIP_CONFIRMATIONS"
    }
    done = subprocess.run(
        ["pulumi", *(command or ("preview", *WHOLE)), "--json", "--stack", stack.name],
        cwd=stack.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    text = re.sub(r"project:///\.\./[^\"]*/", "project:///../", done.stdout)
    for private in (
        str(ROOT),
        str(Path.home()),
        tempfile.gettempdir(),
        stack.emulator.token,
        stack.emulator.url,
    ):
        if private in text:
            raise SystemExit(f"{name}: the preview contains {private!r}")
    (DATA / f"{name}.json").write_text(text, encoding="utf-8")
    sys.stdout.write(f"{name}: exit {done.returncode}, {len(text)} characters\n")


def _import_request(stack: Stack) -> Path:
    """Make a claim by hand, and say in a file how it is imported as `batch`."""
    entry = stack.resources()["training"]
    with Client(stack.emulator.token, endpoint=stack.emulator.url) as client:
        resources = CapacityClaimResources.model_validate(entry["inputs"]["resources"])
        made = client.capacity_claims.create("made-by-hand", resources)
    inputs = copy.deepcopy(entry["inputs"])
    inputs["identity"]["declaration"] = inputs["identity"]["declaration"].replace("training", "batch")
    imported = {
        "type": entry["type"],
        "name": "batch",
        "id": made.id,
        "inputs": inputs,
        "outputs": inputs | {"name": made.name, "organizationId": made.spec.organization_id},
    }
    request = stack.folder / "import.json"
    request.write_text(json.dumps({"resources": [imported]}), encoding="utf-8")
    return request


@contextmanager
def _stack(**settings: Any) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory() as folder:
        with Emulator(EmulatorSettings(allocation_delay=0, **settings)) as emulator:
            yield Stack(Path(folder) / "program", emulator, name="prod")


if __name__ == "__main__":
    main()
