"""Labelprop's service: HTTP API, records in Redis, storage of files, export formats, and the command line's front."""
