#!/usr/bin/env python3
"""Makes Tests/Fixtures/parity/*.json: what PyTorch computes in float64 for three training steps.

Weights and the batch come from a closed formula (`uniform` below) that the Swift test evaluates too, so only small
numbers are stored: the weights' seed, the losses, and for every gradient tensor of the first step its norm and 16
projections on vectors of random signs. The mean square of the differences of the projections estimates the squared
norm of the difference of two tensors without bias. The same is done in float32, to show PyTorch's own rounding error.

  pytorch_parity.py OUTPUT_FOLDER [NETWORK ...]          (needs torch, numpy)
"""
import json
import math
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

CLASSES, BATCH, EMBEDDING, PROJECTIONS, STREAMS = 50, 8, 512, 16, 2048
SCALE, MARGIN, RATE, MOMENTUM, DECAY = 64.0, 0.5, 0.01, 0.9, 5e-4


def hashed(stream, count):
    """SplitMix64 of (stream << 40) + index: 64 random bits."""
    with np.errstate(over="ignore"):
        z = (np.uint64(stream) << np.uint64(40)) + np.arange(count, dtype=np.uint64)
        z = z * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(stream, count):
    """Uniform in [-1, 1) with 20 bits, exact in float32."""
    return (hashed(stream, count) >> np.uint64(44)).astype(np.float64) / 2.0 ** 19 - 1.0


def signs(stream, count):
    return 1.0 - 2.0 * (hashed(stream, count) >> np.uint64(63)).astype(np.float64)


def batch():
    """Triangle waves whose direction and length differ from image to image, with a quarter of noise: images that a
    batch norm over eight embeddings can tell apart. Exact in float32."""
    i, c, y, x = np.meshgrid(np.arange(BATCH), np.arange(3), np.arange(112), np.arange(112), indexing="ij")
    t = (x * (i + 1) + y * (2 * c + 9 - i) + 37 * i * (c + 1)) % 128
    noise = uniform(901, BATCH * 3 * 112 * 112).reshape(BATCH, 3, 112, 112)
    return 0.75 * (np.abs(t - 64) / 32.0 - 1.0) + 0.25 * noise


# ---------------------------------------------------------------- networks, parameters in state-dict order

class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(cin)
        self.conv1 = nn.Conv2d(cin, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.prelu = nn.PReLU(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        cin = 64
        for i, cout in enumerate((64, 128, 256, 512)):
            setattr(self, f"layer{i + 1}", nn.Sequential(Block(cin, cout, 2), Block(cout, cout, 1)))
            cin = cout
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * 49, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING)
        self.features.weight.requires_grad = False

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


def unit(cin, cout, k, stride=1, pad=0, groups=1, act=True):
    parts = [nn.Conv2d(cin, cout, k, stride, pad, groups=groups, bias=False), nn.BatchNorm2d(cout)]
    return parts + ([nn.PReLU(cout)] if act else [])


class Named(nn.Module):
    """conv, bn and, unless linear, prelu under those names."""

    def __init__(self, *args, **kw):
        super().__init__()
        parts = unit(*args, **kw)
        self.conv, self.bn = parts[:2]
        self.prelu = parts[2] if len(parts) > 2 else None

    def forward(self, x):
        x = self.bn(self.conv(x))
        return x if self.prelu is None else self.prelu(x)


class Bottleneck(nn.Module):
    def __init__(self, cin, cout, stride, expansion):
        super().__init__()
        mid = cin * expansion
        self.conv = nn.Sequential(
            *unit(cin, mid, 1), *unit(mid, mid, 3, stride, 1, mid), *unit(mid, cout, 1, act=False))
        self.residual = stride == 1 and cin == cout

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileFaceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = Named(3, 64, 3, 2, 1)
        self.dw_conv1 = Named(64, 64, 3, 1, 1, groups=64)
        blocks, cin = [], 64
        for t, c, n, s in ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)):
            for i in range(n):
                blocks.append(Bottleneck(cin, c, s if i == 0 else 1, t))
                cin = c
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = Named(128, 512, 1)
        self.linear7 = Named(512, 512, 7, groups=512, act=False)
        self.linear1 = Named(512, EMBEDDING, 1, act=False)

    def forward(self, x):
        x = self.linear7(self.conv2(self.blocks(self.dw_conv1(self.conv1(x)))))
        return torch.flatten(self.linear1(x), 1)


class Layers(nn.Module):
    def __init__(self, layers, residual=False):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.residual = residual

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


def depthwise(cin, cout, mid, stride, residual=False):
    return Layers([Layers(unit(cin, mid, 1)), Layers(unit(mid, mid, 3, stride, 1, mid)),
                   Layers(unit(mid, cout, 1, act=False))], residual)


class MBF(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([
            Layers(unit(3, 128, 3, 2, 1)), Layers(unit(128, 128, 3, 1, 1, 64)),
            depthwise(128, 128, 128, 2), Layers([depthwise(128, 128, 128, 1, True) for _ in range(4)]),
            depthwise(128, 256, 256, 2), Layers([depthwise(256, 256, 256, 1, True) for _ in range(6)]),
            depthwise(256, 256, 512, 2), Layers([depthwise(256, 256, 256, 1, True) for _ in range(2)])])
        self.conv_sep = Layers(unit(256, 512, 1))
        self.features = Layers([Layers(unit(512, 512, 7, groups=512, act=False)), nn.Flatten(),
                                nn.Linear(512, EMBEDDING, bias=False), nn.BatchNorm1d(EMBEDDING)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.features(self.conv_sep(x))


# ------------------------------------------------------------------------------------------------- the formula

def start(role, shape, stream):
    """Every parameter from its place among the parameters (stream) and its role."""
    count = math.prod(shape)
    u = uniform(stream, count)
    if role == "gamma":
        values = 1 + 0.25 * u
    elif role == "beta":
        # Far from 0 on purpose. Where rounding moves an activation across PReLU's kink, its derivative jumps from 1 to
        # the slope; around a mean of 0 a dozen of 2e7 activations do, and each costs fp32 (PyTorch's too) 1e-3 to 4e-3
        # of single small gradients. About three standard deviations off, every channel still has both sides (0.4 % of
        # the activations are on the other one), but so few lie close to the kink that `seed_away_from_kinks` succeeds.
        values = 2.75 * np.where(u < 0, -1.0, 1.0) + 0.5 * u
    elif role == "slope":
        values = 0.25 + 0.125 * u
    elif role == "bias":
        values = 0.0625 * u
    else:
        # A power of two near sqrt(3 / fan-in), so that products are exact in float32.
        values = u * 2.0 ** round(math.log2(math.sqrt(3.0 / math.prod(shape[1:]))))
    return torch.from_numpy(values.reshape(shape))


def roles(net):
    found = {}
    for name, module in net.named_modules():
        for key, p in module.named_parameters(recurse=False):
            full = f"{name}.{key}" if name else key
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                found[full] = "gamma" if key == "weight" else "beta"
            elif isinstance(module, nn.PReLU):
                found[full] = "slope"
            else:
                found[full] = "bias" if key == "bias" else "weight"
    return found


def arcface(embedding, centres, labels):
    cosine = F.linear(F.normalize(embedding), F.normalize(centres))
    rows = torch.arange(len(labels))
    target = cosine[rows, labels]
    with_margin = target * math.cos(MARGIN) - torch.sqrt(1 - target * target) * math.sin(MARGIN)
    with_margin = torch.where(target > math.cos(math.pi - MARGIN), with_margin, target - MARGIN * math.sin(MARGIN))
    logits = SCALE * cosine.index_put((rows, labels), with_margin)
    return F.cross_entropy(logits, labels)


def fill(net, seed, dtype):
    """Sets all trained parameters; returns them with their names."""
    kinds, trained = roles(net), []
    net.to(dtype).train()
    for place, (name, p) in enumerate(net.named_parameters()):
        if name == "features.weight" and isinstance(net, IResNet18):
            continue
        p.data = start(kinds[name], tuple(p.shape), STREAMS * seed + place + 1).to(dtype)
        trained.append((name, p))
    return trained


def kink_distance(net):
    """The least |input| of any PReLU for the batch, in float64."""
    distances = []
    for module in net.modules():
        if isinstance(module, nn.PReLU):
            module.register_forward_pre_hook(lambda _, x: distances.append(float(x[0].abs().min())))
    with torch.no_grad():
        net(torch.from_numpy(batch()))
    return min(distances)


def seed_away_from_kinks(make):
    """The first seed for which every activation is ten times its rounding error in float32 away from the kink."""
    for seed in range(1, 1000):
        net = make()
        fill(net, seed, torch.float64)
        distance = kink_distance(net)
        if distance > 1e-5:
            return seed, distance
    raise SystemExit("no seed keeps away from the kinks")


def run(net, seed, dtype):
    trained = fill(net, seed, dtype)
    centres = torch.from_numpy(uniform(900, CLASSES * EMBEDDING).reshape(CLASSES, EMBEDDING) / 64).to(dtype)
    centres.requires_grad_(True)
    images = torch.from_numpy(batch()).to(dtype)
    labels = torch.tensor([(7 * i + 3) % CLASSES for i in range(BATCH)])
    trained.append(("centres", centres))
    optimizer = torch.optim.SGD([p for _, p in trained], lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    losses, gradients = [], None
    for _ in range(3):
        optimizer.zero_grad()
        loss = arcface(net(images), centres, labels)
        loss.backward()
        losses.append(float(loss.detach()))
        if gradients is None:
            gradients = {name: p.grad.detach().double().numpy().copy().ravel() for name, p in trained}
        optimizer.step()
    return losses, gradients


def main():
    folder = sys.argv[1]
    for label, make in (("iresnet18", IResNet18), ("mobilefacenet", MobileFaceNet), ("mbf", MBF)):
        if sys.argv[2:] and label not in sys.argv[2:]:
            continue
        seed, distance = seed_away_from_kinks(make)
        print(label, "seed", seed, "kink distance %.1e" % distance, flush=True)
        losses, gradients = run(make(), seed, torch.float64)
        losses32, gradients32 = run(make(), seed, torch.float32)
        total = math.sqrt(sum(float(g @ g) for g in gradients.values()))
        tensors, worst = [], 0.0
        for stream, (name, g) in enumerate(gradients.items()):
            norm = float(np.linalg.norm(g))
            error = float(np.linalg.norm(gradients32[name] - g)) / norm
            tensors.append({"name": name, "norm": norm, "fp32_relative_error": error, "projections": [
                float(g @ signs(1000 + 16 * stream + j, g.size)) for j in range(PROJECTIONS)]})
            if norm >= 1e-7 * total:
                worst = max(worst, error)
        result = {"torch": torch.__version__, "seed": seed, "kink_distance": distance, "losses": losses,
                  "global_norm": total, "fp32_losses": losses32,
                  "fp32_worst_relative_error": worst, "tensors": tensors}
        with open(f"{folder}/{label}.json", "w") as f:
            json.dump(result, f, separators=(",", ":"))
        print(label, "losses", losses, "fp32", losses32, "worst fp32 gradient error %.2e" % worst, flush=True)


if __name__ == "__main__":
    main()
