"""A serverless tracker for a self-hosted CVAT: a thin function that hands its calls to `labelprop cvat tracker`."""
