#!/usr/bin/env python3
"""Makes the fixtures of the image operators: what Pillow's resize, enhancements and JPEG round trip and a Gaussian blur in
double precision give for small images.

A line of resample.txt: operator, parameters, input width, height and bytes, output width, height and bytes (hex).

Usage: resample_fixtures.py [FOLDER]    (default: Tests/Fixtures/data of this checkout; needs Pillow and numpy)
"""
import io
import pathlib
import sys

import numpy
from PIL import Image, ImageEnhance

folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else \
    pathlib.Path(__file__).resolve().parents[2] / "Tests/Fixtures/data"
folder.mkdir(parents=True, exist_ok=True)
random = numpy.random.default_rng(7)

KERNELS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


def noise(width, height):
    """Saturated noise: overshoot beyond 0 and 255 must be clipped as Pillow does."""
    return random.choice([0, 30, 128, 220, 255], (height, width, 3)).astype(numpy.uint8)


def blur(image, sigma):
    radius = int(numpy.ceil(4 * sigma))
    x = numpy.arange(-radius, radius + 1)
    kernel = numpy.exp(-x * x / (2 * sigma * sigma))
    kernel /= kernel.sum()
    padded = numpy.pad(image.astype(float), ((radius, radius), (radius, radius), (0, 0)), "edge")
    rows = sum(k * padded[:, i:i + image.shape[1]] for i, k in enumerate(kernel))
    both = sum(k * rows[i:i + image.shape[0]] for i, k in enumerate(kernel))
    return numpy.clip(numpy.rint(both), 0, 255).astype(numpy.uint8)


lines = []


def case(operator, parameter, source, result):
    lines.append(" ".join([
        operator, str(parameter), str(source.shape[1]), str(source.shape[0]), source.tobytes().hex(),
        str(result.shape[1]), str(result.shape[0]), numpy.ascontiguousarray(result).tobytes().hex()]))


for name, kernel in KERNELS.items():
    for (w, h), (tw, th) in [((17, 13), (5, 4)), ((5, 4), (17, 13)), ((16, 16), (8, 8)), ((12, 9), (12, 5)),
                             ((9, 12), (20, 12)), ((11, 7), (3, 15)), ((6, 6), (1, 1)), ((1, 1), (3, 2))]:
        source = noise(w, h)
        resized = Image.fromarray(source).resize((tw, th), kernel)
        case("resize", name, source, numpy.asarray(resized))
for side in [4, 7]:
    source = noise(14, 14)
    small = Image.fromarray(source).resize((side, side), Image.Resampling.BOX)
    case("reduce", side, source, numpy.asarray(small.resize((14, 14), Image.Resampling.BICUBIC)))
for sigma in [0.6, 1.7, 3.0]:
    source = noise(15, 11)
    case("blur", sigma, source, blur(source, sigma))
for quality in [5, 30, 90]:
    y, x = numpy.mgrid[0:18, 0:22]
    source = numpy.stack([128 + 90 * numpy.sin(0.4 * x + c) * numpy.cos(0.3 * y) for c in range(3)], -1)
    source = source.astype(numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(source).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    case("jpeg", quality, source, numpy.asarray(Image.open(buffer)))
source = numpy.arange(256 * 3, dtype=numpy.int64).reshape(16, 16, 3).astype(numpy.uint8)
for exponent in [0.4, 2.2]:
    case("gamma", exponent, source, numpy.rint(255 * (source / 255.0) ** exponent).astype(numpy.uint8))
more = dict(KERNELS, hamming=Image.Resampling.HAMMING, nearest=Image.Resampling.NEAREST)
for name, kernel in more.items():
    sizes = [((28, 23), (9, 5)), ((9, 5), (28, 23))]
    if name not in KERNELS:
        sizes += [((17, 13), (5, 4)), ((5, 4), (17, 13)), ((16, 16), (8, 8)), ((12, 9), (12, 5)),
                  ((9, 12), (20, 12)), ((11, 7), (3, 15)), ((6, 6), (1, 1)), ((1, 1), (3, 2))]
    for (w, h), (tw, th) in sizes:
        source = noise(w, h)
        case("resize", name, source, numpy.asarray(Image.fromarray(source).resize((tw, th), kernel)))
for name, enhance in [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast),
                      ("saturation", ImageEnhance.Color)]:
    for factor in [0.0, 0.55, 1.4]:
        source = random.integers(0, 256, (9, 11, 3)).astype(numpy.uint8)
        case(name, factor, source, numpy.asarray(enhance(Image.fromarray(source)).enhance(factor)))
source = random.integers(0, 256, (13, 12, 3)).astype(numpy.uint8)
case("grey", 0, source, numpy.repeat(numpy.asarray(Image.fromarray(source).convert("L"))[:, :, None], 3, 2))
(folder / "resample.txt").write_text("\n".join(lines) + "\n")
