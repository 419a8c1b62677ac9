"""What a run's directory holds: checkpoints, results, teachers; and what is made of them."""
