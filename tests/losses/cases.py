"""Every loss of the paper's section 3 with small inputs, three examples each."""

import jax.numpy as jnp
import numpy as np

from craft_jax import losses
from tests.losses.checks import normal, unit_rows

EPS = 1e-6
POSITIVES = ["cross_view", "same_view", "each"]

STAGES_S = normal(1, 3, 4, 4, 2), normal(2, 3, 2, 2, 3)
STAGES_T = normal(3, 3, 4, 4, 5), normal(4, 3, 2, 2, 4)
Z_S, Z_T = unit_rows(5, 3, 3, 4), unit_rows(6, 3, 3, 4)
LABELS = np.array([0, 4, 2])
ROWS = np.array([0, 1, 2]), np.array([[3, 4], [5, 6], [7, 8]])

# name: (the loss of its floating-point inputs, those inputs, which of them carry gradient)
CASES = {
    "cross_entropy": (lambda a: losses.cross_entropy(a, LABELS), [normal(7, 3, 5)], [True]),
    "logit_kd": (
        lambda s, t: losses.logit_kd(s, t, 4.0),
        [normal(8, 3, 5), normal(9, 3, 5)],
        [True, False],
    ),
    "jensen_shannon": (losses.jensen_shannon, [normal(15, 3, 4, 5)], [True]),
    "attention_transfer": (losses.attention_transfer, [STAGES_S, STAGES_T], [True, False]),
    "embed": (
        lambda s, w: jnp.sum(losses.embed(s, w) ** 3, axis=1),
        [STAGES_S, (normal(10, 2, 4), normal(11, 3, 2))],
        [True, True],
    ),
    **{
        f"contrastive {p}": (
            lambda t, s, p=p: losses.contrastive(t, s, 0.1, p),
            [Z_T, Z_S],
            [False, True],
        )
        for p in POSITIVES
    },
    "reliability": (
        lambda t: losses.reliability(t, 10.0, 1.0, 0.5),
        [normal(12, 3, 3, 5)],
        [False],
    ),
    **{
        f"fragility_directions {k}": (
            lambda t, k=k: jnp.sum(losses.fragility_directions(t, k, EPS) ** 3, axis=(1, 2)),
            [Z_T],
            [False],
        )
        for k in ["principal", "clean_shift", "per_view", "literal"]
    },
    **{
        f"dealignment {f}": (
            lambda s, u, f=f: losses.dealignment(s, u, f),
            [Z_S, Z_T],
            [True, False],
        )
        for f in ["position", "shift"]
    },
    "crd_nce": (
        lambda a, b: losses.crd_nce(a, b, *ROWS, 0.07, 20.0),
        [unit_rows(13, 3, 4), unit_rows(14, 9, 4)],
        [True, True],
    ),
}
