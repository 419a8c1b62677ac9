"""JAX's persistent compilation cache: what one process has compiled, the next one loads.

It lies in `folder()`. Nothing in it is needed: delete it at any time. An own JAX_COMPILATION_CACHE_DIR, or
JAX_ENABLE_COMPILATION_CACHE=false, wins over what is done here; `config.compilation_cache` turns it off.
"""

import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path

import jax
import jaxlib


def use():
    """Keep what is compiled from now on, programs of any size, and load what is there.

    Call it before anything is compiled. A folder that cannot be made leaves JAX without a cache, and a
    damaged file in it is compiled anew: neither is an error.
    """
    if jax.config.jax_compilation_cache_dir:
        return
    try:
        path = folder()
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home
        print(f"note: without a compilation cache: {error}", file=sys.stderr)
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")


def folder():
    """$XDG_CACHE_HOME/craft_jax/xla/VERSION-PROCESSOR, or below ~/.cache.

    Machines that share a home have a folder for each kind of processor: JAX's own keys leave it out, and
    a program of another kind may use instructions that this one lacks.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return base / "craft_jax" / "xla" / f"{jaxlib.__version__}-{_processor()}"


def _processor():
    """Eight hexadecimal digits of the processor's model and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    telling = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    facts = sorted({line for line in lines if line.startswith(telling)})
    facts += [platform.machine(), platform.processor()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]
