"""Labelprop's model: label propagation through video by learned correspondence, as a library of its own.

Importing this package is light: nothing here imports torch. The torch-free parts are `model.errors`, `model.video`,
`model.labels`, `model.presets`, `model.catalogue`, `model.rendered` and `model.evaluation.metrics`; torch comes in with
`model.encoder`, `model.affinity`, `model.propagator` and whatever uses them.
"""
