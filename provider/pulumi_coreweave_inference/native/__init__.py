"""The native plugin: the same claims for programs in every language (server.py)."""
