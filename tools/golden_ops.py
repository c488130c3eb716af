"""Goldens of the ops, forward and backward, and of the optimizers: see golden.py."""

import torch
import torch.nn.functional as F

from golden import leaf, nhwc

EPS = 1e-5


def conv(book, name, x, w, **g):
    case = book.case(name)
    x, w = leaf(case.normal(*x)), leaf(case.normal(*w))
    y = F.conv2d(x, w, stride=g.get("stride", 1), padding=g.get("pad", 0), dilation=g.get("dilation", 1), groups=g.get("groups", 1))
    dy = case.normal(*y.shape)
    y.backward(dy)
    case.put(x=nhwc(x), w=nhwc(w), y=nhwc(y), dy=nhwc(dy), dx=nhwc(x.grad), dw=nhwc(w.grad))
    case.put(**{key: g.get(key, default) for key, default in dict(stride=1, pad=0, dilation=1, groups=1).items()})


def convolutions(book):
    conv(book, "conv_1x1", (2, 5, 6, 3), (4, 5, 1, 1))
    conv(book, "conv_1x1_stride2", (2, 4, 7, 5), (3, 4, 1, 1), stride=2)
    conv(book, "conv_3x3", (2, 3, 5, 6), (4, 3, 3, 3), pad=1)
    conv(book, "conv_3x3_stride2_odd", (2, 3, 7, 5), (4, 3, 3, 3), pad=1, stride=2)
    conv(book, "conv_3x3_stride2_even", (1, 2, 8, 6), (3, 2, 3, 3), pad=1, stride=2)  # the last row and column are read once less
    conv(book, "conv_7x7_stride2", (1, 3, 16, 8), (4, 3, 7, 7), pad=3, stride=2)
    conv(book, "conv_dilated", (2, 3, 9, 7), (2, 3, 3, 3), pad=2, dilation=2)
    conv(book, "conv_grouped", (2, 6, 5, 4), (4, 3, 3, 3), pad=1, groups=2)
    conv(book, "conv_depthwise_stride2", (1, 4, 6, 6), (4, 1, 3, 3), pad=1, groups=4, stride=2)
    conv(book, "conv_no_pad", (1, 2, 5, 5), (3, 2, 3, 3))
    conv(book, "conv_pad_beyond_filter", (1, 2, 3, 2), (2, 2, 3, 3), pad=3)
    conv(book, "conv_1x3_stride3", (1, 2, 4, 6), (2, 2, 1, 3), stride=3)


def matmuls(book):
    for ta in (False, True):
        for tb in (False, True):
            case = book.case(f"matmul_{'t' if ta else 'n'}{'t' if tb else 'n'}")
            a = leaf(case.normal(*((7, 4) if ta else (4, 7))))
            b = leaf(case.normal(*((5, 7) if tb else (7, 5))))
            y = (a.T if ta else a) @ (b.T if tb else b)
            dy = case.normal(4, 5)
            y.backward(dy)
            case.put(a=a, b=b, y=y, dy=dy, da=a.grad, db=b.grad, transpose_a=ta, transpose_b=tb)


def norm(book, name, shape, kind, training=True, residual=False, relu=False):
    """batch, instance or ibn normalization, then the residual and the activation."""
    case = book.case(name)
    c = shape[1]
    x = leaf(case.normal(*shape) * case.uniform(1, c, 1, 1, low=0.5, high=2) + case.normal(1, c, 1, 1))
    gamma, beta = leaf(case.uniform(c, low=0.5, high=1.5)), leaf(case.normal(c))
    half = {"batch": 0, "instance": c, "ibn": c // 2}[kind]  # channels of the instance norm
    running_mean, running_var = case.normal(c - half), case.uniform(c - half, low=0.5, high=2)
    r = leaf(case.normal(*shape)) if residual else None
    case.put(x=nhwc(x), gamma=gamma, beta=beta, eps=EPS, relu=relu, training=training, momentum=0.1)
    if half < c:
        case.put(running_mean_before=running_mean, running_var_before=running_var)
    parts = []
    if half:
        parts.append(F.instance_norm(x[:, :half], weight=gamma[:half], bias=beta[:half], use_input_stats=True, eps=EPS))
    if half < c:
        parts.append(F.batch_norm(x[:, half:], running_mean, running_var, gamma[half:], beta[half:], training, 0.1, EPS))
    y = torch.cat(parts, 1)
    y = y + r if residual else y
    y = torch.relu(y) if relu else y
    dy = case.normal(*shape)
    y.backward(dy)
    case.put(y=nhwc(y), dy=nhwc(dy), dx=nhwc(x.grad), dgamma=gamma.grad, dbeta=beta.grad)
    if half < c:
        case.put(running_mean=running_mean, running_var=running_var)
    if residual:
        case.put(residual=nhwc(r), dresidual=nhwc(r.grad))


def norms(book):
    norm(book, "batch_norm_train", (3, 5, 4, 3), "batch")
    norm(book, "batch_norm_eval", (3, 5, 4, 3), "batch", training=False)
    norm(book, "batch_norm_train_relu", (2, 6, 3, 5), "batch", relu=True)
    norm(book, "batch_norm_train_residual_relu", (2, 4, 5, 3), "batch", residual=True, relu=True)
    norm(book, "batch_norm_eval_residual_relu", (2, 4, 5, 3), "batch", training=False, residual=True, relu=True)
    norm(book, "batch_norm_rows", (7, 6, 1, 1), "batch")  # the neck: a norm of feature vectors
    norm(book, "instance_norm", (3, 5, 4, 3), "instance")
    norm(book, "instance_norm_residual_relu", (2, 4, 3, 4), "instance", residual=True, relu=True)
    norm(book, "ibn_train", (3, 6, 4, 3), "ibn")
    norm(book, "ibn_train_relu", (2, 8, 3, 4), "ibn", relu=True)
    norm(book, "ibn_eval_relu", (2, 8, 3, 4), "ibn", training=False, relu=True)
    norm(book, "ibn_odd", (2, 7, 3, 4), "ibn")  # IBN-Net gives the smaller half to instance norm


def max_pool(book, name, x, kernel, stride, pad, ceil):
    case = book.case(name)
    x = leaf(case.normal(*x) if isinstance(x, tuple) else x(case))
    y, index = F.max_pool2d(x, kernel, stride, pad, ceil_mode=ceil, return_indices=True)
    dy = case.normal(*y.shape)
    y.backward(dy)
    case.put(x=nhwc(x), y=nhwc(y), index=nhwc(index).to(torch.int32), dy=nhwc(dy), dx=nhwc(x.grad))
    case.put(kernel=kernel, stride=stride, pad=pad, ceil=ceil)


def pools(book):
    max_pool(book, "max_pool", (2, 3, 8, 6), 3, 2, 1, False)
    max_pool(book, "max_pool_odd", (2, 3, 7, 5), 3, 2, 1, False)
    max_pool(book, "max_pool_caffe", (2, 3, 8, 6), 3, 2, 0, True)
    max_pool(book, "max_pool_caffe_odd", (2, 3, 7, 5), 3, 2, 0, True)
    max_pool(book, "max_pool_ceil_pad", (1, 2, 8, 5), 3, 2, 1, True)
    max_pool(book, "max_pool_2x2", (1, 2, 4, 6), 2, 2, 0, False)
    max_pool(book, "max_pool_ties", lambda case: case.integers(0, 3, 2, 3, 8, 6).double(), 3, 2, 1, False)
    case = book.case("global_average_pool")
    x = leaf(case.normal(3, 5, 4, 3))
    y = x.mean((2, 3))
    dy = case.normal(3, 5)
    y.backward(dy)
    case.put(x=nhwc(x), y=y, dy=dy, dx=nhwc(x.grad))
    for name, start, eps in (("gem_pool", 3.0, 1e-6), ("gem_pool_p1", 1.0, 1e-6), ("gem_pool_clamped", 2.5, 0.2)):
        case = book.case(name)
        x, p = leaf(case.normal(3, 5, 4, 3)), leaf(torch.tensor([start], dtype=torch.float64))
        y = x.clamp(min=eps).pow(p).mean((2, 3)).pow(1 / p)
        dy = case.normal(3, 5)
        y.backward(dy)
        case.put(x=nhwc(x), p=p, y=y, dy=dy, dx=nhwc(x.grad), dp=p.grad, eps=eps)


def pointwise(book):
    case = book.case("relu")
    x = leaf(case.normal(4, 9))
    y = torch.relu(x)
    dy = case.normal(4, 9)
    y.backward(dy)
    case.put(x=x, y=y, dy=dy, dx=x.grad)
    for name, bias in (("linear", True), ("linear_no_bias", False)):
        case = book.case(name)
        x, w, b = leaf(case.normal(5, 6)), leaf(case.normal(4, 6)), leaf(case.normal(4))
        y = F.linear(x, w, b if bias else None)
        dy = case.normal(5, 4)
        y.backward(dy)
        case.put(x=x, w=w, y=y, dy=dy, dx=x.grad, dw=w.grad)
        if bias:
            case.put(bias=b, dbias=b.grad)


def ops(book):
    convolutions(book)
    matmuls(book)
    norms(book)
    pools(book)
    pointwise(book)


def row_loss(case, kind, s, mask, tau, weight, smoothing):
    """The two row losses from their definitions, positive by positive, without the stable forms."""
    total = []
    for i in range(s.shape[0]):
        positive = [u for u in range(s.shape[1]) if mask[i, u] == 1]
        negative = [u for u in range(s.shape[1]) if mask[i, u] == 2]
        logits = s[i] / tau[i]
        loss = s.new_zeros(())
        if kind == "softmax" and positive:
            members = positive + negative
            log_p = logits[members] - logits[members].exp().sum().log()
            target = s.new_full((len(members),), smoothing / len(members))
            target[: len(positive)] += (1 - smoothing) / len(positive)
            loss = -(target * log_p).sum()
        if kind == "one_positive" and positive and negative:
            others = logits[negative].exp().sum()
            loss = sum(-(logits[p].exp() / (logits[p].exp() + others)).log() for p in positive) / len(positive)
        total.append(weight[i] * loss)
    return torch.stack(total)


def rows(book):
    for name, rows_, columns, eps in (("l2_normalize", 5, 7, 1e-12), ("l2_normalize_short", 4, 3, 1.5)):
        case = book.case(name)
        x = leaf(case.normal(rows_, columns))
        y = F.normalize(x, dim=1, eps=eps)
        dy = case.normal(rows_, columns)
        y.backward(dy)
        case.put(x=x, y=y, norm=x.norm(dim=1), dy=dy, dx=x.grad, eps=eps)
    for smoothing in (0.0, 0.1):
        case = book.case(f"cross_entropy_{smoothing:g}")
        x, labels = leaf(case.normal(6, 9, scale=2)), case.integers(0, 9, 6)
        loss = F.cross_entropy(x, labels, label_smoothing=smoothing)
        loss.backward()
        case.put(x=x, labels=labels, y=loss, dx=x.grad, smoothing=smoothing)
    for name, kind, smoothing in (
        ("one_positive_rows", "one_positive", 0.0),
        ("softmax_rows", "softmax", 0.0),
        ("softmax_rows_smooth", "softmax", 0.1),
    ):
        case = book.case(name)
        s, mask = leaf(case.uniform(9, 11, low=-1, high=1)), case.integers(0, 3, 9, 11).to(torch.uint8)
        mask[0] = torch.where(mask[0] == 1, 2, mask[0].int()).to(torch.uint8)  # a row without a positive
        mask[1] = torch.where(mask[1] == 2, 0, mask[1].int()).to(torch.uint8)  # a row without a negative
        mask[2] = 0
        tau, weight = case.uniform(9, low=0.05, high=0.5), case.uniform(9, low=0.1, high=1)
        weight[3] = 0
        loss = row_loss(case, kind, s, mask, tau, weight, smoothing)
        loss.sum().backward()
        case.put(s=s, mask=mask, tau=tau, weight=weight, loss=loss, ds=s.grad, smoothing=smoothing)


def optimizer(book, name, make, schedule, **settings):
    """Two segments with factors of their own and a frozen one between them, over several steps with a moving learning rate."""
    case = book.case(name)
    w = [leaf(case.normal(count)) for count in (5, 3, 4)]
    lr_factors, decay_factors = (1.0, 1.0, 2.0), (1.0, 1.0, 0.0)
    decay = settings.get("weight_decay", 0.0)
    groups = [dict(params=[w[i]], weight_decay=decay * decay_factors[i]) for i in (0, 2)]
    torch_optimizer = make(groups, lr=1.0, **settings)
    case.put(w=torch.cat(w), counts=torch.tensor([5, 3, 4]), steps=len(schedule))
    case.put(lr_factors=torch.tensor(lr_factors, dtype=torch.float64), decay_factors=torch.tensor(decay_factors, dtype=torch.float64))
    for step, lr in enumerate(schedule):
        g = case.normal(12)
        for part, piece in zip(w, g.split((5, 3, 4))):
            part.grad = piece.clone()
        for group, i in zip(torch_optimizer.param_groups, (0, 2)):
            group["lr"] = lr * lr_factors[i]
        torch_optimizer.step()
        case.put(**{f"g{step}": g, f"w{step}": torch.cat(w), f"lr{step}": lr})
    flat = {key: value for key, value in settings.items() if key not in ("betas",)}
    case.put(**flat)
    if "betas" in settings:
        case.put(beta1=settings["betas"][0], beta2=settings["betas"][1])


def optimizers(book):
    schedule = (0.1, 0.05, 0.02, 0.02)
    sgd, adam, adamw = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
    optimizer(book, "sgd", sgd, schedule, momentum=0.0, weight_decay=0.0, nesterov=False)
    optimizer(book, "sgd_momentum", sgd, schedule, momentum=0.9, weight_decay=0.01, nesterov=False)
    optimizer(book, "sgd_nesterov", sgd, schedule, momentum=0.9, weight_decay=0.01, nesterov=True)
    optimizer(book, "adam", adam, schedule, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    optimizer(book, "adam_plain", adam, schedule, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.0)
    optimizer(book, "adamw", adamw, schedule, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
    case = book.case("ema_update")
    average, w = case.normal(13), case.normal(13)
    case.put(average=average, w=w, momentum=0.99, y=average.lerp(w, 1 - 0.99))
