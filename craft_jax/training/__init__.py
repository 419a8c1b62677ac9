"""A run's training: the fused step, the loop, batches, logs."""
