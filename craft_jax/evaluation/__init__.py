"""A network in, a table of clean and shifted accuracies out."""
