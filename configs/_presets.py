"""Presets: each changes a few keys of configs/default.py, named after a colon (`--config=FILE:NAME`)."""


def digits(config):
    """scikit-learn's digits, ResNet-14 to ResNet-8: about a minute a run on 2 CPU cores."""
    config.data.name, config.data.size, config.data.test_crop = "digits", 0, 1.0
    config.data.flip = False
    config.contrastive.stages = (1, 2, 3)
    config.student.name = "resnet8"
    config.teacher.name = "resnet14"
    config.batch_size = config.teacher.batch_size = 64
    config.epochs = config.teacher.epochs = 6
    config.views.count = 1
    config.crd.negatives = 1024
    grey = ("speckle_noise", "gaussian_blur")  # which has no saturation to change
    config.views.corruptions = tuple(n for n in config.views.corruptions if n in grey)
    noises = ("gaussian_noise", "shot_noise", "impulse_noise")
    config.eval.corruptions = (*noises, "brightness", "contrast", "pixelate")
    config.eval.clean_every_epochs = 1
    config.eval.batch_size = 400
    config.log.every_steps = 5


def cifar10_cpu(config):
    """CIFAR-10 on 2 CPU cores: ResNet-20 to ResNet-8, one corrupted view, 10 epochs."""
    config.student.name = "resnet8"
    config.teacher.name = "resnet20"
    config.epochs = config.teacher.epochs = 10
    config.views.count = 1
    config.eval.max_examples = 2000  # seconds a cell instead of minutes
    config.eval.clean_every_epochs = 1
    config.checkpoint.every_steps = 200
    config.log.every_steps = 10


def cifar10_16(config):
    """CIFAR-10 at 16x16, 45,000 images to train on and 5,000 to choose on, eight epochs; a CPU study."""
    config.data.size = 16
    config.data.crop_padding = 2
    config.data.validation = 5000
    config.student.name = "resnet8"
    config.teacher.name = "resnet20"
    config.epochs = 8
    config.teacher.epochs = 30
    config.views.count = 1
    config.eval.max_examples = 2000  # the first ones, the same for all
    config.eval.clean_every_epochs = 1
    config.checkpoint.every_steps = 200
    config.log.every_steps = 10


def small(config):
    """Your own 2,000 to 10,000 images: ResNet-20 to ResNet-8, one corrupted view, 30 epochs.

    Not measured; from cifar10_cpu, 5,000 images of 32 pixels should take 2 CPU cores about 40 minutes with
    the teacher, and of 64 pixels four times that: a GPU's work. A run's first steps tell how long it takes.
    """
    config.student.name = "resnet8"
    config.teacher.name = "resnet20"
    config.batch_size = config.teacher.batch_size = 64
    config.epochs = config.teacher.epochs = 30  # 930 steps of 2,000 images, 4,680 of 10,000
    config.views.count = 1
    config.crd.negatives = 512  # at most the images outside the largest class
    config.eval.max_examples = 1000
    config.eval.batch_size = 250
    config.eval.clean_every_epochs = 5
    config.checkpoint.every_steps = 200
    config.log.every_steps = 10


def smoke(config):
    """Seconds: one epoch of 32-image steps on the digits, two corruptions; a test, not a study."""
    digits(config)
    config.teacher.name = "resnet8"
    config.optimizer.warmup_epochs = 0.0
    config.batch_size = config.teacher.batch_size = 32
    config.epochs = config.teacher.epochs = 1
    config.eval.corruptions = ("gaussian_noise", "contrast")
    config.eval.severities = (1, 5)
    config.eval.max_examples = 64
    config.eval.batch_size = 64
    config.checkpoint.every_steps = 20


def imagenet(config):
    """ImageNet at 224 pixels, ResNet-50 to ResNet-18, 100 epochs of 256 images, in bfloat16; several GPUs.

    The rate, 0.1 for 256 images (more in proportion for more), momentum, weight decay 1e-4, random resized
    crops and 100 epochs are those of the KD literature (mdistiller's configs/imagenet: rate drops at 30, 60
    and 90 there); the cosine behind 5 epochs of warm-up is He et al. 2019's (section 3). Methods' weights and
    temperatures are not tuned for it. CRD scores against the batch: banks would have 1.3 million rows.
    """
    config.data.name, config.data.size, config.data.test_crop = "imagenet2012", 224, 0.875
    config.data.crop = "resized"
    config.dtype = "bfloat16"
    config.student.name, config.teacher.name = "resnet18-imagenet", "resnet50-imagenet"
    config.batch_size = config.teacher.batch_size = 256
    config.epochs = config.teacher.epochs = 100
    config.optimizer.weight_decay = config.teacher.weight_decay = 1e-4
    config.optimizer.warmup_epochs = 5.0
    config.contrastive.stages = (1, 2, 3, 4)
    config.attention.weight = 4000.0  # 1000 a stage
    config.crd.bank = "batch"
    config.eval.clean_every_epochs = 5


def kd_literature(config):
    """The KD literature's recipe (Tian et al. 2020): 240 epochs of 64 images, step drops of the rate.

    Of the students and teachers of RepDistiller and mdistiller on CIFAR-100 (--config.data.name=cifar100):
    0.05, times 0.1 after 150, 180 and 210 epochs; for MobileNetV2 and ShuffleNetV2 they have
    --config.optimizer.learning_rate=0.01. Momentum and weight decay are the paper's; a method's own weights
    and temperature stay what they are here.
    """
    config.batch_size = config.teacher.batch_size = 64
    config.epochs = config.teacher.epochs = 240
    config.optimizer.learning_rate = config.teacher.learning_rate = 0.05
    config.optimizer.schedule = config.teacher.schedule = "drops"
    config.optimizer.drop_epochs, config.optimizer.drop_factor = (150, 180, 210), 0.1


def matched(config):
    """Every term sees the clean and the corrupted views, so that methods differ in their loss alone."""
    config.views.ce_views = "all"
    config.views.distill_views = "all"


def c_bar(config):
    """Evaluate on CIFAR-10-C-bar's ten corruptions, made to be unlike CIFAR-10-C's, in their place."""
    config.eval.corruptions = (
        *("blue_noise_sample", "brownish_noise", "checkerboard_cutout", "inverse_sparkles"),
        *("pinch_and_twirl", "ripple", "circular_motion_blur", "lines", "sparkles"),
        "transverse_chromatic_abberation",
    )


def without_noise(config):
    """Train without speckle noise, which resembles the evaluated noises: they are then unseen."""
    _drop(config, "speckle_noise")


def without_blur(config):
    """Train without Gaussian blur, which resembles the evaluated blurs."""
    _drop(config, "gaussian_blur")


def without_weather(config):
    """Train without spatter, the extra corruption of the weather family."""
    _drop(config, "spatter")


def without_digital(config):
    """Train without saturate, the extra corruption of the digital family."""
    _drop(config, "saturate")


def _drop(config, name):
    if name not in config.views.corruptions:
        raise ValueError(f"{name} is not among the training corruptions {config.views.corruptions}")
    config.views.corruptions = tuple(n for n in config.views.corruptions if n != name)


PRESETS = {f.__name__: f for f in (digits, cifar10_cpu, cifar10_16, small, smoke)}
PRESETS |= {f.__name__: f for f in (imagenet, kd_literature, matched, c_bar)}
PRESETS |= {f.__name__: f for f in (without_noise, without_blur, without_weather, without_digital)}
