"""PKT: cross-entropy + pkt.weight * divergence of the images' neighbourhoods (Passalis and Tefas 2018).

python -m craft_jax.main --config=configs/pkt.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "pkt"
    return config
