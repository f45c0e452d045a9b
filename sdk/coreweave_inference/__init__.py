"""A client for capacity claims of CoreWeave's inference API."""
