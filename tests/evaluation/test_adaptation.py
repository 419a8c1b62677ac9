"""Test-time adaptation against float64 programs: BatchNorm of a small network and Tent's steps, by hand."""

import functools
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import erm
from craft_jax import data, models
from craft_jax.config import rules
from craft_jax.data.dataset import Source
from craft_jax.errors import ConfigError
from craft_jax.evaluation import adaptation, evaluate, metrics, targets
from craft_jax.mesh import make_mesh
from craft_jax.models.layers import batch_norm, classify, conv

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
SIDE, CLASSES = 16, 3


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):
        x = conv(self.features, 1, 1, jnp.float32, "conv")(x)
        return nn.relu(batch_norm(train, jnp.float32, "norm")(x))


class Toy(nn.Module):
    """Two blocks of a 1x1 convolution and BatchNorm: a matrix product a pixel, which NumPy does as easily."""

    num_classes: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, train):
        x = Block(5, name="first")(x, train)
        return classify([Block(4, name="second")(x, train)], self.num_classes)


class NoNorm(nn.Module):
    num_classes: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, train):
        return classify([nn.relu(conv(4, 1, 1, jnp.float32, "conv")(x))], self.num_classes)


@pytest.fixture(scope="module")
def case():
    """(dataset of 26 images, two networks), whose statistics and scales are not initial ones."""
    random = np.random.default_rng(2)
    images = random.integers(0, 256, (26, SIDE, SIDE, 3)).astype(np.uint8)
    images[::3] //= 2  # so that batches differ in their statistics
    labels = random.integers(0, CLASSES, 26).astype(np.int32)
    dataset = data.make("npz", Source(images, labels, images, labels, CLASSES), 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.REGISTRY, "toy", Toy)
        model = models.build("toy", CLASSES, dtype="float32", mean=MEAN, std=STD)
    networks = []
    for seed in (0, 1):
        variables = model.init(jax.random.key(seed), (SIDE, SIDE, 3))
        random = np.random.default_rng(seed)
        moved = jax.tree.map(
            lambda x, r=random: x + r.uniform(0.1, 0.5, x.shape).astype(np.float32), variables
        )
        networks.append(SimpleNamespace(model=model, variables=moved))
    return dataset, *networks


def config_of(kind, **settings):
    config = erm.get_config("smoke")
    defaults = {"corruptions": ("contrast", "brightness"), "severities": (1, 4), "max_examples": 0}
    config.eval.update({**defaults, "batch_size": 26, "adaptation": kind, **settings})
    config.log.progress = False
    return config


def forward(parameters, statistics, images, weight):
    """(logits, the mixed statistics), all in float64, BatchNorm by hand."""
    x, kept = (images - np.array(MEAN)) / np.array(STD), {}
    for block in ("first", "second"):
        own, old = parameters[block], statistics[block]["norm"]
        x = np.einsum("bhwc,cd->bhwd", x, own["conv"]["kernel"][0, 0])
        pixels = x.reshape(-1, x.shape[-1])
        mean = weight * old["mean"] + (1 - weight) * pixels.sum(0) / len(pixels)
        deviations = (pixels - pixels.sum(0) / len(pixels)) ** 2
        var = weight * old["var"] + (1 - weight) * deviations.sum(0) / len(pixels)
        kept[block] = mean, var
        x = own["norm"]["scale"] * (x - mean) / np.sqrt(var + 1e-5) + own["norm"]["bias"]
        x = np.maximum(x, 0)
    return x.mean((1, 2)) @ parameters["head"]["kernel"] + parameters["head"]["bias"], kept


def float64(tree):
    return jax.tree.map(lambda x: np.array(x, np.float64), tree)


def order_of(count):
    return np.random.RandomState(20_261).permutation(count)


def adapted(network, config, images, **cell):
    mesh = make_mesh()
    adapter = adaptation.make(config, network.model, mesh)
    size = config.eval.adaptation_batch_size
    pair = (evaluate.predictor(network.model, mesh), network.variables)
    (logits,) = adaptation.logits_of(adapter, [pair], images, size, mesh, **cell)
    return logits


@pytest.mark.parametrize(("prior", "size"), [(5.0, 4), (3.0, 40)])
def test_statistics_of_a_batch_are_mixed_with_the_running_ones(case, prior, size):
    """Seven images in batches of 4, the last filled up with the first one; and all at once."""
    dataset, network, _ = case
    images = dataset.test_images[:7]
    config = config_of("batch_norm", adaptation_prior=prior, adaptation_batch_size=size)
    found = adapted(network, config, images)
    parameters, statistics = float64(network.variables["params"]), float64(network.variables["batch_stats"])
    order = order_of(7).tolist()
    batches = {4: [order[:4], [*order[4:], order[0]]], 40: [order]}[size]
    wanted = np.full((7, CLASSES), np.nan)
    for number, batch in enumerate(batches):
        logits, _ = forward(parameters, statistics, images[batch] / 255, prior / (prior + len(batch)))
        for place, image in enumerate(batch):
            if number == 0 or image != order[0]:  # it is judged in its first batch
                wanted[image] = logits[place]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_mixed_statistics_are_what_every_layer_normalises_by(case):
    """`Model.adapt` returns them, of later layers once earlier ones have adapted; 1 adapts nothing."""
    dataset, network, _ = case
    images = dataset.test_images[:6] / np.float32(255)
    parameters, statistics = float64(network.variables["params"]), float64(network.variables["batch_stats"])
    outputs, mixed = network.model.adapt(network.variables, images, 0.25)
    logits, kept = forward(parameters, statistics, images.astype(np.float64), 0.25)
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-4, atol=1e-4)
    for block, (mean, var) in kept.items():
        np.testing.assert_allclose(mixed[block]["norm"]["mean"], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(mixed[block]["norm"]["var"], var, rtol=1e-4, atol=1e-5)
    plain, _ = network.model.apply(network.variables, images, train=False)
    np.testing.assert_allclose(network.model.adapt(network.variables, images, 1.0)[0].logits, plain.logits)
    trained, _ = network.model.apply(network.variables, images, train=True)
    alone = network.model.adapt(network.variables, images, 0.0)[0].logits
    np.testing.assert_allclose(alone, trained.logits, rtol=1e-4, atol=1e-5)


def entropy(parameters, statistics, images):
    logits = forward(parameters, statistics, images, 0.0)[0]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return -(p * np.log(p)).sum(-1).mean()


def gradient(parameters, statistics, images):
    """{(block, "scale" or "bias"): central differences} of the mean entropy; of nothing else."""
    found = {}
    for block in ("first", "second"):
        for name, values in parameters[block]["norm"].items():
            slopes = np.zeros_like(values)
            for i in range(len(values)):
                kept, ends = values[i], []
                for step in (1e-5, -1e-5):
                    values[i] = kept + step
                    ends.append(entropy(parameters, statistics, images))
                values[i] = kept
                slopes[i] = (ends[0] - ends[1]) / 2e-5
            found[block, name] = slopes
    return found


def test_tent_predicts_a_batch_and_then_steps(case):
    """Eight images in batches of three: Adam by hand (Kingma and Ba 2015), its gradients by differences."""
    dataset, network, _ = case
    images, rate = dataset.test_images[:8], 0.05
    config = config_of("tent", adaptation_batch_size=3, adaptation_learning_rate=rate)
    found = adapted(network, config, images)
    parameters, statistics = float64(network.variables["params"]), float64(network.variables["batch_stats"])
    order = order_of(8).tolist()
    wanted, first, second = np.zeros((8, CLASSES)), {}, {}
    for step, batch in enumerate((order[:3], order[3:6], [*order[6:], order[0]]), start=1):
        pixels = images[batch] / 255
        logits = forward(parameters, statistics, pixels, 0.0)[0]
        for place, image in enumerate(batch):
            if step == 1 or image != order[0]:
                wanted[image] = logits[place]
        for (block, name), slope in gradient(parameters, statistics, pixels).items():
            key = block, name
            first[key] = 0.9 * first.get(key, 0) + 0.1 * slope
            second[key] = 0.999 * second.get(key, 0) + 0.001 * slope**2
            m, v = first[key] / (1 - 0.9**step), second[key] / (1 - 0.999**step)
            parameters[block]["norm"][name] -= rate * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=2e-3)
    still = adapted(network, config_of("batch_norm", adaptation_batch_size=3, adaptation_prior=0.0), images)
    late = order[3:]
    assert np.abs(found - still)[late].max() > 0.05  # the steps did something
    np.testing.assert_allclose(found[order[:3]], still[order[:3]], rtol=1e-4, atol=1e-5)


def test_tent_moves_scales_and_biases_alone(case):
    dataset, network, _ = case
    config = config_of("tent", adaptation_learning_rate=0.05)
    adapter = adaptation.make(config, network.model, make_mesh())
    state = adapter.begin(network.variables)
    _, (after, _) = adapter.predict(state, dataset.test_images[:6] / np.float32(255))
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).all()), after, network.variables)
    block = {"conv": {"kernel": False}, "norm": {"scale": True, "bias": True}}
    head = {"head": {"kernel": False, "bias": False}}
    assert moved["params"] == {"first": block, "second": block} | head
    assert not any(jax.tree.leaves(moved["batch_stats"]))


def measured(case, kind, teacher=True, **settings):
    dataset, student, taught = case
    config, mesh = config_of(kind, **settings), make_mesh()
    pairs = [(evaluate.predictor(n.model, mesh), n.variables) for n in (student, taught)]
    wanted = targets.prepare(config, dataset)
    adapter = adaptation.make(config, student.model, mesh) if kind != "none" else None
    return evaluate.evaluate(
        pairs[0], dataset, config, mesh, wanted, pairs[1] if teacher else None, adapter=adapter
    )


@pytest.fixture(scope="module")
def plain(case):
    return measured(case, "none")


@pytest.mark.parametrize("kind", ["batch_norm", "tent"])
def test_each_cell_is_met_by_a_fresh_student_and_the_teacher_by_none(case, plain, kind):
    settings = {"adaptation_batch_size": 8, "adaptation_learning_rate": 0.05}
    whole, correct = measured(case, kind, **settings)
    assert whole["adaptation"]["kind"] == kind and plain.result["adaptation"] is None
    # Some cells alone, and in another order: what was met before does not matter.
    part, of_part = measured(case, kind, **settings, corruptions=("brightness", "contrast"), severities=(4,))
    for name in part["corruptions"]:
        assert part["corruptions"][name][3] == whole["corruptions"][name][3]
        assert of_part[f"{name}/4"].tolist() == correct[f"{name}/4"].tolist()
    assert part["clean"] == whole["clean"]
    # Each cell by itself, in the data set's own order; NLL, which tells every image's logits.
    surprises, config = [], config_of(kind, **settings)
    for name, severity in itertools.product(("contrast", "brightness"), (1, 4)):
        logits = adapted(case[1], config, case[0].test_images, name=name, severity=severity)
        hits = logits.argmax(-1) == case[0].test_labels
        assert hits.tolist() == correct[f"{name}/{severity}"].tolist()
        surprises.append(metrics.nll(logits, case[0].test_labels))
    assert whole["corrupted"]["nll"] == pytest.approx(np.mean(surprises), rel=1e-5)
    teacher = dict(whole["teacher_evaluation"])
    of_plain = dict(plain.result["teacher_evaluation"])
    for key in ("clean_accuracy", "corruptions"):
        assert teacher[key] == of_plain[key]
    for key in ("clean", "corrupted"):  # calibration: up to rounding, in batches of another size
        assert teacher[key] == pytest.approx(of_plain[key], rel=1e-4)
    assert abs(whole["corrupted"]["nll"] - plain.result["corrupted"]["nll"]) > 0.01


def test_without_adaptation_its_keys_change_nothing(case, plain):
    assert measured(case, "none", adaptation_batch_size=3, adaptation_prior=0.0).result == plain.result


def test_adapted_figures_are_compared_with_their_like_alone(case, plain):
    kinds = [
        config_of("none"),
        config_of("batch_norm"),
        config_of("tent"),
        config_of("batch_norm", adaptation_prior=0.0),
        config_of("batch_norm", adaptation_batch_size=100),
    ]
    found = [targets.comparable(targets.prepare(config, case[0]).record) for config in kinds]
    assert [one == found[0] for one in found] == [True, False, False, False, False]
    assert [{key for key in one if one[key] != found[1][key]} for one in found[2:]] == [{"adaptation"}] * 3
    unread = config_of("tent", adaptation_prior=0.0)
    assert targets.comparable(targets.prepare(unread, case[0]).record) == found[2]


def test_what_cannot_adapt_is_refused_in_words():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.REGISTRY, "none", NoNorm)
        model = models.build("none", CLASSES, dtype="float32", mean=MEAN, std=STD)
    variables = model.init(jax.random.key(0), (SIDE, SIDE, 3))
    check = functools.partial(adaptation.check, name="plainnet", variables=variables)
    for kind in ("batch_norm", "tent"):
        with pytest.raises(
            ConfigError, match=rf"{kind}' adapts BatchNorm, and plainnet has none; allowed: 'none'"
        ):
            check(config_of(kind))
        rules.validate(config_of(kind))
        with pytest.raises(ConfigError, match=r"eval\.adaptation: .*; allowed in training: 'none'"):
            rules.validate_training(config_of(kind))
    check(config_of("none"))
