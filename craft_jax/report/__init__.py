"""Results in; tables and pictures out."""
