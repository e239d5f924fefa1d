import Artifacts
import Tensors
import Testing

/// A small training state whose values name the step and the row, sharded over the ranks as training does.
struct CheckpointFixture: Sendable {
    struct State: Codable, Equatable {
        var step: Int
        var seed: UInt64
        var quarantine: [String]
        var loss: Double
    }

    static let run = "/jobs/run"
    static let classes = 11
    static let columns = 3
    static let hash = String(repeating: "ab", count: 32)

    let step: Int

    init(_ step: Int) { self.step = step }

    var state: State {
        State(step: step, seed: .max - 1, quarantine: ["faces/å \"1\".jpg"], loss: .infinity)
    }

    static func rows(_ rank: Int, of worldSize: Int) -> Range<Int> {
        classes * rank / worldSize..<classes * (rank + 1) / worldSize
    }

    func centres(_ rows: Range<Int>) -> Tensor {
        .numbered(rows: rows, columns: Self.columns, base: Float(step) * 100_000)
    }

    func write(_ files: CheckpointFiles) throws {
        let rows = Self.rows(files.rank, of: files.worldSize)
        let shard = ShardRows(rows, of: Self.classes)
        try files.addShard(
            "head",
            [
                CheckpointTensor("head/centres", centres(rows), rows: shard),
                CheckpointTensor("head/momentum", .numbered(rows: rows, columns: 1), rows: shard),
            ])
        if files.rank == 0 {
            try files.addTensors("model.safetensors", [CheckpointTensor("w", Tensor([2], [Float(step), 1]))])
            try files.addState(state)
        }
    }

    @discardableResult
    func save(
        _ fileSystem: any FileSystem, run: String = run, ranks: CheckpointCoordination = .alone,
        retention: RetentionPolicy = RetentionPolicy(keepLast: 2), best: Bool = false
    ) throws -> CommittedCheckpoint {
        try CheckpointStore(runFolder: run, fileSystem: fileSystem).save(
            step: step, configHash: Self.hash, retention: retention, best: best, with: ranks, write)
    }

    /// Whether the checkpoint holds just this step.
    func check(_ checkpoint: Checkpoint) throws {
        #expect(checkpoint.step == step && checkpoint.manifest.configHash == Self.hash)
        #expect(try checkpoint.state(State.self) == state)
        #expect(try checkpoint.tensors("model.safetensors").tensor("w").values == [Float(step), 1])
        let all = 0..<Self.classes
        #expect(try checkpoint.readRows("head/centres", all).values == centres(all).values)
        #expect(checkpoint.verify().isEmpty)
    }
}

func openLatest(_ fileSystem: any FileSystem, run: String = CheckpointFixture.run) throws -> OpenedCheckpoint {
    try CheckpointStore(runFolder: run, fileSystem: fileSystem).open()
}

/// All bytes of a file.
func contents(_ file: any ReadableFile) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: file.byteCount)
    try bytes.withUnsafeMutableBytes { try file.read(at: 0, into: $0) }
    return bytes
}

extension String {
    func replacingFirst(_ old: String, with new: String) -> String {
        guard let range = firstRange(of: old) else { return self }
        return replacingCharacters(in: range, with: new)
    }

    private func firstRange(of other: String) -> Range<String.Index>? {
        indices.first { self[$0...].hasPrefix(other) }.map { $0..<index($0, offsetBy: other.count) }
    }

    private func replacingCharacters(in range: Range<String.Index>, with new: String) -> String {
        String(self[..<range.lowerBound]) + new + String(self[range.upperBound...])
    }
}
