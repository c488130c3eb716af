"""The ReMix losses written from their definitions, one anchor and one positive at a time, and their goldens: see golden.py.

t is the data type of an anchor: 0 labelled images of several cameras, 1 pseudo-labelled images of single-camera videos. f are the
encoder's unit rows, m the momentum encoder's. Gradients are with respect to f, taken as free (no projection to the sphere).
"""

import math

import torch
import torch.nn.functional as F

from golden import leaf


def reduce_types(values, kinds, reduction):
    """values: the losses of all anchors. sum: the mean of each type, added; pooled: one mean over all anchors."""
    if reduction == "pooled":
        return torch.stack(values).mean()
    parts = []
    for t in (0, 1):
        own = [v for v, kind in zip(values, kinds) if kind == t]
        if own:
            parts.append(torch.stack(own).mean())
    return sum(parts)


def contrast(f, m, i, positives, negatives, tau, denominator):
    """The mean over positives of -log of their share against the negatives (and, for supcon, against all positives)."""
    if not positives or not negatives:
        return f.new_zeros(())

    def e(j):
        return torch.exp(f[i] @ m[j] / tau)

    against = sum(e(n) for n in negatives)
    everyone = against + sum(e(p) for p in positives)
    terms = [-torch.log(e(p) / (everyone if denominator == "supcon" else e(p) + against)) for p in positives]
    return sum(terms) / len(terms)


def negatives_of(i, labels, kinds, scope):
    return [j for j in range(len(labels)) if labels[j] != labels[i] and (scope == "joint" or kinds[j] == kinds[i])]


def instance_loss(f, m, labels, kinds, tau, neg_scope="joint", self_positive=True, denominator="one_pos", reduction="sum"):
    values = []
    for i in range(len(labels)):
        positives = [j for j in range(len(labels)) if labels[j] == labels[i] and (self_positive or j != i)]
        negatives = negatives_of(i, labels, kinds, neg_scope)
        values.append(contrast(f, m, i, positives, negatives, tau[kinds[i]], denominator))
    return reduce_types(values, kinds, reduction)


def augmentation_loss(f, m, labels, kinds, tau, neg_scope="joint", reduction="sum"):
    values = [contrast(f, m, i, [i], negatives_of(i, labels, kinds, neg_scope), tau, "one_pos") for i in range(len(labels))]
    return reduce_types(values, kinds, reduction)


def centroid_loss(f, centroids, centroid_kinds, labels, kinds, tau, scope="joint", smoothing=0.0, reduction="sum"):
    values = []
    for i, label in enumerate(labels):
        members = [k for k in range(len(centroids)) if scope == "joint" or centroid_kinds[k] == kinds[i]]
        logits = torch.stack([f[i] @ centroids[k] / tau[kinds[i]] for k in members])
        log_p = logits - torch.log(torch.exp(logits).sum())
        q = torch.tensor([(1 - smoothing) * (k == label) + smoothing / len(members) for k in members], dtype=torch.float64)
        values.append(-(q * log_p).sum())
    return reduce_types(values, kinds, reduction)


def camera_centroid_loss(f, centroids, centroid_labels, centroid_cameras, labels, cameras, tau, hardest=50, own_camera=False):
    """All anchors are labelled images of several cameras."""
    values = []
    for i, label in enumerate(labels):
        everyone = range(len(centroids))
        positives = [u for u in everyone if centroid_labels[u] == label and (own_camera or centroid_cameras[u] != cameras[i])]
        if not positives:
            continue
        others = [u for u in everyone if centroid_labels[u] != label]
        closeness = [float(f[i].detach() @ centroids[u]) for u in others]
        ranked = sorted(range(len(others)), key=lambda j: (-closeness[j], others[j]))
        members = positives + [others[j] for j in ranked[:hardest]]
        total = sum(torch.exp(f[i] @ centroids[u] / tau) for u in members)
        values.append(sum(-torch.log(torch.exp(f[i] @ centroids[q] / tau) / total) for q in positives) / len(positives))
    return sum(values) / len(values) if values else 0 * f.sum()


def unit(case, rows, columns):
    return F.normalize(case.normal(rows, columns), dim=1)


# Two types with an identity seen once in each: labels 0..3 labelled, 4..6 pseudo.
LABELS = [0, 0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5, 5, 6]
KINDS = [0] * 8 + [1] * 6
CAMERAS = [0, 1, 2, 0, 1, 1, 2, 2]


def batch(case, d=6, labels=LABELS, kinds=KINDS):
    f, m = leaf(unit(case, len(labels), d)), unit(case, len(labels), d)
    case.put(f=f, m=m, labels=torch.tensor(labels), single=torch.tensor(kinds, dtype=torch.uint8))
    return f, m


def finish(case, loss, f, **attributes):
    loss.backward()
    case.put(y=loss, df=f.grad, **attributes)


def instances(book):
    tau = (0.1, 0.2)
    variants = {
        "instance": {},
        "instance_same_type": dict(neg_scope="same_type"),
        "instance_no_self": dict(self_positive=False),
        "instance_supcon": dict(denominator="supcon"),
        "instance_supcon_no_self": dict(denominator="supcon", self_positive=False),
        "instance_pooled": dict(reduction="pooled"),
        "instance_all_switched": dict(neg_scope="same_type", self_positive=False, denominator="supcon", reduction="pooled"),
    }
    for name, switches in variants.items():
        case = book.case(name)
        f, m = batch(case)
        put_switches(case, switches)
        finish(case, instance_loss(f, m, LABELS, KINDS, tau, **switches), f, tau_multi=tau[0], tau_single=tau[1])
    for name, kind in (("instance_multi_only", 0), ("instance_single_only", 1)):
        case = book.case(name)
        labels = [label for label, k in zip(LABELS, KINDS) if k == kind]
        f, m = batch(case, labels=labels, kinds=[kind] * len(labels))
        put_switches(case, {})
        finish(case, instance_loss(f, m, labels, [kind] * len(labels), tau), f, tau_multi=tau[0], tau_single=tau[1])
    case = book.case("instance_one_identity")  # no negative anywhere: zero
    f, m = batch(case, labels=[0, 0, 0], kinds=[0, 0, 0])
    put_switches(case, {})
    case.put(y=0.0, df=torch.zeros_like(f), tau_multi=0.1, tau_single=0.2)


def put_switches(case, switches):
    case.put(
        neg_scope_same_type=switches.get("neg_scope") == "same_type",
        self_positive=switches.get("self_positive", True),
        supcon=switches.get("denominator") == "supcon",
        pooled=switches.get("reduction") == "pooled",
    )


def augmentations(book):
    variants = {
        "augmentation": {},
        "augmentation_same_type": dict(neg_scope="same_type"),
        "augmentation_pooled": dict(reduction="pooled"),
    }
    for name, switches in variants.items():
        case = book.case(name)
        f, m = batch(case)
        put_switches(case, switches)
        finish(case, augmentation_loss(f, m, LABELS, KINDS, 0.1, **switches), f, tau=0.1)


def centroids(book):
    tau = (0.5, 0.6)
    variants = {
        "centroid": {},
        "centroid_same_type": dict(scope="same_type"),
        "centroid_smooth": dict(smoothing=0.1),
        "centroid_smooth_same_type": dict(smoothing=0.1, scope="same_type"),
        "centroid_pooled": dict(reduction="pooled"),
    }
    for name, switches in variants.items():
        case = book.case(name)
        f, _ = batch(case)
        table, kinds = unit(case, 9, 6), [0, 0, 0, 0, 1, 1, 1, 1, 1]
        case.put(centroids=table, centroid_single=torch.tensor(kinds, dtype=torch.uint8), multi_count=4)
        case.put(scope_same_type=switches.get("scope") == "same_type", smoothing=switches.get("smoothing", 0.0))
        case.put(pooled=switches.get("reduction") == "pooled")
        loss = centroid_loss(f, table, kinds, LABELS, KINDS, tau, **switches)
        finish(case, loss, f, tau_multi=tau[0], tau_single=tau[1])


def camera_case(book, name, table, labels, cameras, batch_labels, batch_cameras, hardest=50, own_camera=False, f=None):
    case = book.case(name)
    f = leaf(f if f is not None else unit(case, len(batch_labels), table.shape[1] if torch.is_tensor(table) else table))
    table = table if torch.is_tensor(table) else unit(case, len(labels), table)
    case.put(f=f, labels=torch.tensor(batch_labels), cameras=torch.tensor(batch_cameras), centroids=table)
    case.put(centroid_labels=torch.tensor(labels), centroid_cameras=torch.tensor(cameras))
    loss = camera_centroid_loss(f, table, labels, cameras, batch_labels, batch_cameras, 0.07, hardest, own_camera)
    finish(case, loss, f, tau=0.07, hardest=hardest, own_camera=own_camera)


def camera_centroids(book):
    # Identity 2 was seen by one camera only: its anchors have no other camera.
    labels = [0, 0, 0, 1, 1, 2, 3, 3, 4, 4, 4, 5]
    cameras = [0, 1, 2, 0, 1, 1, 0, 2, 0, 1, 2, 2]
    few = (labels, cameras, LABELS[:8], CAMERAS)
    camera_case(book, "camera_centroid", 6, *few)
    camera_case(book, "camera_centroid_own_camera", 6, *few, own_camera=True)
    camera_case(book, "camera_centroid_hardest3", 6, *few, hardest=3)
    many = ([k // 3 for k in range(90)], [k % 3 for k in range(90)], [0, 0, 7, 7, 29, 29], [0, 1, 2, 0, 1, 1])
    camera_case(book, "camera_centroid_hardest50", 6, *many)
    # Ties at the cut: rows of the table repeat, so equal similarities must be taken in the order of their index.
    repeated = F.normalize(torch.tensor([[1.0, 2, 0], [0, 1, -1], [2, 0, 1], [1, 1, 1], [-1, 0, 2]], dtype=torch.float64), dim=1)
    table = repeated[torch.tensor([0, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4])]
    camera_case(book, "camera_centroid_ties", table, labels, cameras, [0, 0, 1, 4, 5], [0, 1, 1, 2, 0], hardest=4)
    # ... and with different rows at the same similarity, so that it matters for the gradient which of them is taken.
    mirrored = [[0, 1, 0], [0.6, 0.8, 0], [0.8, 0, 0.6], [0.8, 0.6, 0], [0.8, -0.6, 0], [0.8, 0, -0.6], [0.6, 0, 0.8], [0.28, 0.96, 0]]
    table, axis = torch.tensor(mirrored, dtype=torch.float64), torch.tensor([[1.0, 0, 0], [0, 1, 0]], dtype=torch.float64)
    whose = ([0, 0, 1, 1, 2, 3, 3, 4], [0, 1, 0, 1, 0, 0, 1, 0], [0, 0], [0, 1])
    camera_case(book, "camera_centroid_mirrored", table, *whose, hardest=3, f=axis)
    case = book.case("camera_centroid_no_anchor")
    f = leaf(unit(case, 3, 6))
    case.put(f=f, labels=torch.tensor([0, 1, 2]), cameras=torch.tensor([0, 0, 0]), centroids=unit(case, 3, 6))
    case.put(centroid_labels=torch.tensor([0, 1, 2]), centroid_cameras=torch.tensor([0, 0, 0]))
    case.put(y=0.0, df=torch.zeros_like(f), tau=0.07, hardest=50, own_camera=False)


def check_invariants():
    """The properties the definitions must have, so that a slip here is not taken for truth."""
    d, labels, kinds = 5, [0, 0, 1, 1, 2, 3], [0, 0, 0, 0, 1, 1]
    f = F.normalize(torch.randn(6, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=1)
    same = f[:1].expand(6, d)
    table = F.normalize(torch.randn(7, d, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), dim=1)
    assert math.isclose(centroid_loss(f, table, [0] * 7, labels, kinds, (1e12, 1e12)), 2 * math.log(7), rel_tol=1e-9)
    expected = math.log(1 + 4) + (math.log(1 + 5))  # |N| is 4 for the labelled anchors, 5 for the others
    assert math.isclose(augmentation_loss(same, same, labels, kinds, 0.3), expected, rel_tol=1e-12)
    one_each = [0, 1, 2, 3, 4, 5]
    a, b = instance_loss(f, f.flip(0), one_each, kinds, (0.1, 0.1)), augmentation_loss(f, f.flip(0), one_each, kinds, 0.1)
    assert math.isclose(a, b, rel_tol=1e-12)
    cc = camera_centroid_loss(f[:1], table[:2], [0, 0], [0, 1], [0], [0], 0.07)
    assert abs(float(cc)) < 1e-12


def losses(book):
    check_invariants()
    instances(book)
    augmentations(book)
    centroids(book)
    camera_centroids(book)
