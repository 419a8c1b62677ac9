"""Every configuration key, its default and its meaning. The other files change a few lines of this one.

The values are the paper's protocol (its table 1) on CIFAR-10, ResNet-56 to ResNet-20. A preset, named after
a colon (`_presets.py`), changes the scale (`digits`, `cifar10_cpu`, `cifar10_16`, `small`, `smoke`,
`imagenet`) or the protocol (`kd_literature`, `matched`, `c_bar`); several are joined by commas and applied
in order:

    python -m craft_jax.main --config=configs/craft.py                    # a CUDA GPU, 200 epochs
    python -m craft_jax.main --config=configs/craft.py:digits             # minutes on a laptop, no download
    python -m craft_jax.main --config=configs/craft.py:small --config.data.name=npz --config.data.dir=FILE.npz
    python -m craft_jax.main --config=configs/kd.py:cifar10_cpu,matched   # KD on CRAFT's views, on a CPU
    python -m craft_jax.main --config=configs/craft.py --config.seed=1 --config.dealign.weight=0
"""

import ml_collections

from configs import _presets


def _defaults():
    config = ml_collections.ConfigDict()

    config.seed = 0  # of initialisation, data order, crops, corruptions and CRD's draws
    config.method = "erm"  # a key of craft_jax.methods.METHODS
    config.dtype = "float32"  # or "bfloat16": compute only; parameters, norms and losses stay float32
    config.precision = "default"  # of float32 convolutions: on an NVIDIA GPU TF32, PyTorch's default too, a
    # logit off by about 1e-3; "highest": full float32, and slower there. A CPU has full float32 under both.
    # Head, losses and embeddings have it everywhere.
    config.compilation_cache = True  # keep compiled programs in ~/.cache/craft_jax/xla for the next process
    config.batch_size = 128  # images a step, over all devices; a last partial batch is dropped
    config.epochs = 200
    config.label_smoothing = 0.0  # a of the student's cross-entropy: (1 - a) of the label, a evenly over all
    # classes; of no other term, not of the teacher's own training, and not in accuracies or NLL

    config.data = data = ml_collections.ConfigDict()
    data.name = "cifar10"  # "cifar10", "cifar100", "imagenet2012" (all TFDS), "digits" (embedded); yours:
    # "npz", "folder" (which ImageNet's own train/WNID/*.JPEG, val/WNID/*.JPEG is)
    data.dir = ""  # TFDS: its data directory, "" for TFDS's default; npz: the .npz file; folder: that of
    # train/CLASS/*.jpg and test/CLASS/*.jpg (craft_jax/data/folder.py), or of Tiny-ImageNet
    data.size = 0  # shrink all images to so many pixels a side by area means, 16 or more; 0: as they are.
    # Their mean and std are then computed; data.crop_padding stays what it is. A folder's pictures are
    # resized to it by their shorter side and cropped to squares, ImageNet's likewise: there it cannot be 0
    data.test_crop = 1.0  # of a folder's and ImageNet's test images the share of the shorter side that the
    # square has, cropped about the middle; 0.875 is the field's 224 pixels of 256
    data.validation = 0  # hold out so many training images; they are evaluated unless eval.split is "test"
    data.max_train = 0  # train on so many images at most, the same ones for every seed, at random; 0 for all
    data.cue = "none"  # a spurious cue of a class on every image: "corner", a square, or "color", a tint;
    # test images are then met with it as in training, without it, and with another class's
    data.cue_correlation = 0.9  # probability in [0, 1] that it is the cue of the image's own class
    data.streaming = "auto"  # whether training images stay in their files, to be decoded as they are met:
    # "auto", where all images would have more than data.memory_gb; "always" or "never". Batches are the same
    # to the bit. Of TFDS's sets and folders, without data.cue; needs requirements-streaming.txt
    data.memory_gb = 0.0  # GiB; 0: half of this machine's memory. Above it images of an evaluation stream too
    data.workers = 16  # processes that decode images that stream, one a core at most; 0: none, but a thread
    data.crop = "padded"  # how training images are cropped: after data.crop_padding; or "resized", a box of
    # random area and shape enlarged to the whole (Szegedy et al. 2015), as is usual on ImageNet
    data.crop_padding = 4  # pixels of zero padding before the random crop
    data.crop_scale = (0.08, 1.0)  # the box's least and largest share of the area
    data.flip = True  # random horizontal flip; never for digits

    config.student = student = ml_collections.ConfigDict()
    student.name = "resnet20"  # a key of craft_jax.models.REGISTRY, which python -m craft_jax.models prints
    student.checkpoint = ""  # workdir of a finished run, of this network and as many classes, whose student
    # training starts from; "": from random parameters
    student.remat = False  # keep of a block its input alone, compute the rest again for its gradient: less
    # memory, a forward pass more, the same numbers but for rounding. A teacher trained on the way does not

    config.teacher = teacher = ml_collections.ConfigDict()
    teacher.checkpoint = ""  # workdir of a trained teacher; "": train the one below, or reuse it
    teacher.allow_other_data = False  # allow a checkpoint of another data set than the run's, of which parts
    # (data.validation) are the same; results are marked; what it saw of the images evaluated is yours to know
    teacher.cache = "runs/teachers"  # where teachers trained on the way are kept and found again
    teacher.name = "resnet56"
    teacher.method = "erm"  # or "augmix": robust by AugMix, on two of its views, whatever the student's
    teacher.seed = 1000  # no student's: with one seed both would start from the same kernels and batches
    teacher.epochs = 200
    teacher.batch_size = 128
    teacher.learning_rate = 0.1
    teacher.momentum = 0.9
    teacher.weight_decay = 5e-4
    teacher.schedule = "cosine"  # or "drops", at optimizer.drop_epochs. It has no Nesterov, warm-up, clipping
    # or label smoothing, whatever the student has: train a teacher with them as a run of its own

    config.optimizer = optimizer = ml_collections.ConfigDict()
    optimizer.learning_rate = 0.1  # the highest
    optimizer.schedule = "cosine"  # to 0, a step at a time; or "drops", of the next two keys
    optimizer.drop_epochs = (150, 180, 210)  # after so many epochs the rate is multiplied by drop_factor
    optimizer.drop_factor = 0.1
    optimizer.warmup_epochs = 0.0  # the rate rises from 0 a step at a time, over so many epochs, or parts of
    # one; the cosine begins behind it
    optimizer.momentum = 0.9
    optimizer.nesterov = False
    optimizer.clip_norm = 0.0  # scale a gradient of a larger global norm down to this, before weight decay is
    # added; 0: never. Logged as gradient_norm is the one before
    optimizer.weight_decay = 5e-4  # added to the gradient, on every trained parameter
    optimizer.accumulate_steps = 1  # meet a batch in so many parts, one after the other, and add up their
    # gradients: a part's memory for a batch's update. Normalisation, contrastive negatives and whatever else
    # compares images are then of a part; running statistics and CRD's banks move on from part to part
    optimizer.skip_nonfinite = 0  # skip so many updates of the student at most whose loss or gradient is not
    # finite; the next such one stops the run, with 0 the first

    config.views = views = ml_collections.ConfigDict()
    views.count = 2  # M, the views beside the clean one
    views.kind = "corruptions"  # what they are: of the three keys below, or "augmix", of augmix.*
    views.corruptions = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
    views.severities = (1, 2, 3, 4, 5)
    views.lanes = 8  # equal parts of a batch, each dealt out to the corruptions; the devices must divide it
    views.ce_views = "clean"  # which views the cross-entropy sees: "clean" or "all"
    views.distill_views = "clean"  # likewise KD, attention, CRD and CRAFT's KD
    views.distill_target = "own"  # the teacher's view a student's view learns from: "own" or "clean"
    views.allow_overlap = False  # allow training on corruptions that are evaluated; results are marked

    config.augmix = augmix = ml_collections.ConfigDict()
    augmix.severity = 3  # the greatest level of an operation, of 10
    augmix.width = 3  # chains of operations that are mixed
    augmix.depth = 0  # operations in a chain; 0: 1 to 3 at random
    augmix.alpha = 1.0  # of the mixture's Dirichlet and Beta distributions
    augmix.weight = 12.0  # of the Jensen-Shannon divergence, in the method augmix

    config.kd = kd = ml_collections.ConfigDict()
    kd.weight = 1.0
    kd.temperature = 4.0
    kd.standardize = False  # logits as z-scores over the classes (published: temperature 2, weight 9)

    config.attention = attention = ml_collections.ConfigDict()
    attention.reduction = "mean"  # over a map's positions, as public code; or "sum", as the paper
    attention.weight = 3000.0  # public code's 1000 a stage, for three; no one weight serves both reductions.
    # The mean is over stages: networks of four (python -m craft_jax.models) have 1000 a stage at 4000

    # The public code's weights for CIFAR-100 and its 240 epochs, not tuned for the recipe here.
    config.fitnets = ml_collections.ConfigDict({"weight": 100.0, "stage": 2})  # whose map is the hint
    config.sp = ml_collections.ConfigDict({"weight": 3000.0})
    config.rkd = ml_collections.ConfigDict({"weight": 1.0, "distance_weight": 25.0, "angle_weight": 50.0})
    config.pkt = ml_collections.ConfigDict({"weight": 30000.0})
    config.nst = ml_collections.ConfigDict({"weight": 50.0})
    config.vid = ml_collections.ConfigDict({"weight": 1.0})
    config.dkd = dkd = ml_collections.ConfigDict({"weight": 1.0, "alpha": 1.0, "temperature": 4.0})
    dkd.beta = 8.0  # mdistiller's default; it has 2 for ResNet-56 to 20, 6 for wrn-40-2 to 16-2
    dkd.warmup = 20 / 240  # the share of the run over which the weight rises from 0; 0: none
    config.dist = ml_collections.ConfigDict({"weight": 1.0, "beta": 2.0, "gamma": 2.0, "temperature": 4.0})
    config.combined = ml_collections.ConfigDict({"methods": ("kd", "crd")})  # whose terms "combined" adds up

    config.crd = crd = ml_collections.ConfigDict()
    crd.weight = 0.8
    crd.temperature = 0.1  # the paper's; Tian et al. have 0.07
    crd.bank = "memory"  # a row for every training image; or "batch": this batch alone, for large sets
    crd.negatives = 16384  # an image, from other classes; with "batch" all of the batch's
    crd.momentum = 0.5  # how much of a bank's row stays at an update

    config.contrastive = contrastive = ml_collections.ConfigDict()
    contrastive.weight = 0.5
    contrastive.temperature = 0.1
    contrastive.positives = "cross_view"  # "cross_view" (the paper), "same_view" or "each"
    contrastive.anchor = "own"  # the teacher's embedding of the same view, or "clean": of view 0
    contrastive.mask_same_class = False  # leave other images of the class out of the denominator
    contrastive.stages = (1, 2, 3)  # whose pooled maps are concatenated into the embedding; some networks
    # have a fourth (python -m craft_jax.models)
    contrastive.block = 0  # score the anchors of so many images at a time where the batch has more, for a
    # large batch's memory: (views.count + 1)^2 * block * batch_size scores in place of all. 0: all at once

    config.dealign = dealign = ml_collections.ConfigDict()
    dealign.weight = 1.0
    dealign.kind = "principal"  # "principal", "clean_shift", "per_view" or "literal" (void)
    dealign.form = "position"  # "position" (the paper) or "shift"
    dealign.eps = 1e-6

    config.reliability = reliability = ml_collections.ConfigDict()
    reliability.source = "teacher"  # the paper's r; for ablations "mean" (over the batch), "shuffled" (within
    # it) or "oracle" (the teacher's probability of the label, mean over views)
    reliability.alpha = 10.0  # weight of the agreement over views
    reliability.beta = 1.0  # weight of the mean entropy, in nats
    reliability.gamma = 0.5  # agreement that gives 1/2 at zero entropy

    config.eval = evaluation = ml_collections.ConfigDict()
    evaluation.split = ""  # whose images: "test", "validation" (those of data.validation), or "": the latter
    # where there are some, else the test set. It is of the end: training logs of held-out images if it can
    evaluation.source = "regenerated"  # corruptions made here from these images; or published ones:
    # "cifar10_c" (the files of CIFAR-10-C or CIFAR-100-C), "cifar10_corrupted" (the same, prepared by TFDS),
    # "imagenet_c" (ImageNet-C's folders, for data of the same classes);
    # or CIFAR-10.1, new images without corruptions: "cifar10_1" (TFDS)
    evaluation.dir = ""  # cifar10_c: the folder of NAME.npy; imagenet_c: that of NAME/1..5/WNID/*.JPEG; TFDS:
    # its data directory, "" for data.dir
    evaluation.corruptions = (  # CIFAR-10-C's fifteen
        *("gaussian_noise", "shot_noise", "impulse_noise"),
        *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        *("snow", "frost", "fog", "brightness"),
        *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    )
    evaluation.severities = (1, 2, 3, 4, 5)
    evaluation.max_examples = 0  # the first so many images, 0 for all
    evaluation.batch_size = 500  # over all devices; on a CPU no figure depends on it
    evaluation.teacher = True  # measure the teacher on the same images, and how often both agree
    evaluation.reference = ""  # workdir of a finished run, for mCE and relative mCE against it
    evaluation.adaptation = "none"  # the student adapts itself to the test images: "batch_norm", by their
    # statistics mixed with the running ones (Schneider et al. 2020), or "tent" (Wang et al. 2021). With
    # --mode=eval alone; such figures depend on the batches and are not compared with others
    evaluation.adaptation_batch_size = 200  # images met together, over all devices; as in Tent's public code
    evaluation.adaptation_prior = 16.0  # batch_norm: how many images the running statistics count as; 0: none
    evaluation.adaptation_learning_rate = 1e-3  # tent: of Adam, as published for CIFAR
    evaluation.clean_every_epochs = 10  # log clean accuracy as training goes; 0 for never
    evaluation.primary_weights = (0.25, 0.75)  # of clean and robust accuracy in the primary metric

    config.checkpoint = checkpoint = ml_collections.ConfigDict()
    checkpoint.every_steps = 1000  # and always at the end
    checkpoint.keep = 2  # the newest so many

    config.distributed = distributed = ml_collections.ConfigDict()  # how many processes train: no part
    # of the run, whose directory goes on with another number (craft_jax/processes.py)
    distributed.detect = False  # join the processes that SLURM, Open MPI or Kubernetes started with this one
    distributed.processes = 0  # or so many that are started by hand; 0: this one by itself
    distributed.process = 0  # which of them this one is, from 0
    distributed.coordinator = ""  # HOST:PORT of process 0, the same in all of them

    config.log = log = ml_collections.ConfigDict()
    log.every_steps = 50  # metrics go to metrics.jsonl and TensorBoard so often
    log.tensorboard = True
    log.progress = True  # progress bars

    return config


def get_config(preset=""):
    """The configuration of a comma-separated list of presets; "" is the paper's protocol.

    Raises:
      ValueError: a preset that does not exist.
    """
    config = _defaults()
    for name in filter(None, preset.split(",")):
        if name not in _presets.PRESETS:
            raise ValueError(f"unknown preset {name!r}; allowed: {', '.join(_presets.PRESETS)}")
        _presets.PRESETS[name](config)
    return config.lock()
