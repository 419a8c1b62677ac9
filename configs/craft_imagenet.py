"""CRAFT on ImageNet: ResNet-50 to ResNet-18 at 224 pixels (`_presets.imagenet`, which any method takes).

    python -m craft_jax.main --config=configs/craft_imagenet.py --config.data.dir=TFDS_DIR
    python -m craft_jax.main --config=configs/craft_imagenet.py --config.data.name=folder --config.data.dir=D
    python -m craft_jax.main --config=configs/craft_imagenet.py:smoke   # its keys on the digits: seconds

The first reads TFDS's imagenet2012, prepared as array_record, the second D/train/WNID/*.JPEG and
D/val/WNID/*.JPEG. A teacher of published weights spares its training (torchvision's ResNet-50, as
safetensors: README):

    python -m craft_jax.import_weights resnet50.safetensors --network=resnet50-imagenet --data=imagenet2012 \\
        --out=runs/resnet50 --config.data.dir=TFDS_DIR --config.data.size=224 --config.data.test_crop=0.875
    python -m craft_jax.main --config=configs/craft_imagenet.py --config.teacher.checkpoint=runs/resnet50

ImageNet-C, with mCE against AlexNet: --mode=eval --config.eval.source=imagenet_c --config.eval.dir=DIR.
Where memory is short: --config.optimizer.accumulate_steps=4; or --config.student.remat=True, which on several
GPUs needs XLA_FLAGS=--xla_gpu_enable_latency_hiding_scheduler=false (results/speed/imagenet.md).

Training images are stored at 224 pixels, the whole middle square, and boxes are cut out of these: published
code cuts them out of the whole picture. So its long ends are never seen here, and small boxes are blurred.
Nothing was trained: no accuracy is known. What it would cost: results/SCALE.md.
"""

from configs import craft


def get_config(preset=""):
    return craft.get_config(",".join(filter(None, ("imagenet", preset))))
