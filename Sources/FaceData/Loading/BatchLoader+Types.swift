package import Tensors

/// Which image of which epoch a view is made for, and the random numbers that belong to it.
package struct ViewContext: Sendable, Equatable {
    package let seed: UInt64
    package let record: Int
    /// The epoch, or, for a record that comes more or less than once per epoch, how many times it came before.
    package let epoch: Int
    /// Which of the batch's views, from 0.
    package let view: Int

    package init(seed: UInt64, record: Int, epoch: Int, view: Int) {
        self.seed = seed
        self.record = record
        self.epoch = epoch
        self.view = view
    }

    /// Draws that depend on nothing but seed, purpose, record, epoch and view.
    package func random(_ purpose: RandomPurpose) -> RandomStream {
        RandomStream(seed: seed, purpose: purpose, index: UInt64(record), step: UInt64(epoch) | UInt64(view) << 32)
    }
}

/// One of the images that a batch holds per record.
package struct View: Sendable {
    package enum Subject: Sendable {
        /// The record itself.
        case record
        /// Another record of the same identity, drawn per epoch; the record itself when the identity has only one.
        case partner
    }

    package var subject: Subject
    /// Applied to the aligned face before flip and normalisation; must keep its size. nil: untouched.
    package var transform: (@Sendable (RGBImage, ViewContext) -> RGBImage)?
    /// Mirrored or not by a draw of its own; otherwise all views of one record are mirrored alike.
    package var flipsAlone: Bool

    package init(
        _ subject: Subject = .record, flipsAlone: Bool = false,
        transform: (@Sendable (RGBImage, ViewContext) -> RGBImage)? = nil
    ) {
        self.subject = subject
        self.flipsAlone = flipsAlone
        self.transform = transform
    }
}

/// A record that could not be decoded and was replaced.
package struct QuarantinedRecord: Sendable, Equatable {
    package let record: Int
    /// What a person calls it.
    package let key: String
    package let reason: String
}

/// What one rank trains on in one step. The images' memory is used again after the next call of `BatchLoader.next`, and
/// so is that of labels and records unless they are still held.
package struct Batch: Sendable {
    /// (views·B, 3, height, width), all first views, then all second views, ….
    package let images: Tensor
    /// B classes, the same for every view.
    package let labels: [Int]
    /// views·B: the records that the images are of, and whether they are their mirror images.
    package let records: [Int]
    package let mirrored: [Bool]
    package let epoch: Int
    package let stepInEpoch: Int
    /// Images that all ranks had consumed before this batch, and have after it.
    package let position: Int
    package let nextPosition: Int
    /// Damaged records that this loader met for the first time.
    package let quarantined: [QuarantinedRecord]
    /// How long the caller waited for the batch.
    package let waitSeconds: Double
}

/// What the threads of a loader spend their time on, in seconds.
package struct LoaderTimes: Sendable, Equatable {
    package var reading = 0.0
    package var decoding = 0.0
    package var transforming = 0.0
    /// Mirroring and normalising.
    package var converting = 0.0

    package init() {}

    package var total: Double { reading + decoding + transforming + converting }

    /// With names, the largest first.
    package var shares: [(name: String, share: Double)] {
        [("reading", reading), ("decoding", decoding), ("degrading", transforming), ("normalising", converting)]
            .map { (name: $0.0, share: total > 0 ? $0.1 / total : 0) }
            .sorted { $0.share > $1.share }
    }

    package mutating func add(_ other: LoaderTimes) {
        reading += other.reading
        decoding += other.decoding
        transforming += other.transforming
        converting += other.converting
    }

    package mutating func subtract(_ other: LoaderTimes) {
        reading -= other.reading
        decoding -= other.decoding
        transforming -= other.transforming
        converting -= other.converting
    }
}

extension BatchLoader {
    package struct Options: Sendable {
        package var preprocessing: Preprocessing
        package var seed: UInt64
        /// Of mirroring an image left to right.
        package var flipProbability: Float
        package var threads: Int
        /// Batches prepared ahead.
        package var prefetch: Int
        /// Damaged records beyond which `isOverQuarantineLimit` is true.
        package var quarantineLimit: Int
        package var views: [View]

        package init(
            preprocessing: Preprocessing = .arcFace, seed: UInt64, flipProbability: Float = 0.5, threads: Int = 1,
            prefetch: Int = 2, quarantineLimit: Int = 100, views: [View] = [View()]
        ) {
            self.preprocessing = preprocessing
            self.seed = seed
            self.flipProbability = flipProbability
            self.threads = threads
            self.prefetch = prefetch
            self.quarantineLimit = quarantineLimit
            self.views = views
        }
    }
}
