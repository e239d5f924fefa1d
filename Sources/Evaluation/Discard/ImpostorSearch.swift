internal import Tensors

/// The first scan over all pairs: genuine pairs as they are, impostor pairs counted in bins.
struct ImpostorCounts {
    /// One list per thread.
    let genuine: [PairList]
    /// By rate: impostor pairs still there, in each bin of the cosine.
    let retained: [[Int]]

    /// - Parameters:
    ///   - labels: identities of the images as the scan numbers them.
    ///   - groups: by image, the number of rates at which its pairs with better images are there; nil where only the
    ///     pairs at the first rate matter.
    init(
        _ scan: AllPairsScan, labels: [Int32], groups: [UInt8]?, rates: DiscardRates, pool: ThreadPool,
        progress: (Double) -> Void
    ) {
        let groupCount = groups == nil ? 1 : rates.count
        let parts = (0..<pool.threads).map { _ in Part(groups: groupCount) }
        labels.withUnsafeBufferPointer { labels in
            scan.forEachRow(progress: progress) { part, row in
                let group = groups.map { Int($0[row.row]) - 1 } ?? 0
                parts[part].count(row, labels: labels, group: group)
            }
        }
        genuine = parts.map(\.genuine)
        var sum = [Int](repeating: 0, count: AllPairsScan.bins)
        var retained: [[Int]] = []
        for group in stride(from: groupCount - 1, through: 0, by: -1) {
            for part in parts {
                for bin in sum.indices { sum[bin] += Int(part.counts[group * AllPairsScan.bins + bin]) }
            }
            retained.append(sum)
        }
        self.retained = retained.reversed()
    }

    /// What one thread counts.
    private final class Part {
        var genuine = PairList()
        let counts: UnsafeMutableBufferPointer<UInt64>

        init(groups: Int) {
            counts = .allocate(capacity: groups * AllPairsScan.bins)
            counts.initialize(repeating: 0)
        }

        deinit { counts.deallocate() }

        func count(_ row: AllPairsScan.Row, labels: UnsafeBufferPointer<Int32>, group: Int) {
            let bins = counts.baseAddress! + group * AllPairsScan.bins
            let own = labels[row.row]
            for (offset, cosine) in row.cosines.enumerated() {
                if labels[row.firstColumn + offset] == own {
                    genuine.append(cosine, row.row, row.firstColumn + offset)
                } else {
                    bins[AllPairsScan.bin(cosine)] += 1
                }
            }
        }
    }
}

/// Which impostor pairs the operating points need, and the second scan, which collects them.
struct ImpostorNeed {
    /// The pairs around one operating point.
    struct Window {
        let target: Double
        /// Nearest first.
        var pairs = PairList()
        /// Impostor pairs still there that are nearer than these.
        let nearer: Int
        fileprivate let bins: ClosedRange<Int>
    }

    struct Found {
        /// All impostor pairs down to some cosine, nearest first.
        let nearest: PairList
        /// By the place of the target: for each rate the pairs around its operating point. Only for targets whose nearer
        /// pairs are too many to keep.
        let windows: [Int: [Window]]
    }

    /// No impostor pair is left out.
    let listsAll: Bool
    /// The lowest bin whose pairs are kept.
    private let floor: Int
    private let windows: [Int: [Window]]

    /// Samples of a bootstrap may need pairs that are farther than those that the set itself needs.
    private static let slack = 1.5
    /// So few pairs are all kept.
    private static let few = 1 << 18

    /// - Parameters:
    ///   - totals: by rate, the impostor pairs still there.
    ///   - limit: pairs to keep at most.
    init(_ counts: ImpostorCounts, targets: [Double], totals: [Int], limit: Int) {
        // For each bin, all pairs in it and in those above.
        var above = counts.retained[0]
        for bin in above.indices.dropLast().reversed() { above[bin] += above[bin + 1] }
        var floor = AllPairsScan.bins
        var windows: [Int: [Window]] = [:]
        if above[0] <= min(Self.few, limit) {
            floor = 0
        } else {
            for (place, target) in targets.enumerated() {
                let needed = totals.indices.map {
                    Self.bin(counts.retained[$0], reaching: Self.slack * target * Double(totals[$0]) + 10)
                }
                let lowest = needed.min() ?? 0
                if above[lowest] <= limit {
                    floor = min(floor, lowest)
                } else {
                    windows[place] = totals.indices.map {
                        Self.window(counts.retained[$0], target: target, total: totals[$0])
                    }
                }
            }
        }
        self.floor = floor
        self.windows = windows
        listsAll = floor == 0
    }

    /// The highest bin that, with those above it, holds `count` pairs or more and is followed by a bin that is taken as
    /// well; 0 where there are not so many.
    private static func bin(_ counts: [Int], reaching count: Double) -> Int {
        var seen = 0
        for bin in counts.indices.reversed() {
            seen += counts[bin]
            if Double(seen) >= count { return counts[..<bin].lastIndex { $0 > 0 } ?? 0 }
        }
        return 0
    }

    /// The bin in which the target is reached, with its neighbours that are not empty.
    private static func window(_ counts: [Int], target: Double, total: Int) -> Window {
        var (seen, bin) = (0, counts.count - 1)
        while bin > 0, Double(seen + counts[bin]) < target * Double(total) {
            seen += counts[bin]
            bin -= 1
        }
        let lower = counts[..<bin].lastIndex { $0 > 0 } ?? 0
        guard let upper = counts[(bin + 1)...].firstIndex(where: { $0 > 0 }) else {
            return Window(target: target, nearer: 0, bins: lower...bin)
        }
        return Window(target: target, nearer: seen - counts[upper], bins: lower...upper)
    }

    func collect(
        _ scan: AllPairsScan, labels: [Int32], pool: ThreadPool, progress: (Double) -> Void
    ) -> Found {
        var wanted = (0..<AllPairsScan.bins).map { $0 >= floor }
        for window in windows.values.joined() { for bin in window.bins { wanted[bin] = true } }
        let parts = (0..<pool.threads).map { _ in Part() }
        labels.withUnsafeBufferPointer { labels in
            wanted.withUnsafeBufferPointer { wanted in
                scan.forEachRow(progress: progress) { part, row in
                    parts[part].collect(row, labels: labels, wanted: wanted)
                }
            }
        }
        let all = PairList.sorted(parts.map(\.pairs))
        func within(_ bins: ClosedRange<Int>) -> PairList {
            var list = PairList()
            for pair in 0..<all.count where bins.contains(AllPairsScan.bin(all.cosines[pair])) {
                list.append(all.cosines[pair], Int(all.first[pair]), Int(all.second[pair]))
            }
            return list
        }
        return Found(
            nearest: windows.isEmpty
                ? all : floor < AllPairsScan.bins ? within(floor...AllPairsScan.bins - 1) : PairList(),
            windows: windows.mapValues { windows in
                windows.map { window in
                    var window = window
                    window.pairs = within(window.bins)
                    return window
                }
            })
    }

    /// What one thread collects.
    private final class Part {
        var pairs = PairList()

        func collect(
            _ row: AllPairsScan.Row, labels: UnsafeBufferPointer<Int32>, wanted: UnsafeBufferPointer<Bool>
        ) {
            let own = labels[row.row]
            for (offset, cosine) in row.cosines.enumerated()
            where wanted[AllPairsScan.bin(cosine)] && labels[row.firstColumn + offset] != own {
                pairs.append(cosine, row.row, row.firstColumn + offset)
            }
        }
    }
}
