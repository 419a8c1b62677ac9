"""The networks, with what they cost: `python -m craft_jax.models [NAME ...]`.

A row a network: its parameters, the FLOPs of one image (two for a multiply-add, of convolutions and matrix
products alone), and its stages, channels@HxW each. Nothing is computed: JAX traces the networks.
"""

import argparse
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from craft_jax import models
from craft_jax.models.flops import of_program


def row(name: str, num_classes: int, side: int) -> tuple[str, ...]:
    """What the table has of one network.

    Args:
      name: a key of `models.REGISTRY`.
      num_classes: K.
      side: of the images, in pixels.
    """
    model = models.build(name, num_classes, dtype="float32", mean=(0.5,) * 3, std=(0.5,) * 3)
    shape = (1, side, side, 3)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    traced = jax.make_jaxpr(lambda v, x: model.apply(v, x, False)[0], return_shape=True)
    program, outputs = traced(variables, images)
    maps = ("{3}@{1}x{2}".format(*stage.shape) for stage in outputs.stages)
    parameters = models.count_parameters(variables["params"])
    return name, f"{parameters:,}", f"{of_program(program.jaxpr):,}", " ".join(maps)


def table(names: Sequence[str], num_classes: int, side: int) -> str:
    """The rows of the networks under a header, in columns; arguments as of `row`."""
    rows = [("network", "parameters", "FLOPs", "stages"), *(row(name, num_classes, side) for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{name:{widths[0]}}  {parameters:>{widths[1]}}  {count:>{widths[2]}}  {maps}"
        for name, parameters, count, maps in rows
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    jax.config.update("jax_platforms", "cpu")
    parser = argparse.ArgumentParser(
        prog="python -m craft_jax.models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all)")
    parser.add_argument("--num_classes", type=int, default=10, metavar="K", help="classes (default: 10)")
    parser.add_argument("--side", type=int, default=32, metavar="PIXELS", help="images' side (default: 32)")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.names if name not in models.REGISTRY]:
        parser.error(f"NAME: {', '.join(unknown)} unknown; allowed: {', '.join(models.REGISTRY)}")
    if options.num_classes < 1:
        parser.error(f"--num_classes: {options.num_classes}; allowed: at least 1")
    if options.side < 8:
        parser.error(f"--side: {options.side}; allowed: at least 8")
    print(table(options.names or models.NAMES, options.num_classes, options.side))
    return 0


if __name__ == "__main__":
    sys.exit(main())
