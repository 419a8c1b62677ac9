"""What a benchmark ran on."""

import datetime

import jax

from craft_jax.runs.machine import processor


def machine():
    """One line: processor, the cores this process may use, JAX and its device, the date."""
    device = jax.devices()[0].device_kind
    return f"{processor()}, JAX {jax.__version__} on {device}, {datetime.date.today().isoformat()}"
