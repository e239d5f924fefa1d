internal import Tensors

/// Prepares one rank's batches ahead of time on threads of its own, in memory that is allocated once.
///
/// What a batch holds is a pure function of the source, the sampler, the options and the position: not of the number of
/// threads, nor of the world size but for which rows a rank takes. A damaged record is replaced by the next intact one of
/// the source (whose label is used) and reported once. One caller at a time.
package final class BatchLoader {
    private let core: Core
    private let threads: [SystemThread]
    private var reported: Set<Int> = []
    private let quarantineLimit: Int
    private static let mostRanksReadingAhead = 8

    /// - Parameters:
    ///   - position: images that all ranks have consumed so far: where to continue.
    package init(
        source: any FaceSource, sampler: EpochSampler, rank: Int = 0, worldSize: Int = 1, position: Int = 0,
        options: Options
    ) {
        precondition(sampler.recordCount == source.count, "the sampler was made for another source")
        precondition(
            options.threads > 0 && options.prefetch > 0 && !options.views.isEmpty,
            "a loader needs a thread, a batch ahead and a view")
        // Where many ranks share every stretch of the data, each needs too little of it to read it whole.
        let core = Core(
            rows: RowLoader(
                source: source, sampler: sampler, options: options, readsAhead: worldSize <= Self.mostRanksReadingAhead),
            range: sampler.rows(rank: rank, worldSize: worldSize), position: position)
        self.core = core
        quarantineLimit = options.quarantineLimit
        threads = (0..<options.threads).map { _ in SystemThread(name: "loader") { core.work() } }
    }

    deinit {
        core.stop()
        for thread in threads { thread.join() }
    }

    /// What the threads did so far, in seconds of all of them.
    package var times: LoaderTimes { core.times }

    /// Damaged records met so far.
    package var quarantinedCount: Int { reported.count }
    /// Whether more records are damaged than the options allow. The decision to stop is the caller's: it must be taken
    /// by all ranks together.
    package var isOverQuarantineLimit: Bool { reported.count > quarantineLimit }

    /// The next batch, waiting for it when it is not ready. The images of the previous batch are given up.
    /// - Throws: `FaceDataError` when the disk fails or no intact record is found.
    package func next() throws(FaceDataError) -> Batch {
        let start = monotonicSeconds()
        let (number, slot) = core.take()
        let wait = monotonicSeconds() - start
        if let failure = slot.failure { throw failure }
        let sampler = core.rows.sampler
        let position = core.position(of: number)
        var quarantined: [QuarantinedRecord] = []
        for damaged in slot.damaged {
            for (record, error) in damaged where reported.insert(record).inserted {
                quarantined.append(
                    QuarantinedRecord(
                        record: record, key: core.rows.source.key(of: record), reason: error.description))
            }
        }
        return Batch(
            images: slot.images, labels: slot.labels, records: slot.records, mirrored: slot.mirrored,
            epoch: sampler.epoch(at: position), stepInEpoch: sampler.stepInEpoch(at: position), position: position,
            nextPosition: position + sampler.globalBatch, quarantined: quarantined, waitSeconds: wait)
    }
}

/// The part that the threads share: a ring of batches in the making. Threads claim rows in order; a row is written by
/// the thread that claimed it, and everything else is guarded by the monitor.
private final class Core: @unchecked Sendable {
    final class Slot {
        let images: Tensor
        var labels: [Int]
        var records: [Int]
        var mirrored: [Bool]
        /// By row, the records passed over.
        var damaged: [[RowLoader.Damage]]
        var missing: Int
        var failure: FaceDataError?

        init(images: Tensor, rows: Int) {
            self.images = images
            labels = Array(repeating: 0, count: rows)
            records = Array(repeating: 0, count: images.shape[0])
            mirrored = Array(repeating: false, count: images.shape[0])
            damaged = Array(repeating: [], count: rows)
            missing = rows
        }

        /// - Parameter row: which of the batch's.
        func store(_ loaded: RowLoader.Row, row: Int) {
            labels[row] = loaded.label
            for view in loaded.records.indices {
                records[view * labels.count + row] = loaded.records[view]
                mirrored[view * labels.count + row] = loaded.mirrored[view]
            }
            damaged[row] = loaded.damaged
        }
    }

    let rows: RowLoader
    private let range: Range<Int>
    private let firstStep: Int
    private let slots: [Slot]
    private let monitor = Monitor()
    private var stopped = false
    /// Rows claimed so far, over all batches.
    private var claimed = 0
    /// Batches handed to the caller, and of these the ones given up again.
    private var taken = 0
    private var released = 0
    private var summed = LoaderTimes()

    var times: LoaderTimes { monitor.withLock { summed } }

    init(rows: RowLoader, range: Range<Int>, position: Int) {
        precondition(!range.isEmpty, "more ranks than images in a global batch")
        precondition(position >= 0, "position \(position)")
        self.rows = rows
        self.range = range
        firstStep = position / rows.sampler.globalBatch
        let preprocessing = rows.options.preprocessing
        let views = rows.options.views.count
        slots = (0...rows.options.prefetch).map { _ in
            Slot(
                images: Tensor([views * range.count, 3, preprocessing.height, preprocessing.width]), rows: range.count)
        }
    }

    /// Images consumed by all ranks before a batch.
    func position(of number: Int) -> Int { (firstStep + number) * rows.sampler.globalBatch }

    func stop() {
        monitor.withLock {
            stopped = true
            monitor.wakeAll()
        }
    }

    /// Waits for the next batch; the one before is given up.
    func take() -> (number: Int, slot: Slot) {
        monitor.withLock {
            if released < taken {
                let slot = slots[released % slots.count]
                slot.missing = range.count
                slot.failure = nil
                released += 1
                monitor.wakeAll()
            }
            let number = taken
            let slot = slots[number % slots.count]
            while slot.missing > 0 { monitor.wait() }
            taken += 1
            return (number, slot)
        }
    }

    /// The next row to load; nil when the loader ends.
    private func claim() -> (number: Int, row: Int)? {
        monitor.withLock {
            while !stopped, claimed / range.count >= released + slots.count { monitor.wait() }
            if stopped { return nil }
            defer { claimed += 1 }
            return (claimed / range.count, claimed % range.count)
        }
    }

    func work() {
        let sampler = rows.sampler
        let values = rows.options.preprocessing.valueCount
        let scratch = RowLoader.Scratch(rows.options.preprocessing)
        while let (number, row) = claim() {
            let slot = slots[number % slots.count]
            let position = position(of: number)
            let ordinal = sampler.stepInEpoch(at: position) * sampler.globalBatch + range.lowerBound + row
            var result: Result<RowLoader.Row, FaceDataError>
            do throws(FaceDataError) {
                let loaded = try rows.load(epoch: sampler.epoch(at: position), ordinal: ordinal, scratch) { view in
                    let first = (view * range.count + row) * values
                    return UnsafeMutableBufferPointer(rebasing: slot.images.floats[first..<first + values])
                }
                result = .success(loaded)
            } catch {
                result = .failure(error)
            }
            monitor.withLock {
                summed.add(scratch.takeTimes())
                switch result {
                case .success(let loaded): slot.store(loaded, row: row)
                case .failure(let error): slot.failure = slot.failure ?? error
                }
                slot.missing -= 1
                if slot.missing == 0 { monitor.wakeAll() }
            }
        }
    }
}
