"""The losses: pure functions that return one float32 value per example, shape (B,).

They compute in float32 whatever dtype comes in, and nothing here averages over the batch: the
method multiplies by the reliability r, or 1 - r, and takes the mean. Teacher inputs (`teacher_*`),
the reliability and the fragility directions carry no gradient; `embed`, `standardize` and `crd_nce`
leave that to their callers, as their docstrings say. Where a loss compares the images of a batch, an
image's value depends on the others. B images, V = M + 1 views (view 0 clean), K classes, D embedding
width. Equation numbers do not exist in the paper, so sources name its sections.

`REDUCTIONS`, `POSITIVES`, `KINDS` and `FORMS` are the registries behind the string arguments; their
keys are the allowed values.
"""

from craft_jax.losses.attention import REDUCTIONS, attention_transfer
from craft_jax.losses.classification import cross_entropy, jensen_shannon, logit_kd, standardize
from craft_jax.losses.contrastive import POSITIVES, contrastive
from craft_jax.losses.crd import crd_nce
from craft_jax.losses.decoupled import decoupled_kd
from craft_jax.losses.dist import dist
from craft_jax.losses.embedding import embed
from craft_jax.losses.fragility import FORMS, KINDS, dealignment, fragility_directions
from craft_jax.losses.hint import hint
from craft_jax.losses.probabilistic import probabilistic_transfer
from craft_jax.losses.relational import relational
from craft_jax.losses.reliability import reliability
from craft_jax.losses.selectivity import neuron_selectivity
from craft_jax.losses.similarity import similarity_preserving
from craft_jax.losses.variational import variational_information

__all__ = [
    "FORMS",
    "KINDS",
    "POSITIVES",
    "REDUCTIONS",
    "attention_transfer",
    "contrastive",
    "crd_nce",
    "cross_entropy",
    "dealignment",
    "decoupled_kd",
    "dist",
    "embed",
    "fragility_directions",
    "hint",
    "jensen_shannon",
    "logit_kd",
    "neuron_selectivity",
    "probabilistic_transfer",
    "relational",
    "reliability",
    "similarity_preserving",
    "standardize",
    "variational_information",
]
