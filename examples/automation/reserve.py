"""Reserves capacity from a Python process, without a project folder, through the Automation API.

python reserve.py 4          # reserve four instances, or change their number
python reserve.py --release  # release them
"""

import argparse
import os
import sys

import pulumi
from pulumi import automation

import pulumi_coreweave_inference as inference


def show(progress: inference.Progress) -> None:
    """Called when something about the wait changes, and when it ends."""
    print(
        f"{progress.resource_name}: {progress.outcome}, {progress.allocated}/{progress.requested}",
        flush=True,
    )


def reservation(instances: int) -> automation.PulumiFn:
    """A program that declares one claim."""

    def program() -> None:
        training = inference.CapacityClaim(
            "training",
            resources={
                "instance_id": "gb200-4x",
                "instance_count": instances,
                "zones": ["US-WEST-04A"],
            },
            readiness=inference.Readiness(timeout="45m", on_progress=show),
        )
        pulumi.export("claim_id", training.id)
        pulumi.export("allocated", training.allocated_instances)

    return program


def main() -> None:
    """Read the command line, and update or destroy the stack."""
    parser = argparse.ArgumentParser(description="Reserve GPU instances.")
    parser.add_argument("instances", type=int, nargs="?", default=1)
    parser.add_argument("--release", action="store_true", help="release the instances")
    given = parser.parse_args()

    # The engine starts the provider with this Python too, which has COREWEAVE_API_TOKEN.
    os.environ.setdefault("PULUMI_PYTHON_CMD", sys.executable)
    stack = automation.create_or_select_stack(
        "example", "reservations", program=reservation(given.instances)
    )
    if given.release:
        stack.destroy()
        return
    outputs = stack.up().outputs
    print(f"claim {outputs['claim_id'].value}: {outputs['allocated'].value} instances are ready")


if __name__ == "__main__":
    main()
