"""Neuron selectivity transfer (Huang and Wang 2017), summed over the stages."""

from craft_jax import losses
from craft_jax.losses.common import check_stages
from craft_jax.methods.common import Method, distilled_reads, distilled_terms, distilled_views


def _terms(config, s):
    def loss(student, teacher):
        check_stages(student_stages=student.stages, teacher_stages=teacher.stages)
        return sum(map(losses.neuron_selectivity, student.stages, teacher.stages))

    return distilled_terms(config, s, "nst", config.nst.weight, loss)


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.nst.weight),
    reads=lambda config: distilled_reads(config, "nst", ()),
    stages=lambda config: "all" if config.nst.weight else (),
)
