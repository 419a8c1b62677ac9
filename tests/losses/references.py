"""The equations of the paper's section 3 (and of CRD's NCE) as nested Python loops in float64.

They share no code with the package.
"""

import math

import numpy as np


def ref_softmax(logits):
    e = [math.exp(x - max(logits)) for x in logits]
    return [x / sum(e) for x in e]


def ref_cross_entropy(logits, labels):
    return [-math.log(ref_softmax(row)[y]) for row, y in zip(logits, labels, strict=True)]


def ref_logit_kd(student, teacher, t):
    out = []
    for z_s, z_t in zip(student, teacher, strict=True):
        p_s, p_t = ref_softmax(z_s / t), ref_softmax(z_t / t)
        out.append(t * t * sum(p * math.log(p / q) for p, q in zip(p_t, p_s, strict=True)))
    return out


def ref_jensen_shannon(logits):
    out = []
    for views in logits:
        p = [ref_softmax(v) for v in views]
        mixture = [sum(row[k] for row in p) / len(p) for k in range(len(p[0]))]
        out.append(sum(q * math.log(q / m) for row in p for q, m in zip(row, mixture, strict=True)) / len(p))
    return out


def ref_attention_map(h, height, width):
    """h (H, W, C) -> flat list: energy, adaptive average pooling, then division by the norm."""
    rows, columns, channels = h.shape
    energy = [
        [sum(h[i, j, c] ** 2 for c in range(channels)) / channels for j in range(columns)]
        for i in range(rows)
    ]
    flat = []
    for i in range(height):
        for j in range(width):
            window = [
                energy[a][b]
                for a in range(math.floor(i * rows / height), math.ceil((i + 1) * rows / height))
                for b in range(math.floor(j * columns / width), math.ceil((j + 1) * columns / width))
            ]
            flat.append(sum(window) / len(window))
    norm = math.sqrt(sum(x * x for x in flat))
    return [x / norm for x in flat]


def ref_attention_transfer(student, teacher, reduction):
    out = []
    for b in range(len(student[0])):
        total = 0.0
        for h_s, h_t in zip(student, teacher, strict=True):
            size = min(h_s.shape[1], h_t.shape[1]), min(h_s.shape[2], h_t.shape[2])
            a_s, a_t = ref_attention_map(h_s[b], *size), ref_attention_map(h_t[b], *size)
            squares = [(p - q) ** 2 for p, q in zip(a_t, a_s, strict=True)]
            total += sum(squares) / (len(squares) if reduction == "mean" else 1)
        out.append(total / len(student))
    return out


def ref_embed(stages, projections=None):
    out = []
    for b in range(len(stages[0])):
        z = []
        for level, h in enumerate(stages):
            _, rows, columns, channels = h.shape
            pooled = [
                sum(h[b, i, j, c] for i in range(rows) for j in range(columns)) / (rows * columns)
                for c in range(channels)
            ]
            if projections is not None:
                w = projections[level]
                pooled = [sum(pooled[s] * w[s, t] for s in range(channels)) for t in range(w.shape[1])]
            norm = math.sqrt(sum(x * x for x in pooled))
            z += [x / norm for x in pooled]
        norm = math.sqrt(sum(x * x for x in z))
        out.append([x / norm for x in z])
    return out


def ref_contrastive(teacher, student, tau, positives, labels=None):
    images, views = student.shape[:2]
    out = []
    for i in range(images):
        total = 0.0
        for m in range(views):

            def e(j, n, i=i, m=m):
                return math.exp(float(np.dot(teacher[i, m], student[j, n])) / tau)

            own = [e(i, n) for n in range(views)]
            others = 0.0
            for j in range(images):
                if j != i and (labels is None or labels[j] != labels[i]):
                    others += sum(e(j, n) for n in range(views))
            if positives == "cross_view":
                total -= math.log(sum(own) / (sum(own) + others))
            elif positives == "same_view":
                total -= math.log(own[m] / (sum(own) + others))
            else:
                total -= sum(math.log(p / (p + others)) for p in own) / views
        out.append(total / views)
    return out


def ref_reliability(logits, alpha, beta, gamma):
    out = []
    for views in logits:
        p = [ref_softmax(v) for v in views]
        entropy = sum(-sum(q * math.log(q) for q in row if q > 0) for row in p) / len(p)
        agree = sum(row.index(max(row)) == p[0].index(max(p[0])) for row in p) / len(p)
        out.append(1 / (1 + math.exp(-(alpha * (agree - gamma) - beta * entropy))))
    return out


def ref_directions(teacher, kind, eps):
    out = np.zeros(teacher.shape)
    for b, z in enumerate(np.float64(teacher)):
        mean = sum(z) / len(z)
        for m in range(len(z)):
            if kind == "principal":
                _, s, vh = np.linalg.svd(np.array([row - mean for row in z]))
                v = s[0] * vh[0]
            elif kind == "clean_shift":
                v = sum(z[k] - z[0] for k in range(1, len(z))) / (len(z) - 1)
            elif kind == "per_view":
                v = z[m] - mean
            else:
                v = sum(row - mean for row in z) / len(z)
            out[b, m] = v / (math.sqrt(sum(v * v)) + eps)
    return out


def ref_dealignment(student, directions, form):
    out = []
    for z, u in zip(student, directions, strict=True):
        if form == "position":
            squares = [float(np.dot(u[m], z[m])) ** 2 for m in range(len(z))]
        else:
            squares = [float(np.dot(u[m], z[m] - z[0])) ** 2 for m in range(1, len(z))]
        out.append(sum(squares) / len(squares))
    return out


def ref_crd_nce(anchors, bank, positives, negatives, tau, z):
    out = []
    for a, row, rows in zip(anchors, positives, negatives, strict=True):
        rows = [k for k in rows if k != -1]
        c = len(rows) / len(bank)
        p = math.exp(float(np.dot(a, bank[row])) / tau) / z
        loss = -math.log(p / (p + c + 1e-7))
        for k in rows:
            p = math.exp(float(np.dot(a, bank[k])) / tau) / z
            loss -= math.log(c / (p + c + 1e-7))
        out.append(loss)
    return out
