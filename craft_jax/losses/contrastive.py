"""Contrastive alignment of teacher and student over views and images."""

import jax
import jax.numpy as jnp
from jax.nn import logsumexp, softplus
from jaxtyping import Array, Float, Int

from craft_jax.losses.common import AnyArray, Scalar, check_choice, check_shapes, float32, frozen, product

NOTHING = -1e30  # log of an empty sum; at -inf logsumexp's gradient is 0/0, masked only later


def _cross_view(own: Float[Array, "B V V"], others: Float[Array, "B V"]) -> Float[Array, "B V"]:
    return softplus(others - logsumexp(own, axis=2))


def _same_view(own: Float[Array, "B V V"], others: Float[Array, "B V"]) -> Float[Array, "B V"]:
    everything = jnp.logaddexp(logsumexp(own, axis=2), others)
    return everything - jnp.diagonal(own, axis1=1, axis2=2)


def _each(own: Float[Array, "B V V"], others: Float[Array, "B V"]) -> Float[Array, "B V"]:
    return jnp.mean(softplus(others[:, :, None] - own), axis=2)


# Each takes the scores of an anchor's own views and the logsumexp over the views of other images, and
# returns the loss of each anchor. softplus(o - s) is -log(e^s / (e^s + e^o)), accurate where the loss
# is near zero.
POSITIVES = {"cross_view": _cross_view, "same_view": _same_view, "each": _each}


def contrastive(
    teacher_embeddings: Float[AnyArray, "B V D"],
    student_embeddings: Float[AnyArray, "B V D"],
    temperature: Scalar,
    positives: str = "cross_view",
    labels: Int[AnyArray, " B"] | None = None,
    block: int = 0,
) -> Float[Array, " B"]:
    """InfoNCE from teacher anchors to student views (section 3.3, L_con before its mean over i).

    With s_imjn = <z_T(v_m(x_i)), z_S(v_n(x_j))> / tau, an example's loss is the mean over its
    anchors m of

        -log( sum_n e^s_imin / sum_j sum_n e^s_imjn )                     "cross_view"
        -log(       e^s_imim / sum_j sum_n e^s_imjn )                     "same_view"
        -mean_p log( e^s_imip / (e^s_imip + sum_{j != i} sum_n e^s_imjn)) "each"

    "same_view" is the paper's first equation with tau inside the exp (printed outside the
    numerator's, a misprint); "cross_view" is its second. There one well-aligned view satisfies an
    anchor; under "each" every own view must, and own views do not compete.

    Args:
      teacher_embeddings: the anchors z_T, unit vectors; no gradient. To anchor on the
        clean view alone, pass it for all V.
      student_embeddings: z_S, unit vectors.
      temperature: tau > 0.
      positives: a key of `POSITIVES`.
      labels: classes. If given, other images of an anchor's class are left out of the
        denominators; own views stay where the mode has them.
      block: how many images' anchors are scored at a time, their scores computed again for the
        gradient: memory of O(block V B V) numbers, values and gradients to rounding those of all at
        once, whatever the number of devices. 0, or B or more: all at once, O((B V)^2).

    Returns:
      float32, >= 0. Where no other image is left (B = 1, or one class alone), 0 for
      "cross_view" and "each".

    Raises:
      ValueError: unknown positives, or shapes that do not fit.

    >>> z = jnp.eye(2)[:, None]  # two images, one view, orthogonal
    >>> round(float(contrastive(z, z, temperature=1.0)[0]), 4)  # log(1 + e^-1)
    0.3133
    """
    check_choice("positives", positives, POSITIVES)
    check_shapes(
        teacher_embeddings=(teacher_embeddings, "B V D"),
        student_embeddings=(student_embeddings, "B V D"),
    )
    z_t, z_s = frozen(teacher_embeddings), float32(student_embeddings)
    i = jnp.arange(z_s.shape[0])
    group = i if labels is None else jnp.asarray(labels)
    check_shapes(student_embeddings=(z_s, "B V D"), labels=(group, "B"))

    def of(i, anchors, classes):
        """The losses of the images of numbers i, (I,); their anchors (I, V, D), classes (I,)."""
        s = product("imd,jnd->imjn", anchors, z_s) / temperature
        own = s[jnp.arange(len(i)), :, i]
        is_negative = classes[:, None] != group
        others = logsumexp(jnp.where(is_negative[:, None, :, None], s, NOTHING), axis=(2, 3))
        return jnp.mean(POSITIVES[positives](own, others), axis=1)

    if not 0 < block < len(i):
        return of(i, z_t, group)
    # Autograd would keep the scores of every block. An anchor meets all views at once, so that no block
    # needs what another one summed; the last block is filled up with the first images, and they dropped.
    of_block = jax.checkpoint(lambda i: of(i, z_t[i], group[i]))
    blocks = jnp.arange(-(-len(i) // block) * block).reshape(-1, block) % len(i)
    return jax.lax.map(of_block, blocks).reshape(-1)[: len(i)]
