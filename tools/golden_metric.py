"""The losses of supervised re-identification written from their definitions, and ten steps of training with them: see golden.py.

f are features, labels identities. Distances are Euclidean, from differences, with 1e-12 as the smallest square, so that a row's distance
to itself, which counts among its positives as in the original code, has no gradient.
"""

import torch
import torch.nn.functional as F

from golden import leaf, nhwc
from golden_networks import BATCHES, STEPS, Embedder, ResNet, images, initialize, put_buffers, put_parameters, scaled

LABELS = [0, 0, 1, 1, 1, 2, 2, 2, 3]


def distances(f):
    return (f[:, None] - f[None]).square().sum(2).clamp(min=1e-12).sqrt()


def triplet_loss(f, labels, margin=0.3, weighted=False, normalize=False):
    d = distances(F.normalize(f, dim=1) if normalize else f)
    labels, gaps = torch.tensor(labels), []
    for i in range(len(labels)):
        near, far = d[i][labels != labels[i]], d[i][labels == labels[i]]
        if len(near) == 0:
            continue
        if weighted:
            gaps.append((torch.softmax(far, 0) * far).sum() - (torch.softmax(-near, 0) * near).sum())
        else:
            gaps.append(far.max(0).values - near.min(0).values)  # of equal distances one, as in the original code
    if not gaps:
        return f.sum() * 0
    gaps = torch.stack(gaps)
    return (F.relu(gaps + margin) if margin > 0 else F.softplus(gaps)).sum() / len(labels)


def center_loss(f, centers, labels):
    return (f - centers[torch.tensor(labels)]).square().sum(1).mean()


def circle_logits(f, w, labels, scale, margin):
    s = F.normalize(f, dim=1) @ F.normalize(w, dim=1).T
    own = F.one_hot(torch.tensor(labels), len(w)).bool()
    pull, push = F.relu(1 + margin - s.detach()), F.relu(s.detach() + margin)
    return scale * torch.where(own, pull * (s - (1 - margin)), push * (s - margin))


def id_loss(logits, labels, smoothing, others=False):
    n = logits.shape[1]
    own = F.one_hot(torch.tensor(labels), n).double()
    target = (1 - smoothing) * own + (smoothing / (n - 1) * (1 - own) if others else smoothing / n)
    return -(target * F.log_softmax(logits, 1)).sum(1).mean()


def triplets(book):
    variants = {
        "triplet_hard": {},
        "triplet_soft_margin": dict(margin=0.0),
        "triplet_wide_margin": dict(margin=5.0),
        "triplet_weighted": dict(margin=0.0, weighted=True),
        "triplet_weighted_hinge": dict(margin=0.3, weighted=True),
        "triplet_normalized": dict(normalize=True),
    }
    for name, options in variants.items():
        case = book.case(name)
        f = leaf(case.normal(len(LABELS), 5))
        put_triplet(case, f, LABELS, **options)
    # Equal distances: the first is selected. Rows 0 and 1 are at one place, as are 5 and 6.
    case = book.case("triplet_ties")
    f = case.normal(9, 4)
    f[1], f[6] = f[0], f[5]
    put_triplet(case, leaf(f), LABELS)
    case = book.case("triplet_one_identity")
    put_triplet(case, leaf(case.normal(4, 3)), [0, 0, 0, 0])


def put_triplet(case, f, labels, margin=0.3, weighted=False, normalize=False):
    y = triplet_loss(f, labels, margin, weighted, normalize)
    y.backward()
    case.put(f=f, labels=torch.tensor(labels), y=y, df=f.grad, margin=margin, weighted=weighted, normalize=normalize)


def classifiers(book):
    for name, others in (("smoothing_all", False), ("smoothing_others", True)):
        case = book.case(name)
        logits = leaf(case.normal(9, 7, scale=3.0))
        y = id_loss(logits, LABELS, 0.1, others)
        y.backward()
        case.put(f=logits, labels=torch.tensor(LABELS), y=y, df=logits.grad, smoothing=0.1, others=others)
    for name, scale, margin in (("circle", 64.0, 0.35), ("circle_wide", 8.0, 0.9)):
        case = book.case(name)
        f, w = leaf(case.normal(9, 5)), leaf(case.normal(6, 5))
        y = id_loss(circle_logits(f, w, LABELS, scale, margin), LABELS, 0.0)
        y.backward()
        case.put(f=f, w=w, labels=torch.tensor(LABELS), y=y, df=f.grad, dw=w.grad, scale=scale, margin=margin)
    case = book.case("center")
    f, centers = leaf(case.normal(9, 5)), leaf(case.normal(6, 5))
    y = center_loss(f, centers, LABELS)
    y.backward()
    case.put(f=f, w=centers, labels=torch.tensor(LABELS), y=y, df=f.grad, dw=centers.grad)


# --- non-local blocks ---


class NonLocal(torch.nn.Module):
    """By dot products, divided by the number of pixels, with the names of AGW's code."""

    def __init__(self, channels, width):
        super().__init__()
        self.g = torch.nn.Conv2d(channels, width, 1)
        self.W = torch.nn.Sequential(torch.nn.Conv2d(width, channels, 1), torch.nn.BatchNorm2d(channels))
        self.theta = torch.nn.Conv2d(channels, width, 1)
        self.phi = torch.nn.Conv2d(channels, width, 1)

    def forward(self, x):
        theta, phi, g = (conv(x).flatten(2).transpose(1, 2) for conv in (self.theta, self.phi, self.g))  # [N, L, width]
        attention = theta @ phi.transpose(1, 2) / theta.shape[1]
        y = (attention @ g).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])
        return self.W(y) + x


def non_local(book):
    for name, width in (("non_local_one", 1), ("non_local_three", 3)):
        case = book.case(name)
        block = NonLocal(6, width).double().train()
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.copy_(case.normal(*parameter.shape))
        x = leaf(case.normal(2, 6, 4, 3))
        case.put(**{f"parameter/{key}": p for key, p in block.named_parameters()})
        y = block(x)
        dy = case.normal(*y.shape)
        y.backward(dy)
        case.put(x=nhwc(x), y=nhwc(y), dy=nhwc(dy), dx=nhwc(x.grad), width=width)
        case.put(**{f"gradient/{key}": p.grad for key, p in block.named_parameters()})
        put_buffers(case, "buffer", block)


def metric_losses(book):
    triplets(book)
    classifiers(book)


# --- ten steps of training ---

CLASSES = 6
TRAINED = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
# The strong baseline with centers; SBS, its backbone frozen for three steps, on a batch norm over two groups of which the first moves the
# running statistics.
VARIANTS = {
    "strong_baseline": dict(groups=1, circle=0, frozen=0, margin=0.3, after=0, smoothing=0.1, others=0, center_weight=5e-4, center_lr=0.5, lr=0.01, decay=5e-4),
    "sbs": dict(groups=2, circle=1, frozen=3, margin=0.0, after=1, smoothing=0.1, others=1, center_weight=0.0, center_lr=0.0, lr=0.01, decay=5e-4),
}


def in_groups(norm, groups):
    """Makes a batch norm normalize equal parts of the batch by themselves, as on several GPUs; the first moves the running statistics."""

    def forward(x):
        if not norm.training:
            return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, norm.momentum, norm.eps)
        parts = [(norm.running_mean, norm.running_var)] + [(None, None)] * (groups - 1)
        return torch.cat([
            F.batch_norm(part, mean, variance, norm.weight, norm.bias, True, norm.momentum, norm.eps)
            for part, (mean, variance) in zip(x.chunk(groups), parts)
        ])

    norm.forward = forward


def trajectory_strong_baseline(book):
    train_supervised(book.case("strong_baseline"), "strong_baseline", VARIANTS["strong_baseline"])


def trajectory_sbs(book):
    train_supervised(book.case("sbs"), "sbs", VARIANTS["sbs"])


def train_supervised(case, name, r):
    model = Embedder(ResNet(False, (2, 2, 2, 2), 1)).double().train()
    initialize(model, name)
    put_parameters(case, "initial", model, as_float=True)
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            in_groups(module, r["groups"])
    width = model.backbone.channels
    classifier, centers = leaf(case.normal(CLASSES, width, scale=0.1)), leaf(case.normal(CLASSES, width))
    batches = [images(case.random, 12, 32, 16) for _ in range(BATCHES)]
    case.put(classifier=classifier, centers=centers, labels=torch.tensor(TRAINED), images=nhwc(torch.cat(batches)))
    case.put(steps=STEPS, batches=BATCHES, **r)
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad] + [classifier], lr=r["lr"], weight_decay=r["decay"])
    record = []
    for step in range(STEPS):
        model.backbone.train(step >= r["frozen"])  # frozen norms use the running statistics, which stay
        for parameter in model.backbone.parameters():  # one without a gradient is left alone by Adam, its count of steps too
            parameter.requires_grad_(step >= r["frozen"])
        _, before, after = model(scaled(batches[step % BATCHES]))
        logits = circle_logits(after, classifier, TRAINED, 64, 0.35) if r["circle"] else after @ classifier.T
        metric = after if r["after"] else before
        losses = [
            id_loss(logits, TRAINED, r["smoothing"], r["others"]),
            triplet_loss(metric, TRAINED, r["margin"]),
            r["center_weight"] * center_loss(metric, centers, TRAINED),
        ]
        adam.zero_grad(set_to_none=True)
        centers.grad = None
        sum(losses).backward()
        adam.step()
        if r["center_weight"] > 0:
            with torch.no_grad():
                centers -= r["center_lr"] * (centers.grad / r["center_weight"])
        record.append(torch.stack([loss.detach() for loss in losses]))
    case.put(losses=torch.stack(record), last_classifier=classifier, last_centers=centers)
    put_parameters(case, "last", model)
    put_buffers(case, "buffer", model)
