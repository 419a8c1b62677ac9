"""Every configuration file, every rule of `validate`, overrides, and that no key is dead or missing.

The tests that go over all keys take them from configs/default.py, so a new key is under test when it is
added: a number must have a range, a name must have its choices, and the code must read it.
"""

import ast
import json
import textwrap
from pathlib import Path

import jax
import ml_collections
import pytest

from craft_jax import corruptions, losses, methods, models
from craft_jax.config import reader, rules, tree
from craft_jax.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.name for path in (ROOT / "configs").glob("[!_]*.py"))
PRESETS = reader.import_file(ROOT / "configs" / "_presets.py").PRESETS

# Text that nothing can check before the data is there: paths.
PATHS = {
    "data.dir",
    "student.checkpoint",
    "teacher.checkpoint",
    "teacher.cache",
    "eval.dir",
    "eval.reference",
    "distributed.coordinator",
}


def load(name="craft.py", **overrides):
    """A configuration; overrides are Python values, with `__` for the dot."""
    config = reader.load(str(ROOT / "configs" / name))
    for key, value in overrides.items():
        assign(config, key.replace("__", "."), value)
    return config


def assign(config, key, value):
    *sections, leaf = key.split(".")
    for section in sections:
        config = config[section]
    config[leaf] = value


def override(key, text, name="craft.py"):
    """The value of a key after an override."""
    config = reader.load(str(ROOT / "configs" / name), [(key, text)])
    return tree.flatten(config)[key]


def faults(config):
    """The lines of the message that `validate` gives, [] for a valid configuration."""
    try:
        rules.validate_training(config)
    except ConfigError as error:
        return str(error).split("\n")
    return []


def faults_at(config, key):
    return [line for line in faults(config) if line.startswith(f"config.{key}: ")]


DEFAULT = tree.flatten(load("default.py"))


def keys_of(*types):
    return [key for key, value in DEFAULT.items() if type(value) in types]


# ----------------------------------------------------------------------------------------------------
# The files


@pytest.mark.parametrize("name", FILES)
def test_every_file_and_preset_is_valid(name):
    presets = ["", *PRESETS]
    presets += [f"{p},matched" for p in PRESETS] + [f"matched,{p}" for p in PRESETS]
    for preset in presets:
        config = reader.load(f"{ROOT / 'configs' / name}:{preset}")
        assert faults(config) == [], preset
        assert faults(tree.teacher_config(config)) == [], preset
        assert config.is_locked
        assert tree.flatten(config).keys() == DEFAULT.keys(), "a file adds or drops keys"
        assert not [k for k, v in tree.flatten(config).items() if v is None or isinstance(v, list)]
        assert all(tree.flatten(config)[k] != () for k in keys_of(tuple)), preset


def test_a_file_names_its_method():
    by_method = {Path(name).stem: load(name).method for name in FILES}
    assert by_method["teacher"] == by_method["default"] == "erm"
    for method in methods.METHODS:
        assert by_method[method] == method


def test_files_differ_in_their_method_and_share_the_protocol():
    for method in methods.METHODS:
        own = {"method", "views.kind"} if method == "augmix" else {"method"}
        flat = tree.flatten(load(f"{method}.py"))
        assert {k: v for k, v in flat.items() if k not in own} == {
            k: v for k, v in DEFAULT.items() if k not in own
        }


def test_augmix_has_its_papers_views_whatever_the_preset():
    for preset in ("", *PRESETS):
        views = reader.load(f"{ROOT / 'configs' / 'augmix.py'}:{preset}").views
        assert (views.kind, views.count) == ("augmix", 2)


def test_documented_defaults():
    """Those that the design's section 3 and the paper's table 1 name."""
    expected = {
        "batch_size": 128,
        "epochs": 200,
        "dtype": "float32",
        "data.crop_padding": 4,
        "data.flip": True,
        "student.name": "resnet20",
        "teacher.name": "resnet56",
        "teacher.checkpoint": "",
        "teacher.allow_other_data": False,
        "teacher.cache": "runs/teachers",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 5e-4,
        "views.count": 2,
        "views.kind": "corruptions",
        "views.ce_views": "clean",
        "views.distill_views": "clean",
        "views.distill_target": "own",
        "views.allow_overlap": False,
        "kd.weight": 1.0,
        "kd.temperature": 4.0,
        "contrastive.weight": 0.5,
        "contrastive.temperature": 0.1,
        "contrastive.positives": "cross_view",
        "contrastive.anchor": "own",
        "contrastive.mask_same_class": False,
        "dealign.weight": 1.0,
        "dealign.kind": "principal",
        "dealign.form": "position",
        "dealign.eps": 1e-6,
        "reliability.source": "teacher",
        "reliability.alpha": 10.0,
        "reliability.beta": 1.0,
        "reliability.gamma": 0.5,
        "eval.primary_weights": (0.25, 0.75),
    }
    expected |= {"crd.weight": 0.8, "crd.temperature": 0.1, "crd.momentum": 0.5}
    expected |= {"crd.bank": "memory", "crd.negatives": 16384}
    # AugMix's public code on CIFAR, where depth is -1 for random.
    expected |= {"augmix.severity": 3, "augmix.width": 3, "augmix.depth": 0, "augmix.alpha": 1.0}
    expected |= {"augmix.weight": 12.0, "teacher.method": "erm"}
    # Public code's 1000 a stage, for three, goes with its mean over positions.
    expected |= {"attention.reduction": "mean", "attention.weight": 3000.0}
    # RepDistiller's weights, mdistiller's of DKD, the authors' of DIST.
    weights = {"fitnets": 100.0, "sp": 3000.0, "rkd": 1.0, "pkt": 30000.0, "nst": 50.0, "vid": 1.0}
    expected |= {f"{name}.weight": weight for name, weight in weights.items()}
    expected |= {"fitnets.stage": 2, "rkd.distance_weight": 25.0, "rkd.angle_weight": 50.0}
    expected |= {"dkd.alpha": 1.0, "dkd.beta": 8.0, "dkd.temperature": 4.0, "dkd.warmup": 20 / 240}
    expected |= {"dist.beta": 2.0, "dist.gamma": 2.0, "dist.temperature": 4.0, "kd.standardize": False}
    assert {k: DEFAULT.get(k) for k in expected} == expected
    assert {k: type(DEFAULT[k]) for k in expected} == {k: type(v) for k, v in expected.items()}
    for key in ("seed", "method", "data.name", "data.dir", "checkpoint.every_steps", "checkpoint.keep"):
        assert key in DEFAULT
    for key in ("eval.source", "eval.corruptions", "eval.severities", "eval.max_examples"):
        assert key in DEFAULT
    for key, type_ in {"learning_rate": float, "momentum": float, "weight_decay": float}.items():
        assert DEFAULT[f"teacher.{key}"] == DEFAULT[f"optimizer.{key}"]
        assert type(DEFAULT[f"teacher.{key}"]) is type_


def test_matched_and_the_order_of_presets():
    path = ROOT / "configs" / "kd.py"
    matched = reader.load(f"{path}:digits,matched")
    assert (matched.views.ce_views, matched.views.distill_views) == ("all", "all")
    assert (matched.data.name, matched.student.name) == ("digits", "resnet8")
    plain = reader.load(f"{path}:digits")
    assert [d.split(":")[0] for d in tree.differences(plain, matched)] == [
        "config.views.ce_views",
        "config.views.distill_views",
    ]
    # The later preset wins where two set the same key.
    assert reader.load(f"{path}:digits,cifar10_cpu").epochs == 10
    assert reader.load(f"{path}:cifar10_cpu,digits").epochs == 6


@pytest.mark.parametrize(
    ("family", "extra"),
    [("noise", "speckle_noise"), ("blur", "gaussian_blur"), ("weather", "spatter"), ("digital", "saturate")],
)
def test_a_family_can_be_left_unseen(family, extra):
    path = ROOT / "configs" / "craft.py"
    whole, without = reader.load(f"{path}:"), reader.load(f"{path}:without_{family}")
    assert set(whole.views.corruptions) - set(without.views.corruptions) == {extra}
    assert [d.split(":")[0] for d in tree.differences(whole, without)] == ["config.views.corruptions"]
    # In either order with a preset that has a list of its own.
    for presets in (f"without_{family},digits", f"digits,without_{family}"):
        if extra in ("speckle_noise", "gaussian_blur"):
            assert extra not in reader.load(f"{path}:{presets}").views.corruptions
    with pytest.raises(ConfigError, match=f"{extra} is not among"):
        reader.load(f"{path}:without_{family},without_{family}")


def test_c_bar_is_evaluated_and_never_trained_on():
    for preset in ("c_bar", "cifar10_cpu,c_bar", "digits,c_bar", "smoke,c_bar"):
        config = reader.load(f"{ROOT / 'configs' / 'craft.py'}:{preset}")
        assert config.eval.corruptions == corruptions.CIFAR10_C_BAR and faults(config) == []
    ten = corruptions.CIFAR10_C_BAR
    for overlap in (False, True):
        views = {"views__corruptions": ("speckle_noise", "ripple", "lines"), "views__allow_overlap": overlap}
        (line,) = faults(load(**views))
        assert line.startswith(
            "config.views.corruptions: 'ripple', 'lines' is CIFAR-10-C-bar's, never trained"
        )
        assert not set(line.partition("allowed: ")[2].split(", ")) & set(ten)
    # Whatever the method makes of its views, and beside a name that is not known at all.
    assert len(faults(load("erm.py", views__corruptions=ten))) == 1
    assert len(faults(load(views__corruptions=("riple", "ripple")))) == 2


def test_tfds_has_no_c_bar():
    (line,) = faults(load(eval__source="cifar10_corrupted", eval__corruptions=("fog", "ripple")))
    assert line.startswith("config.eval.corruptions: ripple") and "allowed with it: " in line
    assert faults(load(eval__source="cifar10_c", eval__dir="d", eval__corruptions=("fog", "ripple"))) == []


def test_no_default_overlap():
    assert not set(DEFAULT["views.corruptions"]) & set(DEFAULT["eval.corruptions"])
    assert set(DEFAULT["views.corruptions"]) <= set(corruptions.EXTRA)
    assert set(DEFAULT["eval.corruptions"]) <= set(corruptions.TEST)


# ----------------------------------------------------------------------------------------------------
# No key without a reader, no reader without a key


def chains(tree):
    """(dotted key, line, is it read?) of each longest `config.a.b` or `x.config.a.b` in a syntax tree.

    Where the chain ends in a call, as in config.views.items(), its last name is a method's.
    """
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        names, base = [], node
        while isinstance(base, ast.Attribute):
            names.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            names.insert(0, base.id)
        if "config" not in names or names[0] == "jax":  # JAX's own
            continue
        key = names[names.index("config") + 1 :]
        if id(node) in called:
            key = key[:-1]
        if key:
            yield ".".join(key), node.lineno, isinstance(node.ctx, ast.Load)


def sources():
    """The trees that read configurations: of config.py, whose rules name all keys, `teacher_config` alone."""
    for path in sorted((ROOT / "craft_jax").rglob("*.py")):
        tree = ast.parse(path.read_text())
        if path == ROOT / "craft_jax" / "config.py":
            tree = next(n for n in tree.body if getattr(n, "name", "") == "teacher_config")
        yield path.relative_to(ROOT), tree


def missing_keys(trees, keys):
    """['file:line: config.key'] for each chain that is neither a key nor a section."""
    sections = {key.rpartition(".")[0] for key in keys} - {""}
    return [
        f"{path}:{line}: config.{key}"
        for path, tree in trees
        for key, line, _ in chains(tree)
        if key not in keys and key not in sections
    ]


def dead_keys(trees, keys):
    return sorted(set(keys) - {key for _, tree in trees for key, _, read in chains(tree) if read})


def test_every_key_is_read():
    assert dead_keys(sources(), DEFAULT) == []


def test_every_key_that_is_read_exists():
    assert missing_keys(sources(), DEFAULT) == []


def test_the_detector_detects():
    source = """
    def f(config, run, options):
        a = config.seed + run.config.views.count
        b = [x for x in self.run.config.eval.severities]
        config.items(), config.views.items(), rules.validate(config), options.config
        config.kd.weight = config.kd.temperatur
        return config.data.name.partition(":"), run.epochs, config["seed"], make(config).batch_size
    """
    trees = [("fake.py", ast.parse(textwrap.dedent(source)))]
    found = {key: read for key, _, read in chains(trees[0][1])}
    assert found == {
        "seed": True,
        "views.count": True,
        "eval.severities": True,
        "views": True,
        "kd.weight": False,  # set, not read
        "kd.temperatur": True,
        "data.name": True,
    }
    assert missing_keys(trees, DEFAULT) == ["fake.py:6: config.kd.temperatur"]
    dead = dead_keys(trees, DEFAULT)
    assert {"kd.weight", "kd.temperature", "batch_size", "epochs"} <= set(dead)
    assert not {"seed", "views.count", "data.name"} & set(dead)


def test_the_detector_sees_the_code():
    """The spine's own reads, so that a moved file or a renamed argument cannot blind the two tests above."""
    read = {key for _, tree in sources() for key, _, is_read in chains(tree) if is_read}
    assert {"seed", "dealign.kind", "teacher.learning_rate", "checkpoint.keep", "log.progress"} <= read


# ----------------------------------------------------------------------------------------------------
# validate


@pytest.mark.parametrize("key", keys_of(int, float))
def test_a_number_has_a_range(key):
    for bad in (-1, -(2**40)):
        lines = faults_at(load(**{key.replace(".", "__"): type(DEFAULT[key])(bad)}), key)
        assert lines and all(str(bad) in line and "allowed: " in line for line in lines), key
    if isinstance(DEFAULT[key], float):
        for bad in (float("nan"), float("inf"), float("-inf")):
            assert faults_at(load(**{key.replace(".", "__"): bad}), key), f"{key}={bad}"


@pytest.mark.parametrize("key", [k for k in keys_of(str) if k not in PATHS])
def test_a_name_has_its_choices(key):
    for bad in ("no_such_name", *([""] if DEFAULT[key] else []), DEFAULT[key].upper() + "_"):
        (line,) = faults_at(load(**{key.replace(".", "__"): bad}), key)
        assert repr(bad) in line and "allowed: " in line
        allowed = line.partition("allowed: ")[2].split(", ")
        assert (DEFAULT[key] or "''") in allowed
        assert bad not in allowed


@pytest.mark.parametrize("key", keys_of(tuple))
def test_a_tuple_refuses_strangers_repeats_and_nothing(key):
    default = DEFAULT[key]
    stranger = "no_such_name" if isinstance(default[0], str) else type(default[0])(-7)
    for bad in ((*default, stranger), (*default, default[0]), ()):
        lines = faults_at(load(**{key.replace(".", "__"): bad}), key)
        assert lines and ("allowed: " in lines[0] or "twice" in lines[0]), f"{key}={bad}"
        assert "Error" not in lines[0]


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("method", sorted(methods.METHODS)),
        ("dtype", ["float32", "bfloat16"]),
        ("precision", ["default", "highest"]),
        ("data.name", ["cifar10", "cifar100", "digits", "npz", "folder", "imagenet2012"]),
        ("data.crop", ["padded", "resized"]),
        ("data.cue", ["none", "corner", "color"]),
        ("data.streaming", ["auto", "always", "never"]),
        ("student.name", models.REGISTRY),  # evaluated below: tests/conftest.py adds one
        ("teacher.name", models.REGISTRY),
        ("teacher.method", ["erm", "augmix"]),
        ("views.kind", ["corruptions", "augmix"]),
        ("views.corruptions", list(corruptions.CIFAR10_C)),
        ("views.severities", list("12345")),
        ("views.ce_views", ["clean", "all"]),
        ("views.distill_views", ["clean", "all"]),
        ("views.distill_target", ["own", "clean"]),
        ("contrastive.positives", list(losses.POSITIVES)),
        ("contrastive.anchor", ["own", "clean"]),
        ("combined.methods", [name for name in methods.METHODS if name not in ("erm", "combined")]),
        ("dealign.kind", list(losses.KINDS)),
        ("dealign.form", list(losses.FORMS)),
        ("reliability.source", ["teacher", "mean", "shuffled", "oracle"]),
        ("eval.split", ["", "test", "validation"]),
        ("eval.source", ["regenerated", "cifar10_c", "cifar10_corrupted", "cifar10_1", "imagenet_c"]),
        ("eval.corruptions", list(corruptions.NAMES)),
        ("eval.severities", list("12345")),
        ("eval.adaptation", ["none", "batch_norm", "tent"]),
    ],
)
def test_a_choice_lists_what_is_allowed_and_takes_it(key, allowed):
    default = DEFAULT[key]
    kind = type(default[0] if isinstance(default, tuple) else default)
    stranger = 9 if kind is int else "nope"
    bad = (stranger,) if isinstance(default, tuple) else stranger
    (line,) = faults_at(load(**{key.replace(".", "__"): bad}), key)
    assert sorted(line.partition("allowed: ")[2].split(", ")) == sorted(name or "''" for name in allowed)
    for name in allowed:
        value = (kind(name),) if isinstance(default, tuple) else kind(name)
        config = load(views__allow_overlap=True, **{key.replace(".", "__"): value})
        assert not [line for line in faults_at(config, key) if "unknown" in line]


@pytest.mark.parametrize(
    ("key", "bad", "good"),
    [
        ("seed", [-1, 2**31], [0, 2**31 - 1]),
        ("teacher.seed", [-1, 2**31], [0, 2**31 - 1]),
        ("batch_size", [0], [8]),
        ("epochs", [0], [1]),
        ("data.size", [-1, 1, 15], [0, 16, 32]),
        ("data.validation", [-1], [0, 5000]),
        ("data.max_train", [-1], [0, 2000]),
        ("data.memory_gb", [-1.0], [0.0, 0.5]),
        ("data.workers", [-2], [0, 8]),
        ("data.crop_padding", [-1], [0, 4]),
        ("data.crop_scale", [(0.0, 1.0), (0.5, 1.1)], [(0.08, 1.0), (1.0, 1.0)]),
        ("data.test_crop", [0.0, 1.5], [1.0]),
        ("optimizer.accumulate_steps", [0], [1, 2, 8]),
        ("data.cue_correlation", [-0.1, 1.1], [0.0, 0.5, 1.0]),
        ("teacher.epochs", [0], [1]),
        ("teacher.batch_size", [0], [8]),
        ("teacher.learning_rate", [0.0], [1e-9]),
        ("teacher.momentum", [1.0], [0.0, 0.999]),
        ("teacher.weight_decay", [-1e-9], [0.0]),
        ("optimizer.learning_rate", [0.0], [1e-9]),
        ("optimizer.momentum", [1.0, 1.5], [0.0, 0.999]),
        ("optimizer.weight_decay", [-1e-9], [0.0]),
        ("optimizer.warmup_epochs", [-0.5], [0.0, 0.5, 5.0]),
        ("optimizer.drop_epochs", [(0, 5), (-1,)], [(1,), (5, 7)]),
        ("optimizer.drop_factor", [0.0, 1.0], [0.1, 0.99]),
        ("optimizer.clip_norm", [-1.0], [0.0, 5.0]),
        ("label_smoothing", [-0.1, 1.0], [0.0, 0.1]),
        ("views.count", [-1], [0, 1, 5]),
        ("views.lanes", [0, -8], [1, 128]),
        ("augmix.severity", [0, 11], [1, 10]),
        ("augmix.width", [0], [1, 5]),
        ("augmix.depth", [-1], [0, 1, 4]),
        ("augmix.alpha", [0.0], [0.1, 10.0]),
        ("augmix.weight", [-1e-9], [0.0]),
        ("kd.weight", [-1e-9], [0.0]),
        ("kd.temperature", [0.0], [0.5]),
        ("contrastive.weight", [-0.5], [0.0]),
        ("contrastive.temperature", [0.0], [0.01]),
        ("contrastive.block", [-1], [0, 1, 1000]),
        ("contrastive.stages", [(0,), (1, -1), (1.5,), ("2",)], [(1,), (2, 5)]),
        ("fitnets.stage", [0, -1], [1, 4, 5]),
        ("dealign.weight", [-0.5], [0.0]),
        ("dealign.eps", [0.0], [1e-12]),
        ("reliability.alpha", [-0.1], [0.0]),
        ("reliability.beta", [-0.1], [0.0]),
        ("reliability.gamma", [-0.1, 1.1], [0.0, 1.0]),
        ("eval.max_examples", [-1], [0, 1]),
        ("eval.batch_size", [0], [1, 500]),
        ("eval.adaptation_batch_size", [0], [1, 200]),
        ("eval.adaptation_prior", [-0.5], [0.0, 16.0]),
        ("eval.adaptation_learning_rate", [0.0], [1e-9]),
        ("eval.clean_every_epochs", [-1], [0, 1]),
        ("checkpoint.every_steps", [0], [1]),
        ("checkpoint.keep", [0], [1]),
        ("log.every_steps", [0], [1]),
    ],
)
def test_ranges_at_their_edges(key, bad, good):
    for value in bad:
        lines = faults_at(load(**{key.replace(".", "__"): value}), key)
        assert lines, value
        assert repr(value) in lines[0] and "allowed: " in lines[0]
    for value in good:
        assert faults_at(load(**{key.replace(".", "__"): value}), key) == []


@pytest.mark.parametrize(
    ("settings", "key", "allowed"),
    [
        ({"optimizer__nesterov": True, "optimizer__momentum": 0.0}, "optimizer.momentum", "nesterov"),
        ({"optimizer__warmup_epochs": 200.0}, "optimizer.warmup_epochs", "less than the 200 epochs"),
        ({"optimizer__drop_epochs": (9, 5)}, "optimizer.drop_epochs", "increasing"),
        ({"optimizer__drop_epochs": ()}, "optimizer.drop_epochs", "at least one"),
        ({"optimizer__schedule": "drops"}, "optimizer.drop_epochs", "epochs=200: epochs after the warm-up"),
        ({"method": "kd", "teacher__schedule": "drops"}, "optimizer.drop_epochs", "teacher.epochs=200"),
        (
            {
                "optimizer__schedule": "drops",
                "optimizer__drop_epochs": (5,),
                "optimizer__warmup_epochs": 5.0,
            },
            "optimizer.drop_epochs",
            "after the warm-up",
        ),
    ],
)
def test_a_schedule_that_does_not_fit_the_run(settings, key, allowed):
    (line,) = faults_at(load(**settings), key)
    assert allowed in line


@pytest.mark.parametrize(
    ("settings", "key", "allowed"),
    [
        ({"data__test_crop": 0.5}, "data.test_crop", "but with data.name=folder or imagenet2012"),
        ({"data__crop_scale": (0.5, 0.1)}, "data.crop_scale", "the least share first"),
        ({"data__crop_scale": (0.5,)}, "data.crop_scale", "two numbers"),
        ({"data__name": "imagenet2012"}, "data.size", "the side that pictures are resized to"),
        ({"eval__source": "imagenet_c", "eval__dir": "d"}, "eval.source", "imagenet2012 or folder"),
        ({"eval__source": "imagenet_c", "data__name": "folder"}, "eval.dir", "NAME/SEVERITY/CLASS"),
        ({"optimizer__accumulate_steps": 3}, "batch_size", "devices times optimizer.accumulate_steps=3"),
    ],
)
def test_rules_of_imagenet_and_of_parts(settings, key, allowed):
    (line,) = faults_at(load(**settings), key)
    assert allowed in line


def test_the_recipe_for_imagenet():
    config = reader.load(f"{ROOT / 'configs' / 'craft_imagenet.py'}")
    assert config.method == "craft" and config.dtype == "bfloat16"
    for own in (config, tree.teacher_config(config)):
        assert (own.data.name, own.data.size, own.data.crop) == ("imagenet2012", 224, "resized")
        assert (own.batch_size, own.epochs, own.optimizer.learning_rate) == (256, 100, 0.1)
        assert (own.optimizer.momentum, own.optimizer.weight_decay) == (0.9, 1e-4)
    assert (config.student.name, config.teacher.name) == ("resnet18-imagenet", "resnet50-imagenet")
    assert tree.teacher_recipe(tree.teacher_config(config))["data.crop_scale"] == (0.08, 1.0)
    assert "data.crop_scale" not in tree.teacher_recipe(tree.teacher_config(load()))
    assert methods.unread(config, ["data.crop_padding", "data.crop_scale"]) == ["data.crop_padding"]
    smoke = reader.load(f"{ROOT / 'configs' / 'craft_imagenet.py'}:smoke")
    assert (smoke.data.name, smoke.data.size, smoke.data.crop) == ("digits", 0, "resized")


def test_the_kd_literatures_recipe():
    config = reader.load(f"{ROOT / 'configs' / 'kd.py'}:kd_literature")
    for own in (config, tree.teacher_config(config)):
        assert (own.batch_size, own.epochs, own.optimizer.learning_rate) == (64, 240, 0.05)
        drops = (own.optimizer.schedule, own.optimizer.drop_epochs, own.optimizer.drop_factor)
        assert drops == ("drops", (150, 180, 210), 0.1)
        assert (own.optimizer.momentum, own.optimizer.weight_decay) == (0.9, 5e-4)
        assert not own.optimizer.nesterov
    assert methods.unread(load(), ["optimizer.drop_epochs"]) == ["optimizer.drop_epochs"]
    assert methods.unread(config, ["optimizer.drop_epochs"]) == []


def test_all_faults_in_one_error():
    config = load(
        seed=-1,
        method="craf",
        student__name="resnet21",
        kd__temperature=0.0,
        views__severities=(0, 6),
        eval__corruptions=("contrast", "rain"),
        reliability__gamma=2.0,
        data__name="npz",
        eval__primary_weights=(0.5, 0.6),
        views__lanes=3,
    )
    lines = faults(config)
    assert sorted(line.split(":")[0] for line in lines) == [
        "config.data.dir",
        "config.eval.corruptions",
        "config.eval.primary_weights",
        "config.kd.temperature",
        "config.method",
        "config.reliability.gamma",
        "config.seed",
        "config.student.name",
        "config.views.lanes",
        "config.views.severities",
    ]
    (severities,) = [line for line in lines if "severities" in line]
    assert "0, 6 is unknown" in severities
    (names,) = [line for line in lines if "eval.corruptions" in line]
    assert "'rain'" in names and "'contrast'" not in names


def test_override_faults_do_not_hide_the_others():
    path = str(ROOT / "configs" / "craft.py")
    with pytest.raises(ConfigError) as error:
        reader.load(path, [("seed", "x"), ("dealing.weight", "1"), ("epochs", "0"), ("kd.weight", "-1")])
    keys = [line.split(":")[0] for line in str(error.value).split("\n")]
    assert keys == ["config.seed", "config.dealing.weight", "config.epochs", "config.kd.weight"]


def test_overlap():
    config = load(views__corruptions=("speckle_noise", "contrast", "brightness"))
    (line,) = faults(config)
    assert line.startswith("config.views.corruptions: brightness, contrast also in config.eval.corruptions")
    assert "--config.views.allow_overlap=True" in line
    config.views.allow_overlap = True
    assert faults(config) == []
    # A method that makes no corrupted views trains on none of them.
    assert faults(load("erm.py", views__corruptions=("contrast",))) == []
    assert len(faults(load("erm.py", views__corruptions=("contrast",), views__ce_views="all"))) == 1


def test_augmix_views_read_no_corruptions_and_no_groups():
    """What is not read cannot overlap with what is evaluated, nor fail to divide a batch."""
    settings = {"views__corruptions": ("contrast",), "views__lanes": 7}
    assert len(faults(load("craft.py", **settings))) == 2
    assert faults(load("craft.py", views__kind="augmix", **settings)) == []
    assert faults(load("augmix.py", **settings)) == []


def test_the_method_augmix_needs_its_views():
    (line,) = faults(load("augmix.py", views__kind="corruptions"))
    assert line == "config.views.kind: 'corruptions'; allowed for the method augmix: 'augmix'"
    (line,) = faults(load("augmix.py", views__count=0))
    assert line.startswith("config.views.count: 0; allowed for the method augmix: at least 1")
    assert faults(load("augmix.py", views__count=1)) == []
    assert faults(load("kd.py", views__kind="augmix", views__count=0)) == []


def test_digits_are_never_flipped():
    config = load(data__name="digits")
    (line,) = faults(config)
    assert line.startswith("config.data.flip: True; allowed for digits: False")
    config.data.flip = False
    assert faults(config) == []


def test_npz_needs_a_path():
    assert "npz" in faults_at(load(data__name="npz"), "data.dir")[0]
    assert faults(load(data__name="npz", data__dir="images.npz")) == []


def test_what_cannot_stream_is_not_to_always():
    (line,) = faults_at(load(data__name="digits", data__streaming="always"), "data.streaming")
    assert "data.name=digits" in line and line.endswith("folder, imagenet2012")
    (line,) = faults_at(load(data__streaming="always", data__cue="color"), "data.streaming")
    assert "data.cue=color" in line
    for streaming in ("auto", "never"):
        assert not faults_at(load(data__name="digits", data__streaming=streaming), "data.streaming")
    assert not faults_at(load(data__streaming="always"), "data.streaming")


def test_a_folder_needs_a_path_and_a_size():
    assert "train/CLASS/" in faults_at(load(data__name="folder"), "data.dir")[0]
    (line,) = faults(load(data__name="folder", data__dir="pictures"))
    assert line.startswith("config.data.size: 0; data.name=folder needs the side")
    assert faults(load(data__name="folder", data__dir="pictures", data__size=64)) == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("regenerated", ["cifar10", "cifar100", "digits", "npz"]),
        ("cifar10_c", ["cifar10", "cifar100", "digits", "npz"]),
        ("cifar10_corrupted", ["cifar10"]),
        ("cifar10_1", ["cifar10"]),
    ],
)
def test_shifted_images_are_of_the_data_set_that_was_trained_on(source, names):
    files = "" if source == "regenerated" else "files"
    for name in ("cifar10", "cifar100", "digits", "npz"):
        config = load(eval__source=source, eval__dir=files, data__name=name, data__dir="x", data__flip=False)
        lines = faults(config)
        assert bool(lines) == (name not in names)
        for line in lines:
            assert line.startswith(f"config.eval.source: '{source}' with data.name={name}; allowed with it: ")
            assert line.partition("with it: ")[2].split(" or ") == names


def test_where_shifted_images_come_from():
    assert faults_at(load(eval__source="cifar10_c"), "eval.dir")[0].startswith("config.eval.dir: empty; ")
    assert faults(load(eval__source="cifar10_corrupted")) == []  # TFDS: data.dir, or TFDS's default
    (line,) = faults(load(eval__dir="somewhere"))
    assert line.startswith("config.eval.dir: 'somewhere'; allowed: '' for eval.source=regenerated")


@pytest.mark.parametrize("source", ["cifar10_c", "cifar10_corrupted", "cifar10_1"])
def test_tuning_runs_see_no_published_test_images(source):
    (line,) = faults(load(eval__source=source, eval__dir="files", data__validation=5000))
    assert line.startswith(
        f"config.eval.source: '{source}' with data.validation=5000; allowed: 'regenerated'"
    )


def test_which_images_are_evaluated():
    (line,) = faults(load(eval__split="validation"))
    assert line.startswith("config.eval.split: 'validation' with data.validation=0")
    assert line.endswith("allowed: '' or 'test'")
    for split in ("", "test", "validation"):
        assert faults(load(eval__split=split, data__validation=50)) == []
    assert faults(load(eval__split="test")) == []
    # What is held out tells nothing of files, which are of test images.
    files = {"eval__source": "cifar10_c", "eval__dir": "files", "data__validation": 50}
    assert faults(load(eval__split="test", **files)) == []
    for split in ("", "validation"):
        (line,) = faults(load(eval__split=split, **files))
        assert line.startswith("config.eval.source: 'cifar10_c' with data.validation=50")
        assert "--config.eval.split=test" in line


@pytest.mark.parametrize("source", ["cifar10_c", "cifar10_corrupted", "cifar10_1"])
def test_published_files_are_not_of_shrunk_images(source):
    (line,) = faults(load(eval__source=source, eval__dir="files", data__size=16))
    assert line.startswith(f"config.eval.source: '{source}' with data.size=16; allowed: 'regenerated'")


@pytest.mark.parametrize("weights", [(1.0,), (0.2, 0.3, 0.5), (0.5, 0.6), (1.5, -0.5), ()])
def test_primary_weights(weights):
    assert faults_at(load(eval__primary_weights=weights), "eval.primary_weights")


def test_primary_weights_that_sum_to_one():
    for weights in ((0.0, 1.0), (1.0, 0.0), (0.1, 0.9), (1 / 3, 2 / 3)):
        assert faults(load(eval__primary_weights=weights)) == []


@pytest.mark.parametrize(
    ("devices", "batch", "teacher_batch", "lanes", "bad"),
    [
        (1, 128, 128, 8, []),
        (4, 128, 128, 8, []),
        (3, 128, 96, 8, ["batch_size", "views.lanes"]),
        (3, 96, 128, 3, ["teacher.batch_size"]),
        (3, 128, 128, 1, ["batch_size", "teacher.batch_size", "views.lanes"]),
        (1, 128, 128, 48, ["views.lanes"]),
        (2, 128, 128, 1, ["views.lanes"]),  # divides the batch, and the devices do not divide it
        (32, 128, 128, 8, ["views.lanes"]),
        (16, 128, 128, 16, []),
    ],
)
def test_batches_divide_over_devices_and_lanes(monkeypatch, devices, batch, teacher_batch, lanes, bad):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    config = load(batch_size=batch, teacher__batch_size=teacher_batch, views__lanes=lanes)
    lines = faults(config)
    assert [line.split(":")[0] for line in lines] == [f"config.{key}" for key in bad]
    for line in lines:
        size = {"batch_size": batch, "teacher.batch_size": teacher_batch}.get(line[7:].split(":")[0], lanes)
        assert f": {size}; allowed: " in line


@pytest.mark.parametrize(
    ("name", "overrides", "bad"),
    [
        ("kd.py", {}, True),
        ("kd.py", {"teacher__checkpoint": "DIR"}, False),
        ("erm.py", {}, False),
        ("no such method", {}, True),
    ],
)
def test_the_teachers_batch_matters_where_a_teacher_is_trained(monkeypatch, name, overrides, bad):
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    config = load("kd.py" if " " in name else name, batch_size=129, views__lanes=1, **overrides)
    if " " in name:
        config.method = name
    assert bool(faults_at(config, "teacher.batch_size")) == bad
    assert faults_at(config, "batch_size") == []


def test_an_evaluation_is_not_held_to_what_training_reads(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    config = load("augmix.py", views__kind="corruptions", views__count=0, data__name="digits")
    rules.validate(config)
    keys = ("batch_size", "data.flip", "views.kind", "views.count")
    assert all(faults_at(config, key) for key in keys)
    config.eval.corruptions = config.eval.severities = ()
    config.eval.batch_size = 0
    with pytest.raises(ConfigError) as error:
        rules.validate(config)
    assert [line.split(":")[0] for line in str(error.value).split("\n")] == [
        *("config.eval.batch_size", "config.eval.corruptions", "config.eval.severities")
    ]


def test_a_configuration_without_a_key_is_a_config_error():
    """As an older version's config.json, or a user's file that does not start from configs/default.py."""
    stored = tree.to_json(load())
    del stored["kd"]["temperature"], stored["log"]
    with pytest.raises(ConfigError) as error:
        rules.validate(tree.from_json(stored))
    for key in ("kd.temperature", "log.every_steps", "log.progress", "log.tensorboard"):
        assert f"config.{key}" in str(error.value)


def test_a_configuration_stored_before_a_key_was_added_says_what_was_done_then():
    stored = tree.to_json(load(precision="highest"))
    assert tree.from_json(stored).precision == "highest"
    del stored["precision"]
    rules.validate(tree.from_json(stored))
    assert tree.differences(tree.from_json(stored), load()) == []
    assert len(tree.differences(tree.from_json(stored), load(precision="highest"))) == 1
    del stored["compilation_cache"], stored["data"]["size"], stored["eval"]["split"]
    back = tree.from_json(stored)
    assert (back.compilation_cache, back.data.size, back.eval.split) == (True, 0, "")
    assert back.data.max_train == 0 and back.eval.source == "regenerated"  # what else was there stays
    for section in ("fitnets", "sp", "rkd", "pkt", "nst", "vid", "dkd", "dist", "combined"):
        del stored[section]
    del stored["kd"]["standardize"], stored["contrastive"]["block"]
    assert not tree.differences(tree.from_json(stored), load())  # no method read them
    assert not tree.differences(tree.from_json(stored), load(compilation_cache=False))  # it may differ


# ----------------------------------------------------------------------------------------------------
# Overrides


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seed", "7", 7),
        ("seed", "1_000", 1000),
        ("kd.weight", "0.25", 0.25),
        ("kd.weight", "1", 1.0),
        ("kd.weight", "1e-3", 0.001),
        ("optimizer.weight_decay", "5e-4", 5e-4),
        ("reliability.alpha", "-1", -1.0),  # of the right type; the range is validate's matter
        ("data.flip", "False", False),
        ("data.flip", "true", True),
        ("student.name", "wrn-16-2", "wrn-16-2"),
        ("data.dir", "", ""),
        ("data.dir", "/a b/c=d,e", "/a b/c=d,e"),
        ("data.dir", "1", "1"),
        ("views.corruptions", "contrast", ("contrast",)),
        ("views.corruptions", "contrast,saturate", ("contrast", "saturate")),
        ("views.corruptions", "('contrast', \"saturate\")", ("contrast", "saturate")),
        ("views.corruptions", " contrast , saturate,", ("contrast", "saturate")),
        ("views.corruptions", "", ()),
        ("views.severities", "5", (5,)),
        ("views.severities", "(1, 3,)", (1, 3)),
        ("views.severities", "[1,3]", (1, 3)),
        ("eval.primary_weights", "1,0", (1.0, 0.0)),
    ],
)
def test_an_override_keeps_the_type(key, text, value):
    found = override(key, text)
    assert found == value
    assert type(found) is type(value) is type(DEFAULT[key])
    if isinstance(found, tuple):
        assert [type(x) for x in found] == [type(x) for x in value]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("seed", "1.5"),
        ("seed", "1.0"),
        ("seed", "True"),
        ("seed", "None"),
        ("seed", ""),
        ("seed", "one"),
        ("seed", "[1]"),
        ("seed", "1+1"),
        ("kd.weight", "True"),
        ("kd.weight", "nan"),
        ("kd.weight", "inf"),
        ("kd.weight", "'1'"),
        ("kd.weight", "1j"),
        ("kd.weight", "\0"),
        ("kd.weight", "__import__('os')"),
        ("kd.weight", "{[]: 1}"),  # literal_eval: TypeError
        ("kd.weight", "1" + "0" * 400),  # float(): OverflowError
        ("data.flip", "1"),
        ("data.flip", "0"),
        ("data.flip", "yes"),
        ("data.flip", ""),
        ("views.severities", "1,2.5"),
        ("views.severities", "one"),
        ("views.severities", "True"),
        ("eval.primary_weights", "a,b"),
    ],
)
def test_an_override_of_another_type_is_refused(key, text):
    with pytest.raises(ConfigError) as error:
        override(key, text)
    (line,) = str(error.value).split("\n")
    assert line.startswith(f"config.{key}: ")
    assert type(DEFAULT[key]).__name__ in line or isinstance(DEFAULT[key], tuple)


def test_an_infinite_override_does_not_get_through():
    for key in ("kd.weight", "reliability.alpha", "optimizer.learning_rate"):
        for text in ("1e999", "-1e999"):
            config = reader.load(str(ROOT / "configs" / "craft.py"), [(key, text)])
            assert faults_at(config, key), text


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("epoch", "epochs"),
        ("batchsize", "batch_size"),
        ("kd.wieght", "kd.weight"),
        ("dealing.weight", "dealign.weight"),
        ("view.count", "views.count"),
        ("contrastive.stage", "contrastive.stages"),
        ("optimiser.learning_rate", "optimizer.learning_rate"),
        ("seed.", "seed"),
    ],
)
def test_a_misspelt_key_suggests_the_right_one(key, near):
    with pytest.raises(ConfigError) as error:
        override(key, "1")
    (line,) = str(error.value).split("\n")
    assert line.startswith(f"config.{key}: no such key; did you mean ")
    assert near in line.partition("did you mean ")[2].rstrip("?").split(", ")


def test_a_hopeless_key_points_to_the_list():
    with pytest.raises(ConfigError, match=r"no such key; configs/default.py has them all"):
        override("zzz", "1")


@pytest.mark.parametrize("section", sorted({key.split(".")[0] for key in DEFAULT if "." in key}))
def test_a_section_is_not_a_key(section):
    with pytest.raises(ConfigError) as error:
        override(section, "1")
    line = str(error.value)
    assert line.startswith(f"config.{section}: no such key")
    assert f"{section}." in line.partition("did you mean ")[2], "it suggests none of the section's keys"


def test_the_last_override_of_a_key_wins():
    path = str(ROOT / "configs" / "craft.py")
    config = reader.load(path, [("seed", "1"), ("seed", "2")])
    assert config.seed == 2
    config = reader.load(path, [("views.corruptions", ""), ("views.corruptions", "saturate")])
    assert config.views.corruptions == ("saturate",)


def test_every_key_can_be_overridden_by_its_own_text():
    for key, value in DEFAULT.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert override(key, text, "default.py") == value


# ----------------------------------------------------------------------------------------------------
# JSON, comparison, the teacher's configuration


def test_json_round_trip():
    config = load(seed=3, views__severities=(1, 5), data__dir="/tmp/ä b")
    text = json.dumps(tree.to_json(config))
    back = tree.from_json(json.loads(text))
    assert tree.flatten(back) == tree.flatten(config)
    types = {k: type(v) for k, v in tree.flatten(config).items()}
    assert {k: type(v) for k, v in tree.flatten(back).items()} == types
    assert back.is_locked and back.views.is_locked
    assert faults(back) == []
    assert tree.differences(config, back) == []


def test_flatten():
    config = ml_collections.ConfigDict({"a": 1, "b": {"c": (1, 2), "d": {"e": ""}}})
    assert tree.flatten(config) == {"a": 1, "b.c": (1, 2), "b.d.e": ""}


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    return (*value, value[0]) if isinstance(value, tuple) else value + 1


@pytest.mark.parametrize("key", list(DEFAULT))
def test_differences(key):
    old, new = load(), load()
    assign(new, key, changed(tree.flatten(old)[key]))
    free = key.split(".")[0] in ("eval", "log", "checkpoint", "distributed")
    free = free or key in ("data.dir", "views.allow_overlap", "teacher.cache", "teacher.checkpoint")
    free = free or key == "compilation_cache"  # where programs are kept
    free = free or key in ("data.streaming", "data.memory_gb", "data.workers")  # where images are
    lines = tree.differences(old, new)
    if free:
        assert lines == []
    else:
        (line,) = lines
        a, b = tree.flatten(old)[key], tree.flatten(new)[key]
        assert line == f"config.{key}: {a!r} in the working directory, {b!r} now"


def test_differences_lists_all_and_absent_keys():
    old, new = load("erm.py", seed=1, eval__batch_size=7), load("craft.py")
    with new.unlocked():
        new.extra = 3
        del new.kd.weight
    assert tree.differences(old, new) == [
        "config.extra: '(absent)' in the working directory, 3 now",
        "config.kd.weight: 1.0 in the working directory, '(absent)' now",
        "config.method: 'erm' in the working directory, 'craft' now",
        "config.seed: 1 in the working directory, 0 now",
    ]


RECIPE = {  # the teacher's key and what it becomes in the run that trains the teacher
    "teacher.name": ("student.name", "wrn-40-2"),
    "teacher.seed": ("seed", 5),
    "teacher.epochs": ("epochs", 17),
    "teacher.batch_size": ("batch_size", 64),
    "teacher.learning_rate": ("optimizer.learning_rate", 0.03),
    "teacher.momentum": ("optimizer.momentum", 0.8),
    "teacher.weight_decay": ("optimizer.weight_decay", 1e-4),
}


def test_teacher_config_is_the_teachers_recipe():
    config = load("craft.py", teacher__checkpoint="somewhere", data__validation=50, dtype="bfloat16")
    config.views.ce_views = config.views.distill_views = "all"
    before = tree.flatten(config)
    for key, (_, value) in RECIPE.items():
        assign(config, key, value)
    wanted = tree.teacher_config(config)
    flat = tree.flatten(wanted)
    assert {k: flat[k] for k, _ in RECIPE.values()} == dict(RECIPE.values())
    assert wanted.method == "erm" and wanted.views.ce_views == "clean"
    assert methods.METHODS["erm"].views(wanted) == (1, 0), "a teacher sees clean images and no teacher"
    assert wanted.teacher.checkpoint == "" and wanted.is_locked
    # All else is the run's own: the data, the precision, what is evaluated.
    kept = before.keys() - {k for k, _ in RECIPE.values()} - RECIPE.keys()
    kept -= {"method", "views.ce_views", "teacher.checkpoint"}
    assert {k: flat[k] for k in kept} == {k: before[k] for k in kept}
    # And the run's configuration is as it was.
    assert (config.method, config.seed, config.teacher.checkpoint) == ("craft", 0, "somewhere")


def test_an_augmix_teacher_has_its_papers_views_whatever_the_students():
    config = load("kd.py", teacher__method="augmix", views__count=5, augmix__severity=4)
    wanted = tree.teacher_config(config)
    assert (wanted.method, wanted.views.kind, wanted.views.count) == ("augmix", "augmix", 2)
    assert (wanted.augmix.severity, wanted.views.ce_views) == (4, "clean")
    assert methods.METHODS["augmix"].views(wanted) == (3, 0)
    assert faults(config) == faults(wanted) == []
    # An AugMix student's teacher is plain, unless asked for.
    assert tree.teacher_config(load("augmix.py")).method == "erm"


def recipe(config):
    return tree.teacher_recipe(tree.teacher_config(config))


def test_teacher_recipe_follows_the_teachers_keys_and_the_data_alone():
    base = recipe(load("craft.py"))
    for key, (becomes, value) in RECIPE.items():
        moved = recipe(load("craft.py", **{key.replace(".", "__"): value}))
        assert {k for k in base if moved[k] != base[k]} == {becomes}
    shared = ("dtype", "data.name", "data.validation", "data.crop_padding", "data.flip")
    later = ("teacher.method", "teacher.schedule", "precision", "data.crop")
    for key, value in DEFAULT.items():
        if key in shared or key in RECIPE or key in later:
            continue
        moved = recipe(load("craft.py", **{key.replace(".", "__"): changed(value)}))
        assert moved == base, f"{key} is not the teacher's"
    for key in shared:
        moved = recipe(load("craft.py", **{key.replace(".", "__"): changed(DEFAULT[key])}))
        assert {k for k in base if moved[k] != base[k]} == {key}
    # Keys that came later: left out where they say what was done before.
    assert recipe(load("craft.py", precision="highest")) == base | {"precision": "highest"}
    resized = {"data.crop": "resized", "data.crop_scale": (0.08, 1.0)}
    assert recipe(load("craft.py", data__crop="resized")) == base | resized
    drops = {"schedule": "drops", "drop_epochs": (150, 180, 210), "drop_factor": 0.1}
    assert recipe(load("craft.py", teacher__schedule="drops")) == base | {
        f"optimizer.{key}": value for key, value in drops.items()
    }


def test_an_augmix_teacher_is_what_it_reads_too():
    base, plain = recipe(load("craft.py", teacher__method="augmix")), recipe(load("craft.py"))
    assert base["method"] == "augmix" and base | plain == base
    reads = {key for key in DEFAULT if key.startswith("augmix.")}
    for key, value in DEFAULT.items():
        if key.startswith(("augmix.", "views.", "kd.")) or key == "method":
            other = load("craft.py", teacher__method="augmix", **{key.replace(".", "__"): changed(value)})
            moved = {k for k in base if recipe(other)[k] != base[k]}
            assert moved == ({key} & reads), key


def test_teacher_file_is_the_teacher_of_the_others():
    for preset in ("", *PRESETS):
        own = reader.load(f"{ROOT / 'configs' / 'teacher.py'}:{preset}")
        wanted = tree.teacher_config(reader.load(f"{ROOT / 'configs' / 'craft.py'}:{preset}"))
        assert tree.differences(own, wanted) == []


def test_a_valid_run_has_a_valid_teacher():
    """Or the run would stop after it has begun, with an error about a key that is right."""
    config = load("kd.py", teacher__batch_size=100)
    assert faults(config) == []
    assert faults(tree.teacher_config(config)) == []


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"processes": 2}, "coordinator"),
        ({"processes": 2, "coordinator": "here"}, "coordinator"),
        ({"processes": 2, "coordinator": ":80"}, "coordinator"),
        ({"processes": 2, "coordinator": "here:70000"}, "coordinator"),
        ({"coordinator": "here:80"}, "processes"),
        ({"processes": 2, "coordinator": "here:80", "process": 2}, "process"),
        ({"process": 1}, "process"),
        ({"detect": True, "processes": 2}, "detect"),
    ],
)
def test_processes_that_could_not_meet_are_refused(settings, key):
    config = load(**{f"distributed__{name}": value for name, value in settings.items()})
    (line,) = faults(config)
    assert line.startswith(f"config.distributed.{key}: ") and "allowed" in line
    with pytest.raises(ConfigError, match=f"config.distributed.{key}: "):
        rules.validate_distributed(config)  # before they try to


def test_the_number_of_processes_is_no_part_of_a_run():
    config = load(distributed__processes=2, distributed__process=1, distributed__coordinator="[::1]:80")
    assert faults(config) == [] and faults(load(distributed__detect=True)) == []
    assert tree.differences(load(), config) == []
    assert tree.flatten(tree.from_json(tree.to_json(config))) == tree.flatten(load())
