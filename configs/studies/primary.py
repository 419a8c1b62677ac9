"""Does CRAFT do what its paper claims, on real images, as far as two CPU cores go?

Protocol, fixed before any run. Data: CIFAR-10 at 16x16, 45,000 training images, 5,000 held out for all that
is chosen; each run meets the test set once, at its end: its first 2,000 images, the same for all. Teacher
ResNet-20, 30 epochs, one for all, of another seed than any student; student ResNet-8, 8 epochs, one
corrupted view of the four extra corruptions (preset cifar10_16). Learning rate and weight decay are the
paper's for all arms, the weights of the terms those of `chosen.py`.

Primary endpoint: robust accuracy over the fifteen corruptions at five severities, last epoch. Six planned
comparisons, corrected together by Holm's method; everything else gets intervals and no p. Seeds: 8 for the
arms of the second and third kind of comparison and for those as printed that they derive from, 4 for ERM,
attention KD and CRD, 3 for others. Every run counts, none is added. Claims hold for this teacher.

Each student is then evaluated twice more on those images, reported apart and not tested: under the eight of
CIFAR-10-C-bar that choose nothing (`tuning.py` names the two that do), the clean confirmation of CRAFT+,
which was chosen by a look at the fifteen; and adapting its BatchNorm to the images: does a lead survive that?

    python -m craft_jax.study configs/studies/primary.py --out=DIR --results=results/cifar10_16 \\
      --config.data.dir=DATA
"""

from configs.studies import chosen
from craft_jax.corruptions import CIFAR10_C_BAR
from craft_jax.study import Arm, Comparison, Study

CHOOSING = ("brownish_noise", "ripple")
FURTHER = {
    "c_bar": {"eval.corruptions": tuple(n for n in CIFAR10_C_BAR if n not in CHOOSING)},
    "batch_norm": {"eval.adaptation": "batch_norm"},
}
TEST = {"eval.split": "test"}  # the images held out of training are for choosing
CLEAN = {"views.distill_target": "clean"}


def get_study(preset=""):
    def arm(name, weights, matched=False, seeds=()):
        presets = ",".join(["cifar10_16", *(["matched"] if matched else []), *filter(None, [preset])])
        return Arm(f"configs/{name}.py:{presets}", {**TEST, **weights}, seeds)

    four, three = (0, 1, 2, 3), (0, 1, 2)
    arms = {
        "kd": arm("kd", chosen.KD),
        "craft": arm("craft", chosen.CRAFT),
        "kd_matched": arm("kd", chosen.KD, matched=True),
        "craft_matched": arm("craft", chosen.CRAFT, matched=True),
        "kd_clean": arm("kd", {**chosen.KD, **CLEAN}, matched=True),  # soft randomisation, arXiv 1910.05057
        "craft_plus": arm("craft_plus", chosen.CRAFT),
        "erm": arm("erm", {}, seeds=four),
        "attkd": arm("attkd", chosen.ATTENTION, seeds=four),
        "crd": arm("crd", chosen.CRD, seeds=four),
        "erm_matched": arm("erm", {}, matched=True, seeds=three),
        "attkd_matched": arm("attkd", chosen.ATTENTION, matched=True, seeds=three),
    }
    planned = [Comparison("craft", other, "robust") for other in ("erm", "kd", "attkd", "crd")]
    planned += [
        Comparison("craft_matched", "kd_matched", "robust"),
        Comparison("craft_plus", "kd_clean", "robust"),
    ]
    return Study(arms, tuple(range(8)), "kd", tuple(planned), FURTHER)
