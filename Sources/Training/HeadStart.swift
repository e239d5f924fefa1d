import Artifacts
import Collectives
import FaceData
import Objectives
import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// What the class centres of a new run start from: rows of an earlier head by the names of their identities, embeddings
/// of the identities' images, random numbers.
struct HeadStart {
    /// Images of an identity that its mean embedding is of, at most.
    static let imagesPerClass = 20
    /// Classes that a rank embeds between two exchanges.
    private static let classesPerRound = 64

    let classifier: ShardedClassifier<Float>
    let source: any FaceSource
    let communicator: any Communicator
    /// For each class whether its centre is given.
    private(set) var isKept: [Bool]
    private(set) var dropped = 0

    init(_ classifier: ShardedClassifier<Float>, source: any FaceSource, communicator: any Communicator) {
        self.classifier = classifier
        self.source = source
        self.communicator = communicator
        isKept = [Bool](repeating: false, count: source.classCount)
    }

    var keptCount: Int { isKept.count { $0 } }

    /// Takes the rows of a checkpoint's head whose identities have the names of this data's.
    ///
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    mutating func takeRows(of checkpoint: Checkpoint) throws {
        let (rows, dropped) = try ClassNames.rows(checkpoint, for: source, over: communicator)
        let range = classifier.classRange
        try communicator.together("initial centres") {
            try CheckpointContents.checkLength(checkpoint, is: classifier.dimension)
            let stored = try checkpoint.rows(of: CheckpointContents.centres)
            let hasBiases = checkpoint.shardedTensors[CheckpointContents.biases] != nil
            let storedBiases = hasBiases ? try checkpoint.rows(of: CheckpointContents.biases) : nil
            var label = range.lowerBound
            while label < range.upperBound {
                guard rows[label] >= 0 else {
                    label += 1
                    continue
                }
                // Neighbours there and here are read at once.
                let first = Int(rows[label])
                var count = 1
                while label + count < range.upperBound, Int(rows[label + count]) == first + count { count += 1 }
                let local = label - range.lowerBound
                try stored.read(first..<first + count, into: classifier.centres.rows(local..<local + count))
                if let bias = classifier.bias {
                    try storedBiases?.read(first..<first + count, into: bias.values.rows(local..<local + count))
                }
                label += count
            }
        }
        for label in rows.indices { isKept[label] = rows[label] >= 0 }
        self.dropped = dropped
    }

    /// Gives the other classes the direction of the mean of their images' unit embeddings, and the mean length of the
    /// rows that were kept, or of the random ones if none was. The ranks share the work.
    ///
    /// - Returns: how many classes have no image that could be read: their centres stay random.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    func setMeanEmbeddings(_ embedder: Embedder) throws -> Int {
        let new = isKept.indices.filter { !isKept[$0] }
        if new.isEmpty { return 0 }
        let length = try meanLength()
        let records = IdentityTable(source)
        let d = classifier.dimension
        let (rank, ranks) = (communicator.rank, communicator.size)
        let share = Self.classesPerRound
        var unread = 0
        var all = [Float](repeating: 0, count: ranks * share * d)
        for start in stride(from: 0, to: new.count, by: ranks * share) {
            let first = min(start + rank * share, new.count)
            let own = Array(new[first..<min(first + share, new.count)])
            var block = try communicator.together("mean embeddings") { try means(own, records, embedder) }
            block += [Float](repeating: 0, count: share * d - block.count)
            try block.withUnsafeBytes { block in
                try all.withUnsafeMutableBytes { try communicator.allGather(block, into: $0, "mean embeddings") }
            }
            for (place, label) in new[start..<min(start + ranks * share, new.count)].enumerated() {
                let mean = all[place * d..<(place + 1) * d]
                guard mean.contains(where: { $0 != 0 }) else {
                    unread += 1
                    continue
                }
                guard classifier.classRange.contains(label) else { continue }
                let centre = classifier.centres.rows(
                    label - classifier.classRange.lowerBound..<label - classifier.classRange.lowerBound + 1)
                for (i, value) in mean.enumerated() { centre.floats[i] = Float(length) * value }
            }
        }
        return unread
    }

    /// Of the rows that were kept, or of all where none was.
    private func meanLength() throws -> Double {
        let usesAll = keptCount == 0
        let d = classifier.dimension
        let values = classifier.centres.floats
        // By class, so that the sum depends little on the ranks.
        var sums = [0.0, 0.0]
        for (local, label) in classifier.classRange.enumerated() where usesAll || isKept[label] {
            let squares = values[local * d..<(local + 1) * d].reduce(0) { $0 + Double($1) * Double($1) }
            sums[0] += squares.squareRoot()
            sums[1] += 1
        }
        try sums.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "length of centres") }
        return sums[0] / sums[1]
    }

    /// Unit vectors, one per class; zeros for a class without a readable image.
    private func means(_ classes: [Int], _ table: IdentityTable, _ embedder: Embedder) throws -> [Float] {
        let d = classifier.dimension
        var images: [(place: Int, record: Int)] = []
        for (place, label) in classes.enumerated() {
            let records = table.records(of: label)
            let count = min(records.count, Self.imagesPerClass)
            // Spread over all of them: neighbours are often of one occasion.
            for i in 0..<count {
                images.append((place, Int(records[records.startIndex + i * records.count / count])))
            }
        }
        let unread = UnreadImages(count: images.count)
        let (source, chosen) = (source, images)
        let blank = RGBImage(width: embedder.preprocessing.faceWidth, height: embedder.preprocessing.faceHeight)
        let embeddings = try embedder.embed(0..<images.count, flip: false) { index in
            do throws(FaceDataError) {
                return try source.image(at: chosen[index].record)
            } catch {
                // A disk that fails is no damage of a record.
                if error.kind == .cannotRead { throw error }
                unread.mark(index)
                return blank
            }
        }.plain
        var means = [Float](repeating: 0, count: classes.count * d)
        for (index, image) in images.enumerated() where !unread.contains(index) {
            add(embeddings[index * d..<(index + 1) * d], to: &means[image.place * d..<(image.place + 1) * d])
        }
        for place in classes.indices {
            let sum = means[place * d..<(place + 1) * d]
            means.replaceSubrange(place * d..<(place + 1) * d, with: unit(sum))
        }
        return means
    }

    private func add(_ embedding: ArraySlice<Float>, to sum: inout ArraySlice<Float>) {
        for (i, value) in zip(sum.indices, unit(embedding)) { sum[i] += value }
    }

    private func unit(_ vector: ArraySlice<Float>) -> [Float] {
        let length = vector.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
        return vector.map { Float(Double($0) / max(length, 1e-12)) }
    }
}

/// Which of some images could not be read; each thread marks its own.
private final class UnreadImages: @unchecked Sendable {
    private let marks: UnsafeMutableBufferPointer<Bool>

    init(count: Int) {
        marks = .allocate(capacity: count)
        marks.initialize(repeating: false)
    }

    deinit { marks.deallocate() }

    func mark(_ index: Int) { marks[index] = true }
    func contains(_ index: Int) -> Bool { marks[index] }
}
