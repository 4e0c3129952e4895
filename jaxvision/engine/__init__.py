"""The engine of a run: steps, batches, checkpoints, logs."""
