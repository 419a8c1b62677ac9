"""The weights of the studies of CIFAR-10 at 16x16, by method: chosen by `tuning.py` on held-out images.

CRAFT's KD term has the weight that was chosen for KD. results/cifar10_16/README.md has the twelve runs.
"""

KD = {"kd.weight": 1.0}
ATTENTION = {"attention.weight": 100.0}
CRD = {"crd.weight": 0.8}
CRAFT = {**KD, "contrastive.weight": 2.0}
