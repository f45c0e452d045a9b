"""What several kinds of tests drive the software with."""
