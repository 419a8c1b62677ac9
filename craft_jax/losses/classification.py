"""Losses on logits: cross-entropy, logit distillation and the divergence of views."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from craft_jax.losses.common import AnyArray, Scalar, centred, check_shapes, float32, frozen


def cross_entropy(
    logits: Float[AnyArray, "B K"], labels: Int[AnyArray, " B"], smoothing: float | int = 0.0
) -> Float[Array, " B"]:
    """Cross-entropy of the true class, in nats (section 3.2, L_ERM before its mean).

        L(x) = -log softmax(logits)_y

    With smoothing a (Szegedy et al. 2016) the target is a class's a / K more, of the true one's 1 - a:

        L(x) = -(1 - a) log softmax(logits)_y - (a / K) sum_k log softmax(logits)_k

    Args:
      logits: any float dtype.
      labels: in 0..K-1; one above that range gives NaN.
      smoothing: a in [0, 1], a number known when the program is made.

    Returns:
      float32, >= 0.

    Raises:
      ValueError: the shapes do not fit.
      TypeError: the labels are not integers.

    >>> import jax.numpy as jnp
    >>> loss = cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))
    >>> round(float(loss[0]), 4)  # log 4
    1.3863
    """
    check_shapes(logits=(logits, "B K"), labels=(labels, "B"))
    hard = optax.losses.softmax_cross_entropy_with_integer_labels(float32(logits), labels)
    if not smoothing:
        return hard
    even = -jnp.mean(jax.nn.log_softmax(float32(logits)), axis=-1)
    return (1 - smoothing) * hard + smoothing * even


def logit_kd(
    student_logits: Float[AnyArray, "B K"], teacher_logits: Float[AnyArray, "B K"], temperature: Scalar
) -> Float[Array, " B"]:
    """Distillation of softened predictions (section 3.2, L_KD before its mean; Hinton et al. 2015).

        p_T = softmax(z_T / T),  p_S = softmax(z_S / T)
        L(x) = T^2 KL(p_T || p_S) = T^2 sum_k p_T,k log(p_T,k / p_S,k)

    Args:
      student_logits: z_S.
      teacher_logits: z_T; no gradient.
      temperature: T > 0. T^2 keeps the size of the gradient independent of T, roughly.

    Returns:
      float32, >= 0 up to rounding, and 0 where the two predictions agree.

    Raises:
      ValueError: the shapes do not fit, such as two different numbers of classes.

    >>> import jax.numpy as jnp
    >>> loss = logit_kd(jnp.array([[0.0, 0.0]]), jnp.array([[100.0, 0.0]]), temperature=2.0)
    >>> round(float(loss[0]), 4)  # the teacher is certain, the student undecided: 4 log 2
    2.7726
    """
    check_shapes(student_logits=(student_logits, "B K"), teacher_logits=(teacher_logits, "B K"))
    t = temperature
    log_p_t = jax.nn.log_softmax(frozen(teacher_logits) / t)
    log_p_s = jax.nn.log_softmax(float32(student_logits) / t)
    return t**2 * optax.losses.kl_divergence_with_log_targets(log_p_s, log_p_t)


def standardize(logits: Float[AnyArray, "B K"]) -> Float[Array, "B K"]:
    """Logits as z-scores over the classes, to be distilled in their place (Sun et al. 2024).

        z_k <- (z_k - mean z) / (s + 1e-7),  s^2 = sum_k (z_k - mean z)^2 / (K - 1)

    A sample's standard deviation, over K - 1, as in the released code.

    Args:
      logits: the student's or the teacher's, any float dtype.

    Returns:
      float32; zeros where all classes have one logit, with the gradient of z - mean z there. This is no
      loss: gradients flow, and a loss stops those of a teacher.

    Raises:
      ValueError: the logits have another rank, or a single class.

    >>> import jax.numpy as jnp
    >>> [round(z, 4) for z in standardize(jnp.array([[1.0, 2.0, 6.0]]))[0].tolist()]  # less 3, over root 7
    [-0.7559, -0.378, 1.1339]
    """
    check_shapes(logits=(logits, "B K"))
    if logits.shape[1] < 2:
        raise ValueError(f"logits {logits.shape}: one class has no standard deviation")
    z = centred(float32(logits))
    variance = jnp.sum(z**2, axis=1, keepdims=True) / (z.shape[1] - 1)
    varies = variance > 0
    return z / jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)) + 1e-7, 1)


def jensen_shannon(logits: Float[AnyArray, "B V K"]) -> Float[Array, " B"]:
    """Jensen-Shannon divergence of an image's predictions over its views (AugMix, Hendrycks et al. 2020).

        p_v = softmax(z_v),  M = (1/V) sum_v p_v
        L(x) = (1/V) sum_v KL(p_v || M)

    The mixture is taken by logarithms; AugMix's code cuts it off at 1e-7 instead.

    Args:
      logits: z; the gradient flows into every view, the mixture included.

    Returns:
      float32 in [0, log V] up to rounding, and 0 where all views agree.

    Raises:
      ValueError: the logits have another rank.

    >>> import jax.numpy as jnp
    >>> loss = jensen_shannon(jnp.array([[[100.0, 0.0], [0.0, 100.0]]]))
    >>> round(float(loss[0]), 4)  # two views, certain of different classes: log 2
    0.6931
    """
    check_shapes(logits=(logits, "B V K"))
    log_p = jax.nn.log_softmax(float32(logits))
    log_m = jax.nn.logsumexp(log_p, axis=1, keepdims=True) - jnp.log(log_p.shape[1])
    return jnp.mean(optax.losses.kl_divergence_with_log_targets(log_m, log_p), axis=1)
