"""The design's section 4 as float64 loops: the terms of erm, augmix, kd, attkd and craft.

They share no code with the package: plain loops over images, views and classes, and NumPy's SVD for the
principal direction.
"""

import itertools
import math

import numpy as np

from tests.methods.signals import LABELS, B, K, make_signals, terms_of


def softmax(z, temperature=1.0):
    e = [math.exp((x - max(z)) / temperature) for x in z]
    return [x / sum(e) for x in e]


def ref_ce(logits, label):
    return -math.log(softmax(logits)[label])


def ref_kd(student, teacher, temperature):
    p_t, p_s = softmax(teacher, temperature), softmax(student, temperature)
    return temperature**2 * sum(p * math.log(p / q) for p, q in zip(p_t, p_s, strict=True))


def ref_jensen_shannon(logits):
    """logits: (V, K) of one image."""
    p = [softmax(z) for z in logits]
    mixture = [sum(column) / len(p) for column in zip(*p, strict=True)]
    return sum(q * math.log(q / m) for row in p for q, m in zip(row, mixture, strict=True)) / len(p)


def ref_attention(student, teacher, reduction):
    """Maps (H, W, C) of one view, of one size a stage."""
    total = 0.0
    for pair in zip(student, teacher, strict=True):
        maps = []
        for h in pair:
            h = np.asarray(h, np.float64)
            sites = itertools.product(range(h.shape[0]), range(h.shape[1]))
            maps.append(ref_unit(np.array([sum(x * x for x in h[site]) / h.shape[2] for site in sites])))
        squares = [(a - b) ** 2 for a, b in zip(*maps, strict=True)]
        total += sum(squares) / (1 if reduction == "sum" else len(squares))
    return total / len(student)


def ref_reliability(logits, alpha, beta, gamma):
    """logits: (V, K) of one image."""
    top = [max(range(K), key=lambda k, z=z: z[k]) for z in logits]
    agree = sum(t == top[0] for t in top) / len(top)
    entropy = sum(-sum(p * math.log(p) for p in softmax(z)) for z in logits) / len(logits)
    return 1 / (1 + math.exp(-(alpha * (agree - gamma) - beta * entropy)))


def ref_unit(v):
    return v / math.sqrt(sum(x * x for x in v))


def ref_embed(stages, projections=None):
    """stages: maps (H, W, C) of one view -> a unit vector."""
    parts = []
    for level, h in enumerate(stages):
        h = np.asarray(h, np.float64)
        pooled = sum(h[y, x] for y in range(h.shape[0]) for x in range(h.shape[1]))
        pooled = pooled / (h.shape[0] * h.shape[1])
        if projections is not None:
            w = np.asarray(projections[level], np.float64)
            pooled = np.array([sum(pooled[c] * w[c, d] for c in range(len(w))) for d in range(w.shape[1])])
        parts.append(ref_unit(pooled))
    return ref_unit(np.concatenate(parts))


def ref_contrastive(z_t, z_s, i, tau, positives, anchor, mask):
    """The loss of image i; z_t, z_s: (B, V, D)."""
    views = range(z_s.shape[1])
    negatives = [(j, n) for j in range(B) for n in views if j != i and not (mask and LABELS[j] == LABELS[i])]
    total = 0.0
    for m in views:
        a = z_t[i, 0 if anchor == "clean" else m]

        def e(j, n, a=a):
            return math.exp(sum(a * z_s[j, n]) / tau)

        others = sum(e(j, n) for j, n in negatives)
        own = sum(e(i, n) for n in views)
        if positives == "cross_view":
            total -= math.log(own / (own + others))
        elif positives == "same_view":
            total -= math.log(e(i, m) / (own + others))
        else:
            total -= sum(math.log(e(i, p) / (e(i, p) + others)) for p in views) / len(views)
    return total / len(views)


def ref_directions(z, kind, eps):
    """z: (V, D) of one image -> (V, D)."""
    views = len(z)
    mean = sum(z) / views
    if kind == "principal":
        _, values, rows = np.linalg.svd(z - mean)
        v = [values[0] * rows[0]] * views
    elif kind == "clean_shift":
        v = [sum(z[m] - z[0] for m in range(1, views)) / max(views - 1, 1)] * views
    else:
        v = [z[m] - mean for m in range(views)]
    return [x / (math.sqrt(sum(x * x)) + eps) for x in v]


def ref_dealignment(z, u, form):
    """z: (V, D), the student's; u: (V, D)."""
    views = len(z)
    if form == "position":
        return sum(sum(u[m] * z[m]) ** 2 for m in range(views)) / views
    return sum(sum(u[m] * (z[m] - z[0])) ** 2 for m in range(1, views)) / max(views - 1, 1)


def ref_terms(config, s):
    """{name: scalar} of erm, augmix, kd, attkd and craft."""
    v = config.views
    everything, clean = range(v.count + 1), range(1)
    ce_views = everything if v.ce_views == "all" else clean
    kd_views = everything if v.distill_views == "all" else clean
    logits = np.asarray(s.student.logits, np.float64)

    ce = [sum(ref_ce(logits[b, m], LABELS[b]) for m in ce_views) / len(ce_views) for b in range(B)]
    terms = {"ce": sum(ce) / B}
    if config.method == "erm":
        return terms
    if config.method == "augmix":
        jsd = [ref_jensen_shannon(logits[b]) for b in range(B)]
        return terms | {"jsd": config.augmix.weight * sum(jsd) / B}

    taught = np.asarray(s.teacher.logits, np.float64)

    def distill(loss):
        """loss(b, m, t): image b, its student view m, the teacher's view t -> (B,)."""
        own = v.distill_target == "own"
        return [sum(loss(b, m, m if own else 0) for m in kd_views) / len(kd_views) for b in range(B)]

    if config.method == "attkd":
        attention = distill(
            lambda b, m, t: ref_attention(
                [h[b, m] for h in s.student.stages],
                [h[b, t] for h in s.teacher.stages],
                config.attention.reduction,
            )
        )
        return terms | {"attention": config.attention.weight * sum(attention) / B}
    kd = distill(lambda b, m, t: ref_kd(logits[b, m], taught[b, t], config.kd.temperature))
    if config.method == "kd":
        return terms | {"kd": config.kd.weight * sum(kd) / B}

    c, d, q = config.contrastive, config.dealign, config.reliability
    r = [ref_reliability(taught[b], q.alpha, q.beta, q.gamma) for b in range(B)]
    terms["kd"] = config.kd.weight * sum(r[b] * kd[b] for b in range(B)) / B
    if not c.weight and not d.weight:
        return terms if config.kd.weight else {"ce": terms["ce"]}
    w = s.params["projections"]
    z_t, z_s = (
        np.array(
            [[ref_embed([o.stages[i - 1][b, m] for i in c.stages], p) for m in everything] for b in range(B)]
        )
        for o, p in ((s.teacher, None), (s.student, w))
    )
    con = [
        ref_contrastive(z_t, z_s, b, c.temperature, c.positives, c.anchor, c.mask_same_class)
        for b in range(B)
    ]
    terms["contrastive"] = c.weight * sum(r[b] * con[b] for b in range(B)) / B
    de = [ref_dealignment(z_s[b], ref_directions(z_t[b], d.kind, d.eps), d.form) for b in range(B)]
    terms["dealign"] = d.weight * sum((1 - r[b]) * de[b] for b in range(B)) / B
    weights = {"kd": config.kd.weight, "contrastive": c.weight, "dealign": d.weight}
    return {name: value for name, value in terms.items() if weights.get(name, 1)}


def check(config, seed=0):
    """The method's terms are the reference's; returns both."""
    signals = make_signals(config, seed)
    found, expected = terms_of(config, signals), ref_terms(config, signals)
    assert found.losses.keys() == expected.keys()
    for name, value in expected.items():
        assert found.losses[name].shape == () and found.losses[name].dtype == np.float32
        np.testing.assert_allclose(found.losses[name], value, rtol=2e-5, err_msg=name)
        assert abs(value) > 1e-3, f"{name} is too near zero to test anything"
    return found, signals
