internal import Tensors

/// How the records of an epoch are ordered.
package enum Shuffle: Sendable, Equatable {
    /// Any record may come at any place.
    case full
    /// Chunks of `size` consecutive records in random order, shuffled inside windows of `open` chunks: a step's records
    /// lie in few stretches of the file, which can be read at once.
    case chunks(size: Int, open: Int)
    /// The source's order.
    case none
}

/// The order in which records are trained on: a pure function of (seed, epoch), in constant memory.
///
/// An epoch has slots, which its order permutes. Records of weight 1 have one slot each; of other weights a stretch of an
/// endless row of passes over the records, so that 0.5 is half of them and the other half in the next epoch. Or the slots
/// are images of identities: all identities in random order, K images of each. The last slots that do not fill a global
/// batch are dropped. The position in a run is one integer: how many images all ranks together have consumed.
package struct EpochSampler: Sendable {
    package let recordCount: Int
    /// N: images of one step over all ranks.
    package let globalBatch: Int
    package let seed: UInt64
    package let shuffle: Shuffle
    /// Images of an epoch before the rest that fills no batch is dropped.
    package let slots: Int
    private let content: Content

    private enum Content: Sendable {
        case records([Quota])
        case identities(IdentityDraw)
    }

    /// - Throws: when there are fewer records than one global batch takes.
    package init(recordCount: Int, globalBatch: Int, seed: UInt64, shuffles: Bool = true) throws(SamplerError) {
        let parts = recordCount > 0 ? [SourcePart(records: 0..<recordCount)] : []
        try self.init(parts: parts, globalBatch: globalBatch, seed: seed, shuffle: shuffles ? .full : .none)
    }

    /// - Parameter parts: of all records, in their order (`FaceSource.parts`).
    /// - Throws: when an epoch has fewer images than one global batch takes.
    package init(
        parts: [SourcePart], globalBatch: Int, seed: UInt64, shuffle: Shuffle = .full
    ) throws(SamplerError) {
        var slots = 0
        var quotas: [Quota] = []
        for (number, part) in parts.enumerated() {
            let end = parts[..<number].last?.records.upperBound ?? 0
            precondition(part.records.lowerBound == end, "parts with a gap")
            let quota = Quota(part, number: number, firstSlot: slots)
            slots += quota.count
            quotas.append(quota)
        }
        try self.init(
            .records(quotas), records: parts.last?.records.upperBound ?? 0, slots: slots, globalBatch: globalBatch,
            seed: seed, shuffle: shuffle)
    }

    /// Global batches of N/K identities with K images each.
    /// - Parameters:
    ///   - identities: the records of each class.
    ///   - imagesEach: K, a divisor of the global batch. An identity with fewer images repeats them.
    /// - Throws: when there are fewer identities than one global batch takes.
    package init(
        identities: IdentityTable, imagesEach: Int, globalBatch: Int, seed: UInt64
    ) throws(SamplerError) {
        precondition(imagesEach > 0 && globalBatch % imagesEach == 0, "\(imagesEach) images each of \(globalBatch)")
        try self.init(
            .identities(IdentityDraw(table: identities, imagesEach: imagesEach)), records: identities.recordCount,
            slots: identities.classCount * imagesEach, globalBatch: globalBatch, seed: seed, shuffle: .full)
    }

    private init(
        _ content: Content, records: Int, slots: Int, globalBatch: Int, seed: UInt64, shuffle: Shuffle
    ) throws(SamplerError) {
        precondition(globalBatch > 0, "a global batch of \(globalBatch) images")
        guard slots >= globalBatch else { throw SamplerError(records: slots, globalBatch: globalBatch) }
        self.content = content
        recordCount = records
        self.slots = slots
        self.globalBatch = globalBatch
        self.seed = seed
        self.shuffle = shuffle
    }

    package var stepsPerEpoch: Int { slots / globalBatch }
    package var imagesPerEpoch: Int { stepsPerEpoch * globalBatch }

    /// Which epoch a position lies in.
    package func epoch(at position: Int) -> Int { position / imagesPerEpoch }
    /// Which step of its epoch a position lies in.
    package func stepInEpoch(at position: Int) -> Int { position % imagesPerEpoch / globalBatch }

    /// The rows of the global batch that a rank takes: contiguous, as equal as possible.
    package func rows(rank: Int, worldSize: Int) -> Range<Int> {
        precondition(worldSize > 0 && (0..<worldSize).contains(rank), "rank \(rank) of \(worldSize)")
        return globalBatch * rank / worldSize..<globalBatch * (rank + 1) / worldSize
    }

    /// The records of one rank's rows of the global batch at `position` (rounded down to a whole batch).
    package func records(at position: Int, rank: Int = 0, worldSize: Int = 1) -> [Int] {
        precondition(position >= 0, "position \(position)")
        let epoch = epoch(at: position)
        let first = stepInEpoch(at: position) * globalBatch
        let order = order(of: epoch)
        return rows(rank: rank, worldSize: worldSize).map { order[first + $0] }
    }

    package func order(of epoch: Int) -> EpochOrder {
        precondition(epoch >= 0, "epoch \(epoch)")
        return EpochOrder(self, epoch: epoch)
    }

    /// The other records of a record's identity, where batches are made of identities: what a damaged one is replaced by.
    func siblings(of label: Int) -> ArraySlice<Int32>? {
        if case .identities(let draw) = content { draw.table.records(of: label) } else { nil }
    }

    /// A record and how many times it came before: what random numbers for one image of a run are keyed with. For records
    /// of weight 1 that is the epoch.
    package struct Draw: Sendable, Equatable {
        package let record: Int
        package let occurrence: Int
    }

    /// One epoch's order.
    package struct EpochOrder: Sendable {
        private let sampler: EpochSampler
        private let epoch: Int
        private let order: SlotOrder

        private enum SlotOrder: Sendable {
            case asTheyAre
            case full(Permutation)
            case chunks(ChunkOrder)

            subscript(place: Int) -> Int {
                switch self {
                case .asTheyAre: place
                case .full(let permutation): permutation[place]
                case .chunks(let order): order[place]
                }
            }
        }

        fileprivate init(_ sampler: EpochSampler, epoch: Int) {
            self.sampler = sampler
            self.epoch = epoch
            let key = ChunkOrder.Key(seed: sampler.seed, index: 0, step: UInt64(epoch))
            switch (sampler.content, sampler.shuffle) {
            case (.identities(let draw), _):
                order = .full(Permutation(count: draw.table.classCount, key.stream()))
            case (.records, .full): order = .full(Permutation(count: sampler.slots, key.stream()))
            case (.records, .chunks(let size, let open)):
                order = .chunks(ChunkOrder(count: sampler.slots, size: size, open: max(1, open), key))
            case (.records, .none): order = .asTheyAre
            }
        }

        /// The record that comes `ordinal`-th.
        package subscript(ordinal: Int) -> Int { draw(ordinal).record }

        package func draw(_ ordinal: Int) -> Draw {
            precondition((0..<sampler.slots).contains(ordinal), "ordinal \(ordinal) of \(sampler.slots)")
            switch sampler.content {
            case .identities(let draw):
                return draw.image(
                    ordinal % draw.imagesEach, of: order[ordinal / draw.imagesEach], epoch: epoch, seed: sampler.seed)
            case .records(let quotas): return sampler.draw(slot: order[ordinal], quotas, epoch: epoch)
            }
        }

        // MARK: - Reading ahead

        /// Stretches of the order whose records lie together; 1 where they do not.
        var windows: Int {
            if case .chunks(let order) = order { order.windows } else { 1 }
        }

        func window(of ordinal: Int) -> Int {
            if case .chunks(let order) = order { order.window(of: ordinal) } else { 0 }
        }

        /// The records of a window as ranges, in the order in which they lie.
        func records(ofWindow window: Int) -> [Range<Int>] {
            guard case .chunks(let order) = order, case .records(let quotas) = sampler.content else { return [] }
            var ranges: [Range<Int>] = []
            for chunk in order.elements(ofWindow: window) {
                for slot in chunk {
                    let record = sampler.draw(slot: slot, quotas, epoch: epoch).record
                    if let last = ranges.last, last.upperBound == record {
                        ranges[ranges.count - 1] = last.lowerBound..<record + 1
                    } else {
                        ranges.append(record..<record + 1)
                    }
                }
            }
            return ranges
        }
    }

    // MARK: - Weights

    /// The slots of one part in every epoch.
    private struct Quota: Sendable {
        let records: Range<Int>
        let number: Int
        let firstSlot: Int
        /// Slots per epoch, at least one.
        let count: Int

        init(_ part: SourcePart, number: Int, firstSlot: Int) {
            records = part.records
            self.number = number
            self.firstSlot = firstSlot
            count = max(1, Int((part.weight * Double(part.records.count)).rounded()))
        }
    }

    private func draw(slot: Int, _ quotas: [Quota], epoch: Int) -> Draw {
        let quota = quotas.count == 1 ? quotas[0] : quotas[quotas.lastIndex { $0.firstSlot <= slot }!]
        let size = quota.records.count
        // Whole passes need no order of their own: the slots are in random order already.
        if quota.count % size == 0 {
            let place = slot - quota.firstSlot
            let passes = quota.count / size
            return Draw(
                record: quota.records.lowerBound + place % size, occurrence: epoch * passes + place / size)
        }
        let place = epoch * quota.count + slot - quota.firstSlot
        let pass = place / size
        // Apart from the keys of epochs and windows, whose indices are below 2^40.
        let key = ChunkOrder.Key(seed: seed, index: UInt64(quota.number + 1) << 40, step: UInt64(pass))
        let record =
            switch shuffle {
            case .full: Permutation(count: size, key.stream())[place % size]
            case .chunks(let chunk, _): ChunkOrder(count: size, size: chunk, open: 0, key)[place % size]
            case .none: place % size
            }
        return Draw(record: quota.records.lowerBound + record, occurrence: pass)
    }
}

/// Which images of an identity come in an epoch.
private struct IdentityDraw: Sendable {
    let table: IdentityTable
    /// K
    let imagesEach: Int

    /// The images of an identity are drawn without replacement over as many epochs as it has K of them; what then is left
    /// over waits for the next order. An identity with fewer than K comes with all of them, some repeated.
    func image(_ number: Int, of label: Int, epoch: Int, seed: UInt64) -> EpochSampler.Draw {
        let records = table.records(of: label)
        let count = records.count
        let epochs = max(1, count / imagesEach)
        let place = epoch % epochs * imagesEach + number
        // Beyond the indices of epochs, windows and parts.
        let stream = RandomStream(
            seed: seed, purpose: .epochOrder, index: 1 << 62 | UInt64(label), step: UInt64(epoch / epochs))
        let chosen = Permutation(count: count, stream)[place % count]
        return EpochSampler.Draw(
            record: Int(records[records.startIndex + chosen]), occurrence: epoch * imagesEach + place / count)
    }
}

/// Fewer records than one step takes.
package struct SamplerError: Error, Sendable, Equatable, CustomStringConvertible {
    package let records: Int
    package let globalBatch: Int

    package var description: String {
        "\(records) images are fewer than one global batch of \(globalBatch): use a smaller batch or more data"
    }
}
