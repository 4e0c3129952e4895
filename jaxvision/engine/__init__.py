"""The machinery of a run: steps, batches, checkpoints, logs."""
