"""Every configuration file and every preset: valid, of one protocol, with the documented defaults."""

from pathlib import Path

import pytest

from craft_jax import corruptions, methods
from craft_jax.config import reader, tree
from craft_jax.errors import ConfigError
from tests.config.loaded import DEFAULT, PRESETS, ROOT, faults, keys_of, load

FILES = sorted(path.name for path in (ROOT / "configs").glob("[!_]*.py"))


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


def test_no_default_overlap():
    assert not set(DEFAULT["views.corruptions"]) & set(DEFAULT["eval.corruptions"])
    assert set(DEFAULT["views.corruptions"]) <= set(corruptions.EXTRA)
    assert set(DEFAULT["eval.corruptions"]) <= set(corruptions.TEST)


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
