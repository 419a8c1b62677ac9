"""One file a method; `default.py` holds every key. `python -m craft_jax.main --config=FILE[:preset]`."""
