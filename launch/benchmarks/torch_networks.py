"""CIFAR ResNets and the losses of launch/benchmarks/torch.py, in PyTorch as one would write them there."""

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from craft_jax.models import torch_names
from craft_jax.runs.checkpoint import path_of

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Block(nn.Module):
    def __init__(self, inputs, features, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != features:
            shortcut = nn.Conv2d(inputs, features, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(features))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class ResNet(nn.Module):
    """A CIFAR ResNet, as craft_jax.models.resnet; (logits, stages, pooled) of images in [0, 1]."""

    def __init__(self, depth, dataset):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        inputs = 16
        for number, features in enumerate((16, 32, 64), start=1):
            blocks = []
            for first in [True] + [False] * ((depth - 2) // 6 - 1):
                blocks.append(Block(inputs, features, 2 if first and number > 1 else 1))
                inputs = features
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, dataset.num_classes)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(dataset, name))[:, None, None], persistent=False)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1((x - self.mean) / self.std)))
        stages = []
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
            stages.append(x)
        pooled = x.mean((2, 3))
        return self.fc(pooled), stages, pooled


def on_torch(name, variables, dataset):
    """The network `name` with these variables, channels-last."""
    network = ResNet(int(name.removeprefix("resnet")), dataset)
    convention = torch_names.conventions(name)[0]
    state = {
        torch_names.name_of(convention, path): torch.tensor(torch_names.to_torch(path, array))
        for path, array in named(variables).items()
    }
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    return network.to(DEVICE, memory_format=torch.channels_last)


def named(tree):
    flat = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    return {path_of(path): np.array(leaf) for path, leaf in flat}


def distillation(config, student, teacher, labels, memory, index, negatives):
    """The term of kd, attkd or crd, plainly; both networks' outputs are (logits, stages, pooled)."""
    if config.method == "kd":
        t = config.kd.temperature
        log_s, p_t = F.log_softmax(student[0] / t, 1), F.softmax(teacher[0] / t, 1)
        return config.kd.weight * t**2 * F.kl_div(log_s, p_t, reduction="batchmean")
    if config.method == "attkd":
        maps = [
            [F.normalize(x.pow(2).mean(1).flatten(1)) for x in network[1]] for network in (student, teacher)
        ]
        terms = [(s - t).pow(2).mean() for s, t in zip(*maps, strict=True)]
        return config.attention.weight * sum(terms) / len(terms)
    return config.crd.weight * memory(student[2], teacher[2], labels, index, negatives)


class Crd(nn.Module):
    """CRD's heads and banks; an anchor's scores are picked from one product with the bank."""

    def __init__(self, config, params, memory):
        super().__init__()
        self.temperature, self.momentum, self.count = (
            config.crd.temperature,
            config.crd.momentum,
            config.crd.negatives,
        )
        self.heads = nn.ModuleDict()
        for side in ("student", "teacher"):
            kernel, bias = (torch.tensor(np.array(params[side][name])) for name in ("kernel", "bias"))
            self.heads[side] = nn.Linear(*kernel.shape)
            self.heads[side].load_state_dict({"weight": kernel.T, "bias": bias})
        for name, value in memory.items():
            self.register_buffer(name, torch.tensor(np.array(value)))
        classes = torch.tensor(np.array(memory["labels"]))
        outside = [torch.nonzero(classes != c)[:, 0] for c in range(int(classes.max()) + 1)]
        self.register_buffer("outside", nn.utils.rnn.pad_sequence(outside, batch_first=True))
        self.register_buffer("sizes", torch.tensor([len(rows) for rows in outside]))

    def forward(self, student, teacher, labels, index, negatives):
        if negatives is None:
            draws = torch.rand(len(labels), self.count, device=labels.device) * self.sizes[labels][:, None]
            negatives = self.outside[labels[:, None], draws.long()]
        embedded = {"student": self.heads["student"](student), "teacher": self.heads["teacher"](teacher)}
        embedded = {side: F.normalize(e) for side, e in embedded.items()}
        loss = 0
        for side, other in (("student", "teacher"), ("teacher", "student")):
            scores = embedded[side] @ getattr(self, f"bank_{other}").T
            p = torch.exp(scores / self.temperature) / getattr(self, f"z_{side}")
            noise = negatives.shape[1] / scores.shape[1] + 1e-7
            positive, negative = p.gather(1, index[:, None]), p.gather(1, negatives)
            loss = loss - torch.log(positive / (positive + noise)).mean()
            loss = loss - torch.log((noise - 1e-7) / (negative + noise)).sum(1).mean()
        self.embedded = {side: e.detach() for side, e in embedded.items()}
        return loss

    def remember(self, index):
        """Update the banks' rows: after the backward pass, which still reads them."""
        for side, e in self.embedded.items():
            bank = getattr(self, f"bank_{side}")
            bank[index] = F.normalize(self.momentum * bank[index] + (1 - self.momentum) * e)
