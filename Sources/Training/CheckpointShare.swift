import Artifacts
import Tensors

/// What one rank puts into a checkpoint, before it is written: views of the live state, or copies of it.
struct CheckpointShare: Sendable {
    struct File: Sendable {
        let name: String
        var tensors: [CheckpointTensor]
        var metadata: [String: String] = [:]
    }

    var files: [File] = []
    /// Rank 0's; nil on the others.
    var state: RunState?

    /// Of all tensors, each on a cache line of its own.
    var byteCount: Int {
        files.reduce(0) { sum, file in sum + file.tensors.reduce(0) { $0 + CheckpointSnapshot.room($1.tensor) } }
    }
}

/// Memory for a copy of a rank's share, kept from one checkpoint to the next.
final class CheckpointSnapshot {
    private var buffer: AlignedBuffer?
    /// Tensors from this size on are copied by all threads.
    private static let large = 1 << 20

    static func room(_ tensor: Tensor) -> Int { (tensor.byteCount + 63) / 64 * 64 }

    /// Copies a share. The copy is valid until the next one is taken.
    func take(_ share: CheckpointShare, _ pool: ThreadPool) -> CheckpointShare {
        let buffer = memory(share.byteCount)
        var result = share
        var offset = 0
        for file in share.files.indices {
            result.files[file].tensors = share.files[file].tensors.map { entry in
                let source = entry.tensor
                let copy = Tensor(source.shape, dtype: source.dtype, buffer: buffer, byteOffset: offset)
                offset += Self.room(source)
                Self.copy(source, to: copy, pool)
                return CheckpointTensor(entry.name, copy, rows: entry.rows)
            }
        }
        return result
    }

    /// Grows only with what the run keeps (queues fill up); the old memory goes first.
    private func memory(_ byteCount: Int) -> AlignedBuffer {
        if let buffer, buffer.byteCount >= byteCount { return buffer }
        buffer = nil
        let new = AlignedBuffer(byteCount: byteCount)
        buffer = new
        return new
    }

    private static func copy(_ source: Tensor, to target: Tensor, _ pool: ThreadPool) {
        let count = source.byteCount
        if count < large {
            target.bytes.copyMemory(from: UnsafeRawBufferPointer(source.bytes))
            return
        }
        let (from, to) = (UnsafeRawBufferPointer(source.bytes), target.bytes)
        pool.forEachRange(count) { part in
            UnsafeMutableRawBufferPointer(rebasing: to[part])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: from[part]))
        }
    }
}
