"""Goldens of whole networks and of a short training run, both wholly in float64: see golden.py.

The networks are torchvision's and IBN-Net's with a base width of 4 in place of 64: the same names, depth and strides, and small
enough to commit every gradient. Initial parameters are float32 numbers, stored as such and widened for the computation.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

import golden_losses
from golden import generator, nhwc

WIDTH = 4


class Ibn(nn.Module):
    """Instance norm for the first half of the channels, batch norm for the others (Pan et al., ECCV 2018)."""

    def __init__(self, channels):
        super().__init__()
        self.half = channels // 2
        self.IN = nn.InstanceNorm2d(self.half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.half)

    def forward(self, x):
        return torch.cat((self.IN(x[:, : self.half]), self.BN(x[:, self.half :])), 1)


def conv(c, k, size, stride=1):
    return nn.Conv2d(c, k, size, stride, size // 2, bias=False)


class Block(nn.Module):
    def __init__(self, bottleneck, c, planes, stride, ibn, in_after):
        super().__init__()
        k = planes * (4 if bottleneck else 1)
        first = Ibn(planes) if ibn else nn.BatchNorm2d(planes)
        if bottleneck:
            convs = [conv(c, planes, 1), conv(planes, planes, 3, stride), conv(planes, k, 1)]
        else:
            convs = [conv(c, planes, 3, stride), conv(planes, k, 3)]
        self.count = len(convs)
        for i, layer in enumerate(convs, 1):
            setattr(self, f"conv{i}", layer)
            setattr(self, f"bn{i}", first if i == 1 else nn.BatchNorm2d(layer.out_channels))
        self.downsample = nn.Sequential(conv(c, k, 1, stride), nn.BatchNorm2d(k)) if stride != 1 or c != k else None
        if in_after:
            self.IN = nn.InstanceNorm2d(k, affine=True)
        self.in_after = in_after

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.count else y
        y = y + (x if self.downsample is None else self.downsample(x))
        return torch.relu(self.IN(y) if self.in_after else y)


class ResNet(nn.Module):
    """Returns the map after layer4 and its average."""

    def __init__(self, bottleneck, depths, last_stride, ibn="", width=WIDTH):
        super().__init__()
        self.conv1 = conv(3, width, 7, 2)
        # IBN-b: instance norm in the stem and after the residual sum of the last block of the first two stages.
        self.bn1 = nn.InstanceNorm2d(width, affine=True) if ibn == "b" else nn.BatchNorm2d(width)
        c = width
        for stage, depth in enumerate(depths):
            blocks, planes = [], width << stage
            for i in range(depth):
                stride = (1, 2, 2, last_stride)[stage] if i == 0 else 1
                after = ibn == "b" and stage < 2 and i == depth - 1
                blocks.append(Block(bottleneck, c, planes, stride, ibn == "a" and stage < 3, after))
                c = planes * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.channels = c

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x, x.mean((2, 3))


class Embedder(nn.Module):
    """Backbone, average pooling, batch-norm neck with a bias that stays zero."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.neck = nn.BatchNorm1d(backbone.channels)
        self.neck.bias.requires_grad_(False)

    def forward(self, x):
        feature_map, pooled = self.backbone(x)
        return feature_map, pooled, self.neck(pooled)


def initialize(model, name):
    """Float32 numbers: convolutions as in He et al. (fan out), norms near one and off zero, so that no gradient is trivially zero."""
    random = generator(name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
            if parameter.dim() == 4:
                draw *= (2 / (parameter.shape[0] * parameter.shape[2] * parameter.shape[3])) ** 0.5
            elif key.endswith("weight"):
                draw = 1 + 0.2 * draw
            elif parameter.requires_grad:
                draw = 0.1 * draw
            else:
                draw.zero_()
            parameter.copy_(draw.float().double())


def images(random, n, height, width):
    return torch.randint(0, 256, (n, 3, height, width), generator=random, dtype=torch.uint8)


def scaled(pixels):
    return pixels.double() / 127.5 - 1


def named(model, prefix):
    return [(f"{prefix}/{key}", parameter.detach()) for key, parameter in model.named_parameters()]


def put_parameters(case, prefix, model, as_float=False):
    case.put(**{key: parameter.float() if as_float else parameter for key, parameter in named(model, prefix)})


def put_buffers(case, prefix, model):
    for key, buffer in model.named_buffers():
        if not key.endswith("num_batches_tracked"):
            case.put(**{f"{prefix}/{key}": buffer})


def network(book, name, gradients="also", **settings):
    """gradients: "also" in the same file, "only" them, or "elsewhere", so that no committed file outgrows a megabyte."""
    case = book.case(name)
    model = Embedder(ResNet(**settings)).double().train()
    initialize(model, name)
    parameters = {key: parameter.float().clone() for key, parameter in named(model, "parameter")}
    pixels = images(case.random, 4, 64, 32)
    feature_map, pooled, features = model(scaled(pixels))
    dy = case.normal(*features.shape)
    features.backward(dy)
    if gradients != "elsewhere":
        case.put(**{f"gradient/{key}": parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad})
    if gradients == "only":
        return
    case.put(pixels=nhwc(pixels), map=nhwc(feature_map), pooled=pooled, features=features, dy=dy, last_stride=settings["last_stride"])
    case.put(**parameters)
    put_buffers(case, "buffer", model)
    model.eval()  # the running statistics as they are after one update
    case.put(eval_features=model(scaled(pixels))[2])


def check_against_torchvision():
    """At full width the plain networks must be torchvision's: same names, same numbers."""
    import torchvision

    for ours, theirs in (
        (ResNet(False, (2, 2, 2, 2), 2, width=64), torchvision.models.resnet18(weights=None)),
        (ResNet(True, (3, 4, 6, 3), 2, width=64), torchvision.models.resnet50(weights=None)),
    ):
        state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
        ours.load_state_dict(state)  # strict
        theirs.fc = nn.Identity()
        x = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            assert torch.equal(ours.train()(x)[1], theirs.train()(x))


IBN_A = dict(bottleneck=True, depths=(3, 4, 6, 3), last_stride=1, ibn="a")


def resnet18(book):
    check_against_torchvision()
    network(book, "resnet18", bottleneck=False, depths=(2, 2, 2, 2), last_stride=2)


def resnet18_ibn_b(book):
    network(book, "resnet18_ibn_b", bottleneck=False, depths=(2, 2, 2, 2), last_stride=1, ibn="b")


def resnet50_ibn_a(book):
    network(book, "resnet50_ibn_a", gradients="elsewhere", **IBN_A)


def resnet50_ibn_a_gradients(book):
    network(book, "resnet50_ibn_a", gradients="only", **IBN_A)


# --- ten steps of training ---

STEPS, BATCHES = 10, 2
TEMPERATURES = dict(tau_ins_multi=0.1, tau_ins_single=0.2, tau_aug=0.1, tau_cen_multi=0.5, tau_cen_single=0.6, tau_cc=0.07)
RECIPE = dict(lr=0.01, decay=5e-4, ema=0.9, lambda_cc=0.5, **TEMPERATURES)


def warm_up(step):
    """Linear from a tenth of the rate to all of it over ten steps."""
    return RECIPE["lr"] * (0.1 * (1 - step / 10) + step / 10)


def trajectory(book):
    case = book.case("trajectory")
    student = Embedder(ResNet(False, (2, 2, 2, 2), 1)).double().train()
    initialize(student, "trajectory")
    put_parameters(case, "initial", student, as_float=True)
    teacher = copy.deepcopy(student)
    labels, kinds, cameras = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], [0] * 8 + [1] * 4, [0, 1, 0, 2, 1, 2, 0, 1]
    people, views = 7, [(k, c) for k in range(4) for c in range(3)]
    table = golden_losses.unit(case, people, student.backbone.channels)
    view_table = golden_losses.unit(case, len(views), student.backbone.channels)
    case.put(labels=torch.tensor(labels), single=torch.tensor(kinds, dtype=torch.uint8), cameras=torch.tensor(cameras), centroids=table)
    case.put(centroid_single=torch.tensor([0] * 4 + [1] * 3, dtype=torch.uint8), multi_count=4)
    case.put(camera_centroids=view_table, steps=STEPS, batches=BATCHES)
    case.put(centroid_labels=torch.tensor([k for k, _ in views]), centroid_cameras=torch.tensor([c for _, c in views]), hardest=5, **RECIPE)
    batches = [(images(case.random, 12, 32, 16), images(case.random, 12, 32, 16)) for _ in range(BATCHES)]
    case.put(augmented=nhwc(torch.cat([a for a, _ in batches])), original=nhwc(torch.cat([o for _, o in batches])))
    trained = [p for p in student.parameters() if p.requires_grad]
    adam, record = torch.optim.Adam(trained, lr=1.0, weight_decay=RECIPE["decay"]), []
    for step in range(STEPS):
        augmented, original = batches[step % BATCHES]
        f = F.normalize(student(scaled(augmented))[2], dim=1)
        with torch.no_grad():
            m = F.normalize(teacher(scaled(original))[2], dim=1)
        losses = all_losses(f, m, table, view_table, views, labels, kinds, cameras)
        adam.zero_grad()
        sum(losses).backward()
        adam.param_groups[0]["lr"] = warm_up(step)
        adam.step()
        with torch.no_grad():  # parameters only: the teacher's buffers come from its own forwards
            for average, w in zip(teacher.parameters(), student.parameters()):
                average.copy_(RECIPE["ema"] * average + (1 - RECIPE["ema"]) * w)
        record.append(torch.stack([loss.detach() for loss in losses]))
    case.put(losses=torch.stack(record), lrs=torch.tensor([warm_up(step) for step in range(STEPS)], dtype=torch.float64))
    put_parameters(case, "student", student)
    put_parameters(case, "teacher", teacher)
    put_buffers(case, "student_buffer", student)
    put_buffers(case, "teacher_buffer", teacher)


def all_losses(f, m, table, view_table, views, labels, kinds, cameras):
    r, n = RECIPE, len(cameras)
    return [
        golden_losses.instance_loss(f, m, labels, kinds, (r["tau_ins_multi"], r["tau_ins_single"])),
        golden_losses.augmentation_loss(f, m, labels, kinds, r["tau_aug"]),
        golden_losses.centroid_loss(f, table, [0] * 4 + [1] * 3, labels, kinds, (r["tau_cen_multi"], r["tau_cen_single"])),
        r["lambda_cc"]
        * golden_losses.camera_centroid_loss(
            f[:n], view_table, [k for k, _ in views], [c for _, c in views], labels[:n], cameras, r["tau_cc"], hardest=5
        ),
    ]
