"""What the recipes without identities are made of, written from the definitions, and ten steps of training with each: see golden.py.

Cluster Contrast (Dai et al., ACCV 2022): a memory of unit rows, updated in the order of the batch. PPLR (Cho et al., CVPR 2022): an encoder
with horizontal parts, cross agreement of neighborhoods, refined and smoothed pseudo labels, camera-aware proxies.
"""

import torch
import torch.nn.functional as F
from torch import nn

from golden import leaf, nhwc
from golden_metric import in_groups, triplet_loss
from golden_networks import BATCHES, STEPS, Embedder, ResNet, images, initialize, put_buffers, put_parameters, scaled

LABELS = [0, 0, 2, 1, 2, 0, 2]


def unit(x):
    return F.normalize(x, dim=1)


# --- the cluster memory ---


def memory_loss(f, memory, labels, tau):
    return F.cross_entropy(f @ memory.T / tau, torch.tensor(labels))


def update_memory(memory, f, labels, momentum, rule):
    """In place: towards each row in turn, the least similar row of each cluster, or their mean."""

    def move(label, row):
        memory[label] = momentum * memory[label] + (1 - momentum) * row
        memory[label] /= memory[label].norm()

    if rule == "all":
        for row, label in zip(f, labels):
            move(label, row)
        return
    for label in sorted(set(labels)):
        rows = f[torch.tensor(labels) == label]
        move(label, rows.mean(0) if rule == "mean" else rows[(rows @ memory[label]).argmin()])


def memories(book):
    for rule in ("all", "hard", "mean"):
        case = book.case(f"memory_{rule}")
        f, memory = leaf(unit(case.normal(len(LABELS), 5))), unit(case.normal(4, 5))
        case.put(f=f, memory=memory, labels=torch.tensor(LABELS), tau=0.05, momentum=0.2)
        y = memory_loss(f, memory, LABELS, 0.05)
        y.backward()
        update_memory(memory, f.detach(), LABELS, 0.2, rule)
        case.put(y=y, df=f.grad, updated=memory)


# --- parts ---


def refined_label_loss(whole, parts, labels, agreement, beta):
    """whole [B, K] logits, parts a list of them, agreement [parts, B]."""
    own = F.one_hot(torch.tensor(labels), whole.shape[1]).double()
    weights = torch.softmax(agreement, 0)
    said = sum(w[:, None] * torch.softmax(p.detach(), 1) for w, p in zip(weights, parts))
    return -((beta * own + (1 - beta) * said) * F.log_softmax(whole, 1)).sum(1).mean()


def agreement_smoothing_loss(logits, labels, agreement):
    log_q = F.log_softmax(logits, 1)
    uniform = torch.full_like(log_q, 1 / logits.shape[1])
    kl = F.kl_div(log_q, uniform, reduction="none").sum(1)
    return (agreement * F.cross_entropy(logits, torch.tensor(labels), reduction="none") + (1 - agreement) * kl).mean()


def camera_loss(f, proxies, proxy_labels, proxy_cameras, labels, cameras, tau, hardest):
    """Mean over the whole batch: a row without a proxy of its cluster under another camera adds nothing."""
    proxy_labels, proxy_cameras, total = torch.tensor(proxy_labels), torch.tensor(proxy_cameras), 0 * f.sum()
    for row, label, camera in zip(f, labels, cameras):
        s = proxies @ row / tau
        own = proxy_labels == label
        positives = own & (proxy_cameras != camera)
        if positives.any():
            negatives = s[~own].topk(min(hardest, int((~own).sum()))).values
            total = total + (torch.logsumexp(torch.cat([s[positives], negatives]), 0) - s[positives]).mean()
    return total / len(labels)


def cross_agreement(a, b, k):
    def neighbors(x):
        similar = unit(x) @ unit(x).T
        similar.fill_diagonal_(-2)
        return [set(row.tolist()) for row in similar.topk(k).indices]

    pairs = zip(neighbors(a), neighbors(b))
    return torch.tensor([len(x & y) / len(x | y) for x, y in pairs], dtype=torch.float64)


def parts(book):
    for name, height, stripes in (("stripes_even", 6, 3), ("stripes_shared", 7, 3), ("stripes_one", 4, 1), ("stripes_each", 4, 4)):
        case = book.case(name)
        x = leaf(case.normal(2, 5, height, 3))
        pooled = F.adaptive_avg_pool2d(x, (stripes, 1))[..., 0]  # [N, C, stripes]
        y = torch.cat([pooled[..., s] for s in range(stripes)])
        dy = case.normal(*y.shape)
        y.backward(dy)
        case.put(x=nhwc(x), y=y, dy=dy, dx=nhwc(x.grad), stripes=stripes)
    for name, beta in (("refined", 0.5), ("refined_parts_only", 0.0), ("refined_labels_only", 1.0)):
        case = book.case(name)
        logits = [leaf(case.normal(7, 4, scale=3.0)) for _ in range(4)]
        agreement = case.uniform(3, 7)
        y = refined_label_loss(logits[0], logits[1:], LABELS, agreement, beta)
        y.backward()
        case.put(logits=logits[0], parts=torch.stack(logits[1:]), labels=torch.tensor(LABELS), agreement=agreement, beta=beta)
        case.put(y=y, df=logits[0].grad)
    case = book.case("agreement_smoothing")
    logits, agreement = leaf(case.normal(7, 4, scale=3.0)), case.uniform(7)
    agreement[0], agreement[1] = 0, 1
    y = agreement_smoothing_loss(logits, LABELS, agreement)
    y.backward()
    case.put(logits=logits, labels=torch.tensor(LABELS), agreement=agreement, y=y, df=logits.grad)
    case = book.case("camera_over_batch")
    labels, cameras = [0, 0, 0, 1, 1, 2, 3], [0, 1, 2, 0, 1, 1, 0]  # cluster 2 was seen by one camera
    f, proxies = leaf(unit(case.normal(7, 5))), unit(case.normal(7, 5))
    y = camera_loss(f, proxies, labels, cameras, labels, cameras, 0.07, 2)
    y.backward()
    case.put(f=f, proxies=proxies, labels=torch.tensor(labels), cameras=torch.tensor(cameras), tau=0.07, hardest=2, y=y, df=f.grad)
    for name, k in (("agreement_of_spaces", 5), ("agreement_of_one_neighbor", 1)):
        case = book.case(name)
        a = case.normal(40, 6)
        b = torch.cat([a[:, :3] + 0.3 * case.normal(40, 3), case.normal(40, 1)], 1)
        case.put(a=a, b=b, k=k, agreement=cross_agreement(a, b, k))


def clusters(book):
    memories(book)
    parts(book)


# --- ten steps of training ---

CLUSTERS = 6
TRAINED = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
CAMERAS = [0, 1, 0, 1, 1, 0, 2, 2, 0, 2, 1, 0]  # of the images; cluster 3 was seen by one camera
RATE, DECAY = 0.01, 5e-4


def trajectory_cluster_contrast(book):
    case = book.case("cluster_contrast")
    model = Embedder(ResNet(False, (2, 2, 2, 2), 1)).double().train()
    initialize(model, "cluster_contrast")
    put_parameters(case, "initial", model, as_float=True)
    memory = unit(case.normal(CLUSTERS, model.backbone.channels))
    batches = [images(case.random, 12, 32, 16) for _ in range(BATCHES)]
    case.put(memory=memory, labels=torch.tensor(TRAINED), images=nhwc(torch.cat(batches)), steps=STEPS, batches=BATCHES)
    case.put(lr=RATE, decay=DECAY, tau=0.05, momentum=0.1)
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=DECAY)
    record = []
    for step in range(STEPS):
        f = unit(model(scaled(batches[step % BATCHES]))[2])
        loss = memory_loss(f, memory.clone(), TRAINED, 0.05)
        adam.zero_grad()
        loss.backward()
        update_memory(memory, f.detach(), TRAINED, 0.1, "all")
        adam.step()
        record.append(loss.detach())
    case.put(losses=torch.stack(record), last_memory=memory)
    put_parameters(case, "last", model)
    put_buffers(case, "buffer", model)


class Parts(Embedder):
    """An embedder whose last map is also averaged over stripes, each with a neck of its own."""

    def __init__(self, backbone, count):
        super().__init__(backbone)
        self.part_bottleneck = nn.ModuleList(nn.BatchNorm1d(backbone.channels) for _ in range(count))
        for neck in self.part_bottleneck:
            neck.bias.requires_grad_(False)

    def forward(self, x):
        feature_map, _, whole = super().forward(x)
        stripes = F.adaptive_avg_pool2d(feature_map, (len(self.part_bottleneck), 1))[..., 0]
        return [whole] + [neck(stripes[..., s]) for s, neck in enumerate(self.part_bottleneck)]


def trajectory_pplr(book):
    """Batch norm in two groups, of which the first moves the running statistics; the parts' labels are smoothed by agreement from half way."""
    case = book.case("pplr")
    model = Parts(ResNet(False, (2, 2, 2, 2), 1), 3).double().train()
    initialize(model, "pplr")
    put_parameters(case, "initial", model, as_float=True)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            in_groups(module, 2)
    width = model.backbone.channels
    classifiers = [leaf(unit(case.normal(CLUSTERS, width))) for _ in range(4)]
    agreement = case.uniform(3, 12)
    keys = sorted(set(zip(TRAINED, CAMERAS)))
    proxy_labels, proxy_cameras = [k for k, _ in keys], [c for _, c in keys]
    proxies = [unit(case.normal(len(keys), width)) for _ in range(4)]
    batches = [images(case.random, 12, 64, 32) for _ in range(BATCHES)]
    case.put(classifiers=torch.stack(classifiers), agreement=agreement, proxies=torch.stack(proxies), images=nhwc(torch.cat(batches)))
    case.put(proxy_labels=torch.tensor(proxy_labels), proxy_cameras=torch.tensor(proxy_cameras))
    case.put(labels=torch.tensor(TRAINED), cameras=torch.tensor(CAMERAS), steps=STEPS, batches=BATCHES, lr=RATE, decay=DECAY)
    case.put(beta=0.5, smoothing=0.1, camera_weight=0.5, tau=0.07, hardest=4, groups=2)
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad] + classifiers, lr=RATE, weight_decay=DECAY)
    record = []
    for step in range(STEPS):
        views = model(scaled(batches[step % BATCHES]))
        logits = [view @ rows.T for view, rows in zip(views, classifiers)]
        if step < STEPS // 2:
            said = [F.cross_entropy(part, torch.tensor(TRAINED), label_smoothing=0.1) for part in logits[1:]]
        else:
            said = [agreement_smoothing_loss(part, TRAINED, a) for part, a in zip(logits[1:], agreement)]
        seen = [camera_loss(unit(v), p, proxy_labels, proxy_cameras, TRAINED, CAMERAS, 0.07, 4) for v, p in zip(views, proxies)]
        losses = [
            refined_label_loss(logits[0], logits[1:], TRAINED, agreement, 0.5),
            triplet_loss(views[0], TRAINED, 0.0),
            sum(said) / 3,
            0.5 * (seen[0] + sum(seen[1:]) / 3),
        ]
        adam.zero_grad()
        sum(losses).backward()
        adam.step()
        record.append(torch.stack([loss.detach() for loss in losses]))
    case.put(losses=torch.stack(record), last_classifiers=torch.stack(classifiers))
    put_parameters(case, "last", model)
    put_buffers(case, "buffer", model)
