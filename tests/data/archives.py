"""Tiny archives in CIFAR's published format."""

import io
import tarfile

import numpy as np

LAYOUT = {
    "cifar10": (
        "cifar-10-batches-bin/",
        [f"data_batch_{i}.bin" for i in range(1, 6)],
        "test_batch.bin",
        {"batches.meta.txt": 10},
    ),
    "cifar100": (
        "cifar-100-binary/",
        ["train.bin"],
        "test.bin",
        {"coarse_label_names.txt": 20, "fine_label_names.txt": 100},
    ),
}


def cifar_archive(name):
    """A .tar.gz like the published one with 20 images a file, and what it holds, by split."""
    rng = np.random.default_rng(len(name))
    prefix, train_files, test_file, label_files = LAYOUT[name]
    stream, contents = io.BytesIO(), {"train": [], "test": []}
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:

        def add(file, content):
            member = tarfile.TarInfo(prefix + file)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for file, classes in label_files.items():
            add(file, "".join(f"class_{i}\n" for i in range(classes)).encode() + b"\n")
        for file in [*train_files, test_file]:
            images = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
            labels = [rng.integers(0, classes, 20) for classes in label_files.values()]
            planes = images.transpose(0, 3, 1, 2).reshape(20, -1)
            add(file, np.concatenate([np.stack(labels, 1).astype(np.uint8), planes], 1).tobytes())
            contents["test" if file == test_file else "train"].append((images, labels[-1]))
    contents = {
        split: [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        for split, blocks in contents.items()
    }
    return stream.getvalue(), contents
