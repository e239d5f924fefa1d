import Artifacts
import Objectives
import Tensors
import Testing
import Training

/// What the queues of a run hold: of one of its ranks, or of all.
struct QueueContents: Equatable, Sendable {
    /// Of QGFace's queue, whose entries lie with the ranks of their classes.
    struct Entry: Equatable, Sendable {
        var number: Int
        var label: Int
        var feature: [Float]
        var proxy: [Float]
    }

    /// CCFace's queue, which every rank has.
    struct Ring: Equatable, Sendable {
        var features: [Float]
        var labels: [Int]
        var next: Int
    }

    /// Oldest first.
    var entries: [Entry] = []
    /// Entries of all ranks, and those that there have ever been.
    var count = 0
    var total = 0
    var ring: Ring?

    /// Of one rank, as its trainer has them.
    init(_ trainer: Trainer) {
        for objective in trainer.objective.added {
            if let queue = (objective as? QueueContrast)?.queue {
                entries = queue.entries.map {
                    Entry(number: $0.number, label: $0.label, feature: $0.feature, proxy: $0.proxy)
                }
                (count, total) = (queue.count, queue.total)
            }
            if let queue = (objective as? ResolutionDistillation)?.queue {
                ring = Ring(
                    features: Array(queue.features.floats[..<(queue.count * queue.dimension)]),
                    labels: Array(queue.labels[..<queue.count]), next: queue.next)
            }
        }
    }

    /// Of all ranks together. Each must have its share in the order of the numbers, and all must count alike.
    init(ranks: [QueueContents]) {
        for rank in ranks {
            let numbers = rank.entries.map(\.number)
            #expect(numbers == numbers.sorted())
            #expect(rank.count == ranks[0].count && rank.total == ranks[0].total && rank.ring == ranks[0].ring)
        }
        entries = ranks.flatMap(\.entries).sorted { $0.number < $1.number }
        (count, total, ring) = (ranks[0].count, ranks[0].total, ranks[0].ring)
    }

    /// Of a checkpoint, whatever the number of its ranks.
    init(_ checkpoint: Checkpoint) throws {
        for rank in 0..<checkpoint.manifest.worldSize {
            let contrast = try Self.tensors("qgface", of: rank, checkpoint)
            if let features = contrast["features"], let proxies = contrast["proxies"],
                let numbers = contrast["numbers"], let counts = contrast["total"]
            {
                let d = features.shape[1]
                withExtendedLifetime(contrast) {
                    for row in 0..<features.shape[0] {
                        let values = row * d..<(row + 1) * d
                        entries.append(
                            Entry(
                                number: Int(numbers.int64s[2 * row]), label: Int(numbers.int64s[2 * row + 1]),
                                feature: Array(features.floats[values]), proxy: Array(proxies.floats[values])))
                    }
                    total = Int(counts.int64s[0])
                }
            }
            let resolution = try Self.tensors("ccface", of: rank, checkpoint)
            if ring == nil, let features = resolution["features"], let labels = resolution["labels"] {
                ring = withExtendedLifetime(resolution) {
                    let kept = labels.int64s.map { Int($0) }
                    return Ring(
                        features: Array(features.floats), labels: Array(kept.dropLast()), next: kept[kept.count - 1])
                }
            }
        }
        entries.sort { $0.number < $1.number }
        count = entries.count
    }

    /// What a rank has kept of an objective, by name.
    private static func tensors(
        _ objective: String, of rank: Int, _ checkpoint: Checkpoint
    ) throws -> [String: Tensor] {
        let name = CheckpointFiles.shardName(objective, rank: rank, worldSize: checkpoint.manifest.worldSize)
        guard checkpoint.manifest.files.contains(where: { $0.name == name }) else { return [:] }
        let file = try checkpoint.tensors(name)
        let prefix = "\(objective)/rank-\(rank)/"
        var tensors: [String: Tensor] = [:]
        for name in file.names {
            #expect(name.hasPrefix(prefix), "\(name)")
            tensors[String(name.dropFirst(prefix.count))] = try file.tensor(name)
        }
        return tensors
    }
}
