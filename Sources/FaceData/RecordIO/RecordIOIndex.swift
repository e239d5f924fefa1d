/// Keys and offsets of the records of a RecordIO file, ascending by key: the `.idx` text file, lines of
/// `key<TAB>offset`, or what a pass over the records finds.
///
/// Keys are kept as runs of consecutive numbers, of which a file of insightface has three (images, metadata, identities),
/// and offsets in 4 bytes each: 10,000,000 records take 40 MB.
struct RecordIOIndex: Sendable {
    /// Consecutive keys of records that stand one after the other in the index file.
    struct Run: Sendable {
        var firstKey: UInt64
        /// Where its offsets begin in `offsets`.
        var slot: UInt32
        var count: UInt32
        /// Keys below the first of this run.
        var position: UInt32 = 0
    }

    /// Ascending by key.
    private let runs: [Run]
    private let offsets: OffsetTable
    let count: Int

    /// - Parameters:
    ///   - runs: in any order; their offsets are those of `offsets` in order.
    /// - Returns: nil when a key comes twice.
    init?(runs given: [Run], offsets: OffsetTable) {
        var runs = given
        if !zip(runs, runs.dropFirst()).allSatisfy({ $0.firstKey < $1.firstKey }) {
            runs.sort { $0.firstKey < $1.firstKey }
        }
        var position: UInt32 = 0
        for index in runs.indices {
            if index > 0, runs[index].firstKey - runs[index - 1].firstKey < UInt64(runs[index - 1].count) { return nil }
            runs[index].position = position
            position += runs[index].count
        }
        self.runs = runs
        self.offsets = offsets
        count = Int(position)
    }

    /// Bytes of memory.
    var byteCount: Int { offsets.byteCount + runs.capacity * MemoryLayout<Run>.stride }

    func key(at position: Int) -> UInt64 {
        let run = run(at: position)
        return run.firstKey + UInt64(position - Int(run.position))
    }

    func offset(at position: Int) -> UInt64 { offsets[slot(at: position)] }

    /// Where a record begins, and where the one that follows it in the file does, if the index says so.
    func extent(at position: Int) -> (offset: UInt64, end: UInt64?) {
        let slot = slot(at: position)
        let offset = offsets[slot]
        guard slot + 1 < offsets.count else { return (offset, nil) }
        let following = offsets[slot + 1]
        return (offset, following > offset ? following : nil)
    }

    /// Where `key` stands; nil when it is not in the file.
    func position(of key: UInt64) -> Int? {
        guard let run = last(where: { $0.firstKey <= key }), key - run.firstKey < UInt64(run.count) else { return nil }
        return Int(run.position) + Int(key - run.firstKey)
    }

    private func slot(at position: Int) -> Int {
        let run = run(at: position)
        return Int(run.slot) + position - Int(run.position)
    }

    private func run(at position: Int) -> Run {
        precondition(position >= 0 && position < count, "record \(position) of \(count)")
        return last { Int($0.position) <= position }!
    }

    /// The last run for which a property holds that holds for the first runs only.
    private func last(where holds: (Run) -> Bool) -> Run? {
        var low = 0
        var high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if holds(runs[middle]) { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? runs[low - 1] : nil
    }

    /// Writes the index file, lines in the order in which the records stand.
    /// - Throws: `FaceDataError` when the folder takes no file.
    func write(to path: String) throws(FaceDataError) {
        let file = try FileWriter(path, isShared: true)
        var line: [UInt8] = []
        for run in runs.sorted(by: { $0.slot < $1.slot }) {
            for place in 0..<Int(run.count) {
                line.removeAll(keepingCapacity: true)
                Self.append(run.firstKey + UInt64(place), to: &line)
                line.append(0x09)
                Self.append(offsets[Int(run.slot) + place], to: &line)
                line.append(0x0A)
                try file.append(line)
            }
        }
        try file.finish()
    }

    private static func append(_ number: UInt64, to text: inout [UInt8]) {
        let start = text.count
        var rest = number
        repeat {
            text.append(0x30 + UInt8(rest % 10))
            rest /= 10
        } while rest > 0
        text[start...].reverse()
    }
}

/// Collects keys and offsets in the order of an index file.
struct RecordIOIndexBuilder {
    private(set) var runs: [RecordIOIndex.Run] = []
    private(set) var offsets = OffsetTable()
    /// Positions and slots are 32 bits wide.
    static let mostRecords = Int(UInt32.max) - 1

    var count: Int { offsets.count }

    mutating func reserveCapacity(_ count: Int) { offsets.reserveCapacity(count) }

    mutating func append(key: UInt64, offset: UInt64) {
        let last = runs.count - 1
        if last >= 0, key > runs[last].firstKey, key - runs[last].firstKey == UInt64(runs[last].count) {
            runs[last].count += 1
        } else {
            runs.append(RecordIOIndex.Run(firstKey: key, slot: UInt32(count), count: 1))
        }
        offsets.append(offset)
    }
}
