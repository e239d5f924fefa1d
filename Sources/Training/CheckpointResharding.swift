package import Artifacts
import Layers
import Networks
import Objectives
import Tensors

/// Writes a checkpoint again as another number of ranks would have written it: in one process, without the data, and
/// with memory for one new rank's rows.
///
/// Model, optimizer and names are copied as they are; rows are divided anew; running statistics become their average, as
/// for a run that goes on with another number of ranks (docs/decisions/0005).
package struct CheckpointResharding {
    private let checkpoint: Checkpoint
    private let ranks: Int
    /// Files by stem: tensors that are divided by rows.
    private var rows: [(stem: String, tensors: [String])] = []
    /// What objectives keep, by stem.
    private var kept: [String] = []
    /// A network that follows the one that learns, whole; every rank has running statistics of its own of it.
    private var follower: [(name: String, tensor: Tensor)] = []
    private let buffers: Set<String>
    /// Files that are the same whatever the number of ranks.
    private var copied: [FileEntry] = []
    private var state: RunState
    private let statistics: [Float]

    /// What objectives keep entry by entry, of this rank or of the first: the entries of all ranks may lie in one share.
    private static let entries: Set<String> = ["features", "proxies", "numbers", "labels"]
    /// What objectives keep alike on every rank.
    private static let counts: Set<String> = ["total"]

    /// - Throws: `ArtifactError`, when it is no checkpoint of a training run, or holds what cannot be divided here.
    package init(_ checkpoint: Checkpoint, ranks: Int) throws {
        precondition(ranks >= 1, "\(ranks) ranks")
        self.checkpoint = checkpoint
        self.ranks = ranks
        state = try checkpoint.state(RunState.self)
        state.worldSize = ranks
        let network = try ModelFile.open(checkpoint.folder + "/" + CheckpointContents.modelFile).network
        statistics = RunningStatistics(network.buffers).values
        buffers = Set(network.buffers.map(\.name))
        for file in checkpoint.manifest.files {
            guard let stem = Self.stem(file, of: checkpoint.manifest.worldSize) else {
                if file.name != Checkpoint.stateFileName { copied.append(file) }
                continue
            }
            // Each rank's files have the same tensors.
            guard file.rank == 0, stem != CheckpointContents.statisticsStem else { continue }
            if stem == CheckpointContents.follower {
                let stored = try checkpoint.tensors(file.name)
                let prefix = CheckpointContents.followerTensor("", rank: 0)
                follower = try stored.names.map { (String($0.dropFirst(prefix.count)), try stored.tensor($0)) }
            } else if file.tensors.contains(where: { $0.rows != nil }) {
                rows.append((stem, file.tensors.map(\.name)))
            } else {
                kept.append(stem)
            }
        }
        for (stem, tensors) in rows {
            for tensor in tensors where checkpoint.shardedTensors[tensor] == nil {
                throw incompatible("\(stem)'s tensor '\(tensor)' is not divided by rows")
            }
        }
    }

    /// "head" of "head-00001-of-00004.safetensors"; nil for a file that is not one of several.
    private static func stem(_ file: FileEntry, of worldSize: Int) -> String? {
        let suffix = CheckpointFiles.shardName("", rank: file.rank, worldSize: worldSize)
        return file.name.hasSuffix(suffix) ? String(file.name.dropLast(suffix.count)) : nil
    }

    private func incompatible(_ reason: String) -> ArtifactError {
        .incompatible(path: checkpoint.folder, reason: "\(reason); 'acuity resume' on \(ranks) ranks divides it")
    }

    /// Commits the checkpoint in a run's folder.
    ///
    /// - Throws: `ArtifactError`; no trace is left then.
    package func write(to store: CheckpointStore) throws -> CommittedCheckpoint {
        let shares = try kept.map { (stem: $0, shares: try divided($0)) }
        return try store.saveAlone(
            step: checkpoint.step, worldSize: ranks, configHash: checkpoint.manifest.configHash
        ) { files in
            if files.rank == 0 {
                for file in copied { try files.addCopy(of: file, from: checkpoint) }
                try files.addState(state)
            }
            for (stem, tensors) in rows { try files.addShard(stem, tensors.map { try part($0, files.rank) }) }
            for (stem, shares) in shares { try files.addShard(stem, shares[files.rank]) }
            if !follower.isEmpty { try files.addShard(CheckpointContents.follower, follower(of: files.rank)) }
            let name = "\(CheckpointContents.statisticsStem)/rank-\(files.rank)"
            try files.addShard(
                CheckpointContents.statisticsStem, [CheckpointTensor(name, Tensor([statistics.count], statistics))])
        }
    }

    /// A rank's rows of a tensor.
    private func part(_ name: String, _ rank: Int) throws -> CheckpointTensor {
        let total = checkpoint.shardedTensors[name]?.shape.first ?? 0
        let range = ShardMap(classes: max(1, total), ranks: ranks).range(ofRank: rank).clamped(to: 0..<total)
        return CheckpointTensor(name, try checkpoint.readRows(name, range), rows: ShardRows(range, of: total))
    }

    /// What a rank keeps of the network that follows: the first one all of it, the others its statistics, which start from
    /// the first one's.
    private func follower(of rank: Int) -> [CheckpointTensor] {
        follower.filter { rank == 0 || buffers.contains($0.name) }.map {
            CheckpointTensor(CheckpointContents.followerTensor($0.name, rank: rank), $0.tensor)
        }
    }

    // MARK: - What objectives keep

    /// An objective's state for the new ranks: rank 0 has the entries of all, in the order of the ranks that kept them,
    /// and the others have none. Which rank goes on with which entry, the objective decides when it is restored.
    private func divided(_ stem: String) throws -> [[CheckpointTensor]] {
        let worldSize = checkpoint.manifest.worldSize
        var parts: [String: [Tensor]] = [:]
        var order: [String] = []
        for rank in 0..<worldSize {
            let file = try checkpoint.tensors(CheckpointFiles.shardName(stem, rank: rank, worldSize: worldSize))
            let prefix = "\(stem)/rank-\(rank)/"
            for name in file.names {
                let short = String(name.dropFirst(prefix.count))
                guard name.hasPrefix(prefix), Self.entries.union(Self.counts).contains(short) else {
                    throw incompatible("what '\(stem)' keeps cannot be divided here: '\(name)'")
                }
                if parts[short] == nil { order.append(short) }
                parts[short, default: []].append(try file.tensor(name))
            }
        }
        return try (0..<ranks).map { rank in
            try order.map { name in
                let all = parts[name] ?? []
                let isCount = Self.counts.contains(name)
                guard let whole = isCount ? all.last : Self.joined(all) else {
                    throw incompatible("what '\(stem)' keeps differs in shape over the ranks: '\(name)'")
                }
                let tensor = isCount || rank == 0 ? whole : Tensor([0] + whole.shape.dropFirst(), dtype: whole.dtype)
                return CheckpointTensor("\(stem)/rank-\(rank)/\(name)", tensor)
            }
        }
    }

    /// One after the other along the first axis; nil where the others differ.
    private static func joined(_ parts: [Tensor]) -> Tensor? {
        guard let first = parts.first, !first.shape.isEmpty,
            parts.allSatisfy({ $0.dtype == first.dtype && $0.shape.dropFirst() == first.shape.dropFirst() })
        else { return nil }
        if parts.count == 1 { return first }
        let result = Tensor([parts.reduce(0) { $0 + $1.shape[0] }] + first.shape.dropFirst(), dtype: first.dtype)
        var row = 0
        for part in parts {
            let target = result.rows(row..<row + part.shape[0])
            target.bytes.copyMemory(from: UnsafeRawBufferPointer(part.bytes))
            row += part.shape[0]
        }
        return result
    }
}
