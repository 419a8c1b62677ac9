"""How two programs for one corruption are compared: equal draws by levels, own draws by statistics."""

import numpy as np

FIGURES = ("mean", "std", "absolute", "spread", "fine", "saturated", "spatial", "channels")


def agreement(got, want):
    """(share of equal values, largest difference) of two arrays of levels."""
    difference = np.abs(np.asarray(got, int) - np.asarray(want, int))
    return (difference == 0).mean(), difference.max()


def figures(clean, corrupted):
    """Statistics of what a corruption changed, one number an image and run.

    Args:
      clean: (B, H, W, 3) levels.
      corrupted: (runs, B, H, W, 3) levels, each run from its own draws.

    Returns:
      {name of `FIGURES`: (runs, B)}: of the change its mean, standard deviation and mean absolute
      value (levels) and that value's squared distance from its mean over all images; the energy of
      the corrupted image's differences between neighbours (levels squared); the share of saturated
      values (percent); the change's correlation between neighbours and between red and green.
    """
    corrupted = np.asarray(corrupted, np.float32)
    change = corrupted - np.asarray(clean, np.float32)
    inner, absolute = (2, 3, 4), np.abs(change).mean((2, 3, 4))
    steps = [np.diff(corrupted, axis=axis) for axis in (2, 3)]
    return {
        "mean": change.mean(inner),
        "std": change.std(inner),
        "absolute": absolute,
        "spread": (absolute - absolute.mean()) ** 2,
        "fine": sum((step**2).mean(inner) for step in steps),
        "saturated": 100 * ((corrupted == 0) | (corrupted == 255)).mean(inner),
        "spatial": correlation(change[:, :, :, 1:], change[:, :, :, :-1], inner),
        "channels": correlation(change[..., 0], change[..., 1], (2, 3)),
    }


def correlation(a, b, axes):
    """Pearson's, over `axes`; 0 where one of the two is constant."""
    a, b = (x - x.mean(axes, keepdims=True) for x in (a, b))
    size = np.sqrt((a**2).mean(axes) * (b**2).mean(axes))
    return np.divide((a * b).mean(axes), size, out=np.zeros_like(size), where=size > 1e-6)


def compare(clean, got, want):
    """{figure: (mean over `got`, mean over `want`, their difference in standard errors)}.

    `got` and `want` are (runs, B, H, W, 3), from independent draws. The standard errors are from the
    runs' spread about each image's own mean, so that the images' differences do not count.
    """
    mine, theirs = figures(clean, got), figures(clean, want)
    rows = {}
    for name in FIGURES:
        a, b = np.float64(mine[name]), np.float64(theirs[name])
        error = np.sqrt(sum(x.var(0, ddof=1).mean() / x.size for x in (a, b)))
        rows[name] = (a.mean(), b.mean(), (a.mean() - b.mean()) / (error + 1e-9))
    return rows
