"""The stack whose unit tests are in test_capacity.py."""

import pulumi
from capacity import reserve

training = reserve(4, ["US-WEST-04A", "US-EAST-04A"])
pulumi.export("allocated", training.allocated_instances)
