#!/usr/bin/env python3
"""Images per second of PyTorch's DataLoader on a RecordIO file: read, decode, mirror, normalise, stack.

What a trainer's dataset does for one image: read the record, decode the JPEG to RGB, mirror it with probability 1/2, make it
a float tensor of 3 x height x width with values (v/255 - 0.5)/0.5. One JSON line goes to stdout.

Decoders: pillow; torchvision (its decode_jpeg, where it is installed); turbojpeg (the library that Acuity uses, called
through ctypes, which lets other threads run meanwhile, as PyTurboJPEG does).

  peer_loader.py faces.rec --decoder pillow --workers 0 --batch 64 --batches 100
  peer_loader.py --list
"""
import argparse
import ctypes
import ctypes.util
import io
import json
import os
import resource
import statistics
import struct
import sys
import time

DECODERS = ["pillow", "torchvision", "turbojpeg"]


def pillow():
    import numpy
    import torch
    from PIL import Image

    def decode(data):
        with Image.open(io.BytesIO(data)) as image:
            return torch.from_numpy(numpy.array(image.convert("RGB"))).permute(2, 0, 1)
    return decode


def torchvision():
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    def decode(data):
        return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
    return decode


def turbojpeg():
    import torch
    name = ctypes.util.find_library("turbojpeg")
    if not name:
        raise ImportError("libturbojpeg is not installed")
    library = ctypes.CDLL(name)
    library.tjInitDecompress.restype = ctypes.c_void_p
    library.tjDecompressHeader3.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ulong] + 4 * [
        ctypes.POINTER(ctypes.c_int)]
    library.tjDecompress2.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p] + 5 * [ctypes.c_int]
    accurate = 4096
    handle = None

    def decode(data):
        nonlocal handle
        if handle is None:
            handle = library.tjInitDecompress()
        width, height, sampling, colours = (ctypes.c_int() for _ in range(4))
        if library.tjDecompressHeader3(handle, data, len(data), ctypes.byref(width), ctypes.byref(height),
                                       ctypes.byref(sampling), ctypes.byref(colours)):
            raise ValueError("no JPEG header")
        pixels = torch.empty((height.value, width.value, 3), dtype=torch.uint8)
        if library.tjDecompress2(handle, data, len(data), pixels.data_ptr(), width.value, 3 * width.value, height.value,
                                 0, accurate):
            raise ValueError("no sound JPEG")
        return pixels.permute(2, 0, 1)
    return decode


def available():
    found = []
    for name in DECODERS:
        try:
            globals()[name]()
            found.append(name)
        except (ImportError, OSError, AttributeError):
            pass
    return found


def make_dataset(path, decoder):
    import torch

    class Records(torch.utils.data.Dataset):
        """The images of a .rec file: records whose payload has an image behind its header."""

        def __init__(self):
            offsets = []
            with open(os.path.splitext(path)[0] + ".idx", encoding="ascii") as index:
                for line in index:
                    offsets.append(int(line.split("\t")[1]))
            size = os.path.getsize(path)
            following = sorted(offsets) + [size]
            ends = dict(zip(following, following[1:]))
            # Metadata and identity records are 40 bytes long.
            self.records = [(offset, ends[offset] - offset) for offset in offsets if ends[offset] - offset > 40]
            self.file = None
            self.decode = None

        def __len__(self):
            return len(self.records)

        def __getitem__(self, index):
            if self.file is None:
                self.file = os.open(path, os.O_RDONLY)
                self.decode = globals()[decoder]()
            offset, length = self.records[index]
            data = os.pread(self.file, length, offset)
            word, flag, label = struct.unpack_from("<IIf", data, 4)
            start = 8 + 24 + 4 * flag
            if flag:
                label = struct.unpack_from("<f", data, 32)[0]
            image = self.decode(data[start:8 + (word & 0x1FFFFFFF)])
            if torch.rand(()) < 0.5:
                image = image.flip(2)
            return image.to(torch.float32).div_(127.5).sub_(1.0), int(label)

    return Records()


def measure(args):
    import torch
    torch.set_num_threads(1)
    torch.manual_seed(1)
    dataset = make_dataset(args.data, args.decoder)
    options = {"prefetch_factor": 4, "persistent_workers": True} if args.workers else {}
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=args.batch, shuffle=True, drop_last=True, num_workers=args.workers, **options)

    def endless():
        while True:
            yield from loader
    batches = endless()
    for _ in range(4 + 4 * args.workers):
        next(batches)
    rates = []
    groups = min(10, args.batches)
    for group in range(groups):
        count = args.batches * (group + 1) // groups - args.batches * group // groups
        start = time.perf_counter()
        for _ in range(count):
            images, _ = next(batches)
        rates.append(count * args.batch / (time.perf_counter() - start))
    if list(images.shape[1:]) != [3, 112, 112] or images.dtype != torch.float32:
        sys.exit(f"a batch of {images.dtype} {list(images.shape)}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if args.workers:
        # Of the largest one; they are alike.
        batches.close()
        del batches, loader
        peak += args.workers * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({
        "decoder": args.decoder, "workers": args.workers, "batch": args.batch, "torch": torch.__version__,
        "images_per_second_median": statistics.median(rates), "min": min(rates), "max": max(rates),
        "peak_rss_mib": round(peak)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="a .rec file with its .idx beside it")
    parser.add_argument("--decoder", choices=DECODERS, default="pillow")
    parser.add_argument("--workers", type=int, default=0, help="processes of the DataLoader; 0: none beside this one")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=100, help="batches measured, in ten groups")
    parser.add_argument("--list", action="store_true", help="print the decoders that there are")
    args = parser.parse_args()
    if args.list:
        print(*available())
    elif not args.data:
        parser.error("name a .rec file")
    else:
        measure(args)


if __name__ == "__main__":
    main()
