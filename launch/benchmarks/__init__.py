"""The benchmarks of launch/bench.py, one a file."""
