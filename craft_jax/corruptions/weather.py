"""Weather and light.

Each corruption takes (key, image, severity): one image (H, W, 3) of whole grey levels 0..255 in
float32, to the same shape on the same scale, neither clipped nor truncated. Source: Hendrycks &
Dietterich 2019, make_cifar_c.py.
"""

import jax.numpy as jnp


def brightness(key, image, severity):
    """A constant added to V of HSV; hue and saturation stay, so the channels keep their ratio."""
    del key
    shift = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value = image.max(-1, keepdims=True)
    brighter = jnp.minimum(value + 255 * shift, 255)
    return jnp.where(value > 0, image * brighter / jnp.maximum(value, 1), brighter)


CORRUPTIONS = {"brightness": brightness}
