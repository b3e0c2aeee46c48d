"""Joint self-supervised training: one affinity, learned from unlabelled video."""
