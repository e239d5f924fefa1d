internal import Tensors

/// How one bucket of gradients becomes its sum over all ranks.
protocol BucketReduction {
    /// Called for the same ranges in the same order on all ranks, each when this rank's values are complete.
    func reduce(_ range: Range<Int>, _ label: String) throws
    /// After it every bucket of the step holds its sum and no other rank touches this rank's memory.
    func finish(_ label: String) throws
}

/// This rank's view of the gradients of all ranks on its host.
struct WindowSlices {
    let window: any SharedWindow
    let segments: [UnsafeMutablePointer<Float>]
    let localRank: Int
    let ring: CollectiveRing
    /// Room for `chunk` sums. One thread at a time reduces.
    private let scratch = AlignedBuffer(byteCount: chunk * MemoryLayout<Float>.stride)

    /// Small enough for the sums to stay in the first-level cache until they are stored.
    private static let chunk = 2_048

    init(_ window: any SharedWindow, localRank: Int, ring: CollectiveRing) {
        self.window = window
        segments = window.segments.map { $0.assumingMemoryBound(to: Float.self) }
        self.localRank = localRank
        self.ring = ring
    }

    var own: UnsafeMutablePointer<Float> { segments[localRank] }

    /// The part of `range` that this rank sums: whole cache lines of 16 floats, but for the ends.
    func slice(of range: Range<Int>) -> Range<Int> {
        func boundary(_ rank: Int) -> Int {
            if rank == segments.count { return range.upperBound }
            let position = range.count * rank / segments.count
            return range.lowerBound + position / 16 * 16
        }
        return boundary(localRank)..<boundary(localRank + 1)
    }

    func record(_ label: String, _ range: Range<Int>, _ body: () throws -> Void) throws {
        try ring.record(
            channel: "gradients", operation: "window", label: label, bytes: range.count * MemoryLayout<Float>.stride,
            body)
    }

    /// Sums `range` over the segments in rank order and stores the sum in the segments of the local ranks `targets`.
    func sum(_ range: Range<Int>, into targets: Range<Int>) {
        let sum = scratch.base.assumingMemoryBound(to: Float.self)
        var start = range.lowerBound
        while start < range.upperBound {
            let count = min(Self.chunk, range.upperBound - start)
            sum.update(from: segments[0] + start, count: count)
            for other in segments.dropFirst() { accumulate(UnsafePointer(other + start), into: sum, count) }
            for target in targets { (segments[target] + start).update(from: sum, count: count) }
            start += count
        }
    }
}

/// One host: each rank sums its slice over all segments and writes it to all of them.
struct WindowReduction: BucketReduction {
    private let slices: WindowSlices

    init(_ slices: WindowSlices) { self.slices = slices }

    func reduce(_ range: Range<Int>, _ label: String) throws {
        try slices.record(label, range) {
            // All ranks have written this bucket. The next bucket's arrival also says that this one is done.
            try slices.window.synchronise()
            slices.sum(slices.slice(of: range), into: slices.segments.indices)
        }
    }

    func finish(_ label: String) throws {
        try slices.record(label, 0..<0) { try slices.window.synchronise() }
    }
}

/// Several hosts with equally many ranks: the hosts' sums of a slice meet on the ranks that own this slice.
struct SlicedHostReduction: BucketReduction {
    private let slices: WindowSlices
    private let across: BucketMessages

    init(_ slices: WindowSlices, _ across: BucketMessages) {
        self.slices = slices
        self.across = across
    }

    func reduce(_ range: Range<Int>, _ label: String) throws {
        let slice = slices.slice(of: range)
        try slices.record(label, range) {
            try slices.window.synchronise()
            slices.sum(slice, into: slices.localRank..<slices.localRank + 1)
        }
        try across.reduce(slice, label)
        for (rank, segment) in slices.segments.enumerated() where rank != slices.localRank {
            (segment + slice.lowerBound).update(from: slices.own + slice.lowerBound, count: slice.count)
        }
    }

    func finish(_ label: String) throws {
        try slices.record(label, 0..<0) { try slices.window.synchronise() }
    }
}

/// Several hosts with unequal numbers of ranks: local rank 0 of each host speaks for it.
struct LeaderReduction: BucketReduction {
    private let slices: WindowSlices
    private let leader: BucketMessages?

    init(_ slices: WindowSlices, _ leader: BucketMessages?) {
        self.slices = slices
        self.leader = leader
    }

    func reduce(_ range: Range<Int>, _ label: String) throws {
        try slices.record(label, range) {
            try slices.window.synchronise()
            slices.sum(slices.slice(of: range), into: 0..<1)
            try slices.window.synchronise()
        }
        try leader?.reduce(range, label)
        try slices.record(label, range) { try slices.window.synchronise() }
        if leader == nil {
            (slices.own + range.lowerBound).update(from: slices.segments[0] + range.lowerBound, count: range.count)
        }
    }

    func finish(_ label: String) throws {
        try slices.record(label, 0..<0) { try slices.window.synchronise() }
    }
}

/// target += values. A plain loop becomes vector code; Swift's wide SIMD types go through memory element by element.
func accumulate(_ values: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>, _ count: Int) {
    var index = 0
    while index < count {
        target[index] += values[index]
        index &+= 1
    }
}
