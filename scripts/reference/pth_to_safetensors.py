#!/usr/bin/env python3
"""Converts a PyTorch state dict (.pth, .pt, .ckpt) to safetensors.

Acuity reads no pickles: unpickling can run code of the file's author. This script loads with `weights_only=True`,
which admits tensors and plain containers only, and refuses anything else. Run it with an up-to-date PyTorch (holes in
weights_only were closed in 2.6 and 2.10), and only on files that you trust.

The state dict may lie at the top of the file or under a key (state_dict, model, ...); prefixes that wrappers put
before every name (module., backbone., ...) are taken off where they cover all names.

    pth_to_safetensors.py backbone.pth backbone.safetensors \\
        --metadata acuity.network=iresnet50 --metadata acuity.input=3x112x112
"""

import argparse
import pickle
import sys

import torch
from safetensors.torch import save_file

KEYS = ["state_dict", "net_state_dict", "model_state_dict", "model", "net", "backbone", "ema"]
PREFIXES = ["module.", "backbone.", "model.", "_orig_mod."]


def is_state_dict(value):
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(k, str) for k in value)
        and any(isinstance(v, torch.Tensor) for v in value.values())
    )


def find_state_dict(loaded, key):
    """The state dict and the keys that lead to it."""
    if key is not None:
        for part in key.split("/"):
            if not isinstance(loaded, dict) or part not in loaded:
                sys.exit(f"no key {part!r}; there are: {describe(loaded)}")
            loaded = loaded[part]
        if not is_state_dict(loaded):
            sys.exit(f"{key!r} holds no tensors; there are: {describe(loaded)}")
        return loaded, key
    path = []
    while not is_state_dict(loaded):
        found = [k for k in KEYS if isinstance(loaded, dict) and isinstance(loaded.get(k), dict)]
        if len(found) != 1 or len(path) > 3:
            sys.exit(f"no single state dict found; name it with --key; there are: {describe(loaded)}")
        path.append(found[0])
        loaded = loaded[found[0]]
    return loaded, "/".join(path)


def describe(value):
    if not isinstance(value, dict):
        return type(value).__name__
    return ", ".join(f"{k!r} ({type(v).__name__})" for k, v in value.items()) or "nothing"


def strip_prefixes(state, prefixes):
    """Takes off, again and again, every prefix that all names share."""
    stripped = []
    while True:
        common = [p for p in prefixes if all(name.startswith(p) and len(name) > len(p) for name in state)]
        if not common:
            return state, stripped
        state = {name[len(common[0]) :]: value for name, value in state.items()}
        stripped.append(common[0])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help=".pth, .pt or .ckpt file")
    parser.add_argument("target", help=".safetensors file to write")
    parser.add_argument("--key", help="where the state dict lies, keys joined by '/', instead of looking for it")
    parser.add_argument(
        "--select", metavar="PREFIX", help="take only the names that start with PREFIX, and take it off")
    parser.add_argument(
        "--strip", metavar="PREFIX", action="append", default=[], help="another prefix to take off; may be repeated")
    parser.add_argument("--keep-prefixes", action="store_true", help="leave all names as they are")
    parser.add_argument("--float32", action="store_true", help="convert floating-point tensors to float32")
    parser.add_argument(
        "--metadata", metavar="KEY=VALUE", action="append", default=[], help="text to store; may be repeated")
    arguments = parser.parse_args()

    metadata = {"format": "pt"}
    for pair in arguments.metadata:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            parser.error(f"--metadata {pair!r} is not KEY=VALUE")
        metadata[name] = value

    try:
        loaded = torch.load(arguments.source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        sys.exit(f"{arguments.source}: refused, it holds more than tensors and plain containers: {error}")
    state, path = find_state_dict(loaded, arguments.key)
    if path:
        print(f"state dict under {path!r}", file=sys.stderr)
    skipped = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    for name in skipped:
        print(f"not a tensor, left out: {name!r} ({type(state[name]).__name__})", file=sys.stderr)
    state = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if arguments.select:
        prefix = arguments.select
        state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
        if not state:
            sys.exit(f"no name starts with {prefix!r}")
    if not arguments.keep_prefixes:
        state, stripped = strip_prefixes(state, PREFIXES + arguments.strip)
        if stripped:
            print(f"taken off all names: {', '.join(stripped)}", file=sys.stderr)

    tensors = {}
    for name, value in state.items():
        if arguments.float32 and value.is_floating_point():
            value = value.float()
        # Tensors that share memory (tied weights, slices) become copies: the format knows no sharing.
        tensors[name] = value.detach().clone().contiguous()
    save_file(tensors, arguments.target, metadata=metadata)
    elements = sum(value.numel() for value in tensors.values())
    print(f"{arguments.target}: {len(tensors)} tensors, {elements} elements", file=sys.stderr)


if __name__ == "__main__":
    main()
