internal import Tensors

/// What is kept of each record of a file: enough to hold labels, ranges and index against one another.
struct VerifiedRecord: Sendable {
    let offset: UInt64
    let id: UInt64
    /// The first two labels; the second is 0 where there is one.
    let labels: (Float, Float)
    let flag: UInt32
    let hasImage: Bool
    /// Whether the payload begins as an image record's does.
    let isSound: Bool

    init(_ found: RecordScanner.Found) {
        offset = found.offset
        switch found.header {
        case .success(let header):
            (id, labels, flag, hasImage, isSound) = (header.id, header.labels, header.flag, header.hasImage, true)
        case .failure:
            (id, labels, flag, hasImage, isSound) = (0, (0, 0), 0, false, false)
        }
    }
}

extension DatasetVerification {
    /// Everything about the RecordIO file at `location`.
    mutating func checkRecords(threads: Int, _ progress: (Progress) -> Void) throws(FaceDataError) {
        let scanner = try RecordScanner(location)
        guard scanner.file.size > 0 else {
            throw FaceDataError(.malformed, file: location, "empty", advice: "the file is truncated: copy it again")
        }
        var (found, gaps) = try scan(scanner, 0..<scanner.file.size, progress)
        guard !found.isEmpty else {
            throw FaceDataError(
                .malformed, file: location, "holds no record at all", advice: "this is not a RecordIO file")
        }
        let index = try indexKeys(scanner.file.size)
        let overruns = try decode(scanner, found, index, threads: threads, progress)
        // A length that runs over other records hides them: they are looked for where it was followed.
        for overrun in overrunRanges(overruns, found, fileEnd: scanner.file.size) {
            let (hidden, more) = try scan(scanner, overrun, { _ in })
            _ = try decode(scanner, hidden, index, threads: threads, { _ in })
            found += hidden
            gaps.removeAll { overrun.contains($0.range.lowerBound) }
            gaps += more
        }
        if !overruns.isEmpty { found.sort { $0.offset < $1.offset } }
        for gap in gaps.sorted(by: { $0.range.lowerBound < $1.range.lowerBound }) { try add(issue(gap, scanner)) }
        records = found.count
        let keyed = try keys(of: found, index)
        if let zero = keyed.first, zero.key == 0, found[zero.record].flag >= 2, !found[zero.record].hasImage {
            layout = .insightface
            try checkIdentities(found, keyed)
        } else {
            layout = .im2rec
            try checkPlainLabels(found, keyed)
        }
        try checkProperty()
    }

    private func scan(
        _ scanner: RecordScanner, _ range: Range<UInt64>, _ progress: (Progress) -> Void
    ) throws(FaceDataError) -> ([VerifiedRecord], [RecordScanner.Gap]) {
        var found: [VerifiedRecord] = []
        var gaps: [RecordScanner.Gap] = []
        let total = Int((range.upperBound - range.lowerBound) >> 20)
        try scanner.walk(range) { record in
            found.append(VerifiedRecord(record))
            progress(Progress(what: "scanning, MiB", done: Int((record.end - range.lowerBound) >> 20), total: total))
        } lost: {
            gaps.append($0)
        }
        return (found, gaps)
    }

    private func issue(_ gap: RecordScanner.Gap, _ scanner: RecordScanner) -> Issue {
        let count = gap.range.upperBound - gap.range.lowerBound
        if gap.range.upperBound == scanner.file.size, gap.reason.hasPrefix("no record begins") || count < 8 {
            return Issue(.trailing, at: gap.range.lowerBound, "\(count) bytes after the last record")
        }
        return Issue(.record, at: gap.range.lowerBound, "\(count) bytes cannot be read: \(gap.reason)")
    }

    // MARK: - Images

    private struct Checked: Sendable {
        var reason: String?
        var isImage = false
        var overrun: UInt64?
        var failure: FaceDataError?
    }

    /// Decodes every image.
    ///
    /// - Returns: of records whose length runs over another one: their place in `found`, and where that one begins.
    private mutating func decode(
        _ scanner: RecordScanner, _ found: [VerifiedRecord], _ index: RecordKeys?, threads: Int,
        _ progress: (Progress) -> Void
    ) throws(FaceDataError) -> [(record: Int, inner: UInt64)] {
        var overruns: [(record: Int, inner: UInt64)] = []
        try OrderedWork.run(0..<found.count, threads: threads) { place in
            (Self.check(scanner, found[place]), 0)
        } take: { place, checked throws(FaceDataError) in
            if let failure = checked.failure { throw failure }
            if let inner = checked.overrun { overruns.append((place, inner)) }
            if let reason = checked.reason {
                let offset = found[place].offset
                try add(Issue(.image, key: index?.key(at: offset) ?? found[place].id, at: offset, reason))
            } else if checked.isImage {
                images += 1
            }
            progress(Progress(what: "decoding", done: place + 1, total: found.count))
        }
        return overruns
    }

    private static func check(_ scanner: RecordScanner, _ record: VerifiedRecord) -> Checked {
        var checked = Checked()
        do throws(FaceDataError) {
            switch try scanner.payload(at: record.offset) {
            case .failure(let damage): checked.reason = damage.reason
            case .success(let payload):
                checked.overrun = payload.overrun
                if let overrun = payload.overrun {
                    checked.reason = "its length runs over the record at byte \(overrun)"
                    return checked
                }
                switch RecordScanner.header(of: payload.bytes, length: payload.bytes.count) {
                case .failure(let damage): checked.reason = "not an image record: \(damage.reason)"
                case .success(let header):
                    guard header.hasImage else { return checked }
                    let start = ImageRecord.headerBytes + 4 * Int(header.flag)
                    do throws(ImageError) {
                        _ = try ImageCodec.decode(Array(payload.bytes[start...]))
                        checked.isImage = true
                    } catch {
                        checked.reason = "not a readable image: \(error.description)"
                    }
                }
            }
        } catch {
            checked.failure = error
        }
        return checked
    }

    private func overrunRanges(
        _ overruns: [(record: Int, inner: UInt64)], _ found: [VerifiedRecord], fileEnd: UInt64
    ) -> [Range<UInt64>] {
        overruns.compactMap { overrun in
            let next = overrun.record + 1 < found.count ? found[overrun.record + 1].offset : fileEnd
            return overrun.inner < next ? overrun.inner..<next : nil
        }
    }

    // MARK: - Index

    /// The `.idx` file; nil when there is none. Its own faults are issues.
    private mutating func indexKeys(_ size: UInt64) throws(FaceDataError) -> RecordKeys? {
        let base = location.hasSuffix(".rec") ? String(location.dropLast(4)) : location
        guard Folder.kind(base + ".idx") != nil else {
            notes.append("no \(base).idx: the records' own ids are taken for keys")
            return nil
        }
        var index = RecordKeys()
        try DataFile(base + ".idx").forEachLine { line, number, _ throws(FaceDataError) in
            if line.isEmpty { return }
            let fields = String(decoding: line, as: UTF8.self).split(
                separator: "\t", omittingEmptySubsequences: false)
            guard fields.count == 2, let key = UInt64(fields[0]), let offset = UInt64(fields[1]) else {
                try add(Issue(.index, "line \(number): expected key<TAB>offset"))
                return
            }
            guard offset % 4 == 0, offset < size, size - offset >= 8 else {
                try add(
                    Issue(
                        .index, key: key, at: offset,
                        offset % 4 == 0
                            ? "line \(number): outside of the record file, which ends at byte \(size)"
                            : "line \(number): not a multiple of 4"))
                return
            }
            index.append(key: key, offset: offset)
        }
        index.sort()
        return index
    }

    /// Key and place of every record that has a key, by key. What the index has too much or too little is an issue.
    private mutating func keys(
        of found: [VerifiedRecord], _ index: RecordKeys?
    ) throws(FaceDataError) -> [(key: UInt64, record: Int)] {
        var keyed: [(key: UInt64, record: Int)] = []
        keyed.reserveCapacity(found.count)
        if let index {
            var next = 0
            for place in 0..<index.count {
                let (key, offset) = index.entry(place)
                while next < found.count, found[next].offset < offset {
                    try add(Issue(.index, at: found[next].offset, "the index lacks this record"))
                    next += 1
                }
                if next < found.count, found[next].offset == offset {
                    keyed.append((key, next))
                    next += 1
                } else if place > 0, index.entry(place - 1).offset == offset {
                    try add(Issue(.index, key: key, at: offset, "a record that key \(index.entry(place - 1).key) has"))
                } else {
                    try add(Issue(.index, key: key, at: offset, "no record begins here"))
                }
            }
            for record in found[min(next, found.count)...] {
                try add(Issue(.index, at: record.offset, "the index lacks this record"))
            }
        } else {
            for (place, record) in found.enumerated() where record.isSound { keyed.append((record.id, place)) }
        }
        keyed.sort { ($0.key, $0.record) < ($1.key, $1.record) }
        var unique: [(key: UInt64, record: Int)] = []
        unique.reserveCapacity(keyed.count)
        for entry in keyed {
            if let last = unique.last, last.key == entry.key {
                try add(
                    Issue(
                        .index, key: entry.key, at: found[entry.record].offset,
                        "the key belongs to the record at byte \(found[last.record].offset) too"))
            } else {
                unique.append(entry)
            }
        }
        return unique
    }
}

/// The entries of an `.idx` file by offset.
struct RecordKeys: Sendable {
    private var entries: [(key: UInt64, offset: UInt64)] = []

    var count: Int { entries.count }
    func entry(_ place: Int) -> (key: UInt64, offset: UInt64) { entries[place] }

    mutating func append(key: UInt64, offset: UInt64) { entries.append((key, offset)) }
    mutating func sort() { entries.sort { ($0.offset, $0.key) < ($1.offset, $1.key) } }

    /// The key of the record that begins at `offset`; nil when there is none.
    func key(at offset: UInt64) -> UInt64? {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].offset < offset { low = middle + 1 } else { high = middle }
        }
        return low < entries.count && entries[low].offset == offset ? entries[low].key : nil
    }
}
