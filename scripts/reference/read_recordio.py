#!/usr/bin/env python3
"""Reads and writes MXNet RecordIO files of faces, after the format's description alone: it shares nothing with Acuity.

usage: read_recordio.py list PREFIX                     a line per record: key, offset, parts, labels, id, id2, bytes and
                                                        SHA-256 of the image; separated by tabs, in the order of the keys
       read_recordio.py check PREFIX                    holds metadata, identity records and index against the images
       read_recordio.py write LIST PREFIX LAYOUT        packs the images of LIST (path<TAB>label); LAYOUT is insightface
                                                        or im2rec

The file is a row of parts: a magic number, a word with the part's kind in its upper 3 bits and its length in the lower
29, the bytes, zeros up to a multiple of 4; all little-endian. A record is one part of kind 0, or parts of kinds 1, 2, …,
2, 3, between which the magic number stood at a multiple of 4. A record of an image begins with flag (u32), label (f32),
id (u64) and id2 (u64); flag labels (f32) follow where flag is not 0; the rest is the image. PREFIX.idx has lines of
key<TAB>offset.
"""
import hashlib
import pathlib
import struct
import sys

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)


def read_record(data, offset):
    """The payload at an offset, the number of its parts, and where the next record begins."""
    payload, parts = b"", 0
    while True:
        magic, word = struct.unpack_from("<II", data, offset)
        if magic != MAGIC:
            raise ValueError(f"byte {offset}: magic number {magic:#x}")
        kind, length = word >> 29, word & 0x1FFFFFFF
        if (parts == 0) != (kind in (0, 1)):
            raise ValueError(f"byte {offset}: a part of kind {kind} as number {parts} of a record")
        if parts:
            payload += MAGIC_BYTES
        piece = data[offset + 8:offset + 8 + length]
        if len(piece) != length:
            raise ValueError(f"byte {offset}: {length} bytes announced, {len(piece)} there")
        if any(piece[i:i + 4] == MAGIC_BYTES for i in range(0, length - 3, 4)):
            raise ValueError(f"byte {offset}: the magic number inside a part")
        payload += piece
        parts += 1
        padding = -length % 4
        if data[offset + 8 + length:offset + 8 + length + padding] != bytes(padding):
            raise ValueError(f"byte {offset}: padding that is not zero")
        offset += 8 + length + padding
        if kind in (0, 3):
            return payload, parts, offset


def frame(payload):
    """A record as it is stored."""
    cuts = [i for i in range(0, len(payload) - 3, 4) if payload[i:i + 4] == MAGIC_BYTES]
    starts = [0] + [cut + 4 for cut in cuts]
    pieces = [payload[a:b] for a, b in zip(starts, cuts + [len(payload)])]
    stored = b""
    for number, piece in enumerate(pieces):
        kind = 0 if len(pieces) == 1 else 1 if number == 0 else 3 if number == len(pieces) - 1 else 2
        stored += struct.pack("<II", MAGIC, kind << 29 | len(piece)) + piece + bytes(-len(piece) % 4)
    return stored


class Record:
    def __init__(self, key, offset, payload, parts):
        self.key, self.offset, self.parts = key, offset, parts
        flag, label, self.id, self.id2 = struct.unpack_from("<IfQQ", payload)
        self.labels = struct.unpack_from(f"<{flag}f", payload, 24) if flag else (label,)
        self.is_vector = flag > 0
        self.image = payload[24 + 4 * flag:]


def read(prefix):
    """All records by key; the file must hold nothing else than what the index names."""
    data = pathlib.Path(prefix + ".rec").read_bytes()
    records, ends = {}, set()
    for line in pathlib.Path(prefix + ".idx").read_text(encoding="ascii").splitlines():
        key, offset = (int(field) for field in line.split("\t"))
        payload, parts, end = read_record(data, offset)
        if key in records:
            raise ValueError(f"key {key} twice")
        records[key] = Record(key, offset, payload, parts)
        ends.add(end)
    starts = {record.offset for record in records.values()}
    if starts != ends - {len(data)} | {0} or len(data) not in ends:
        raise ValueError("the index does not cover the file")
    return dict(sorted(records.items()))


def images(records):
    """The image records by key, and whether the file has insightface's layout."""
    if records[0].is_vector and not records[0].image:
        return {key: record for key, record in records.items() if 1 <= key < int(records[0].labels[0])}, True
    return records, False


def check(prefix):
    records = read(prefix)
    faces, has_identities = images(records)
    if has_identities:
        first, end = (int(label) for label in records[0].labels)
        if sorted(records) != list(range(end)):
            raise ValueError(f"keys other than 0..<{end}")
        expected = 1
        for number, key in enumerate(range(first, end)):
            low, high = records[key].labels
            if records[key].image or low != expected or high <= low:
                raise ValueError(f"identity {key}: [{low}, {high}) where {expected} begins")
            if {faces[image].labels[0] for image in range(int(low), int(high))} != {number}:
                raise ValueError(f"identity {key}: labels other than {number}")
            expected = int(high)
        if expected != first:
            raise ValueError(f"identities end at {expected}, images at {first}")
    classes = {int(record.labels[0]) for record in faces.values()}
    if classes != set(range(len(classes))):
        raise ValueError("labels with gaps")
    for key, record in records.items():
        if record.id != key or record.id2 != 0:
            raise ValueError(f"key {key}: id {record.id}, id2 {record.id2}")
    return len(faces), len(classes), sum(record.parts > 1 for record in records.values())


def write(entries, prefix, layout):
    """Packs (path, label) pairs; labels must be 0, 1, …"""
    output, index = bytearray(), []

    def append(key, flag, label, labels, image):
        index.append(f"{key}\t{len(output)}\n")
        payload = struct.pack("<IfQQ", flag, label, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + image
        output.extend(frame(payload))

    if layout == "im2rec":
        for key, (path, label) in enumerate(entries):
            append(key, 0, label, (), pathlib.Path(path).read_bytes())
    else:
        entries = sorted(entries, key=lambda entry: entry[1])
        for key, (path, label) in enumerate(entries, 1):
            append(key, 2, 0, (label, 1), pathlib.Path(path).read_bytes())
        first, classes = len(entries) + 1, entries[-1][1] + 1
        append(0, 2, 0, (first, first + classes), b"")
        for label in range(classes):
            keys = [key for key, entry in enumerate(entries, 1) if entry[1] == label]
            append(first + label, 2, 0, (keys[0], keys[-1] + 1), b"")
    pathlib.Path(prefix + ".rec").write_bytes(output)
    pathlib.Path(prefix + ".idx").write_text("".join(index), encoding="ascii")


def main():
    command, arguments = sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]
    if command == "list" and len(arguments) == 1:
        for key, record in read(arguments[0]).items():
            labels = ",".join(f"{label:g}" for label in record.labels)
            digest = hashlib.sha256(record.image).hexdigest()
            print(key, record.offset, record.parts, labels, record.id, record.id2, len(record.image), digest, sep="\t")
    elif command == "check" and len(arguments) == 1:
        print("{} images of {} identities, {} records of several parts".format(*check(arguments[0])))
    elif command == "write" and len(arguments) == 3 and arguments[2] in ("insightface", "im2rec"):
        lines = pathlib.Path(arguments[0]).read_text(encoding="utf-8").splitlines()
        entries = [line.split("\t") for line in lines if line]
        write([(path, int(label)) for path, label in entries], arguments[1], arguments[2])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
