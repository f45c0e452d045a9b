"""The stack that test_capacity.py tests."""

import pulumi
from capacity import reserve

training = reserve(4, ["US-WEST-04A", "US-EAST-04A"])
pulumi.export("allocated", training.allocated_instances)
