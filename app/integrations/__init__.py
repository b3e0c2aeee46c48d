"""Labelling tools that plug into the service, each in a package of its own."""
