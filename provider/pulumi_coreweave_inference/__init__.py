"""GPU capacity claims on CoreWeave as Pulumi resources."""
