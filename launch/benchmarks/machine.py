"""What a benchmark ran on."""

import datetime
import os
import platform
from pathlib import Path

import jax


def machine():
    """One line: processor, the cores this process may use, JAX and its device, the date."""
    models = [line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.devices()[0].device_kind
    facts = (
        models[0] if models else platform.machine(),
        f"{cores} cores",
        f"JAX {jax.__version__} on {device}",
    )
    return ", ".join([*facts, datetime.date.today().isoformat()])


def cpu_lines():
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
