#!/usr/bin/env python3
"""Makes the fixtures of the image and pair-set readers: small images with the pixels that Pillow reads from them, and
pickles as packers of verification sets write them.

Usage: record_fixtures.py [FOLDER]    (default: Tests/Fixtures/data of this checkout; needs Pillow and numpy)
"""
import io
import pathlib
import pickle
import sys

import numpy
from PIL import Image

folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else \
    pathlib.Path(__file__).resolve().parents[2] / "Tests/Fixtures/data"
folder.mkdir(parents=True, exist_ok=True)
random = numpy.random.default_rng(1)


def smooth(width, height, channels):
    y, x = numpy.mgrid[0:height, 0:width]
    waves = [128 + 60 * numpy.sin(0.3 * x + c) + 40 * numpy.cos(0.25 * y - c) for c in range(channels)]
    noisy = numpy.stack(waves, -1) + random.normal(0, 4, (height, width, channels))
    return numpy.clip(noisy, 0, 255).astype(numpy.uint8)


def images():
    colour = Image.fromarray(smooth(19, 14, 3))
    grey = Image.fromarray(smooth(16, 11, 1)[:, :, 0])
    alpha = Image.fromarray(smooth(9, 8, 4), "RGBA")
    colour.save(folder / "colour.jpg", quality=85)
    colour.save(folder / "progressive.jpg", quality=85, progressive=True)
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.quantize(16).save(folder / "palette.png")
    grey.save(folder / "grey.jpg", quality=85)
    grey.save(folder / "grey.png")
    alpha.save(folder / "alpha.png")
    # 16-bit grey whose samples are 257 times 8-bit ones, so that every reader rounds alike.
    deep = numpy.asarray(grey).astype(numpy.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    (folder / "deep.png.rgb").write_bytes(numpy.repeat(numpy.asarray(grey)[:, :, None], 3, 2).tobytes())
    for name in ["colour.jpg", "progressive.jpg", "palette.png", "grey.jpg", "grey.png", "alpha.png"]:
        pixels = Image.open(folder / name).convert("RGB")
        (folder / (name + ".rgb")).write_bytes(pixels.tobytes())


def python2(pairs, same):
    """Protocol 2 as Python 2 writes it: byte strings with BINSTRING and SHORT_BINSTRING, memo entries, groups of 1000."""
    out = io.BytesIO()
    memo = 0

    def put():
        nonlocal memo
        out.write(b"q" + bytes([memo]) if memo < 256 else b"r" + memo.to_bytes(4, "little"))
        memo += 1

    out.write(b"\x80\x02]")
    put()
    out.write(b"(")
    for item in pairs:
        out.write(b"U" + bytes([len(item)]) if len(item) < 256 else b"T" + len(item).to_bytes(4, "little"))
        out.write(item)
        put()
    out.write(b"e]")
    put()
    out.write(b"(" + b"".join(b"\x88" if s else b"\x89" for s in same) + b"e\x86")
    put()
    out.write(b".")
    data = out.getvalue()
    assert pickle.loads(data, encoding="bytes") == (list(pairs), list(same))
    return data


def pickles():
    pairs = []
    for i in range(4):
        buffer = io.BytesIO()
        side = 4 if i < 3 else 14
        Image.fromarray(smooth(side, side, 3)).save(buffer, "PNG")
        pairs.append(buffer.getvalue())
    same = [True, False]
    (folder / "pairs-images.txt").write_text("".join(p.hex() + "\n" for p in pairs))
    (folder / "pairs-python2.bin").write_bytes(python2(pairs, same))
    arrays = [numpy.frombuffer(p, numpy.uint8).copy() for p in pairs]
    flags = [numpy.bool_(s) for s in same]
    for protocol in range(2, 6):
        (folder / f"pairs-bytes-{protocol}.bin").write_bytes(pickle.dumps((pairs, same), protocol))
        (folder / f"pairs-arrays-{protocol}.bin").write_bytes(pickle.dumps((arrays, flags), protocol))
    (folder / "pairs-flags-array.bin").write_bytes(pickle.dumps((pairs, numpy.array(same)), 4))
    # Protocol 1 has no opcodes for truth: I01 and I00.
    ones = b"](" + b"".join(b"U" + bytes([len(p)]) + p for p in pairs[:2]) + b"e](I01\ne" + b"t."
    (folder / "pairs-python2-1.bin").write_bytes(b"(" + ones)
    assert pickle.loads(b"(" + ones, encoding="bytes") == (pairs[:2], [True])


images()
pickles()
