internal import COpenMPI
package import Collectives
internal import Tensors

extension MPICommunicator {
    /// OpenMPI's non-blocking all-reduce takes temporary memory of the message's size, fresh from the system and zeroed
    /// page by page when it is larger than malloc keeps: one of 96 MiB is several times slower than six of 16 MiB.
    private static let largestReduction = 16 << 20

    /// One collective in the ring; `signature` is what the ranks must agree on.
    private func collective<Result>(
        _ operation: String, _ label: String, bytes: Int, _ signature: @autoclosure () -> String,
        _ body: () throws -> Result
    ) throws -> Result {
        try ring.record(channel: channel, operation: operation, label: label, bytes: bytes) {
            if options.checksAgreement && size > 1 {
                try checkAgreement("\(operation)(\(signature())) '\(label)'", label)
            }
            return try body()
        }
    }

    private func perform(_ call: MPICall, _ label: String) throws {
        try engine.perform(call, label, deadline: options.deadline, on: operation)
    }

    /// Throws `CollectiveError.mismatch` when the ranks are about to call different operations.
    private func checkAgreement(_ signature: String, _ label: String) throws {
        let width = 128
        var mine = Array(signature.utf8.prefix(width))
        mine += [UInt8](repeating: 0, count: width - mine.count)
        var all = [UInt8](repeating: 0, count: width * size)
        try mine.withUnsafeBytes { mine in
            try all.withUnsafeMutableBytes { try gatherBlocks(mine, into: $0, label) }
        }
        func text(_ rank: Int) -> String {
            String(decoding: all[rank * width..<(rank + 1) * width].prefix { $0 != 0 }, as: UTF8.self)
        }
        if let other = (1..<size).first(where: { text($0) != text(0) }) {
            throw CollectiveError.mismatch(
                label: label, detail: "rank 0 calls \(text(0)), rank \(other) calls \(text(other))")
        }
    }

    /// Ranges of at most `limit` elements that cover 0..<count.
    private struct Pieces: Sequence, IteratorProtocol {
        private let count: Int
        private let limit: Int
        private var start = 0

        init(_ count: Int, limit: Int) {
            self.count = count
            self.limit = Swift.max(1, limit)
        }

        mutating func next() -> Range<Int>? {
            guard start < count else { return nil }
            defer { start += limit }
            return start..<Swift.min(start + limit, count)
        }
    }

    package func barrier(_ label: String) throws {
        try collective("barrier", label, bytes: 0, "") { try perform(.barrier(handle), label) }
    }

    package func broadcast(_ bytes: UnsafeMutableRawBufferPointer, root: Int, _ label: String) throws {
        precondition((0..<size).contains(root), "rank \(root) of \(size)")
        try collective("broadcast", label, bytes: bytes.count, "\(bytes.count) bytes from \(root)") {
            for piece in Pieces(bytes.count, limit: options.pieceBytes) {
                let start = bytes.baseAddress! + piece.lowerBound
                try perform(.broadcast(start, bytes: Int32(piece.count), root: Int32(root), handle), label)
            }
        }
    }

    package func allReduce(
        _ values: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, _ label: String
    ) throws {
        try allReduceAny(values, acuity_mpi_float(), reduction, label)
    }

    package func allReduce(
        _ values: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction, _ label: String
    ) throws {
        try allReduceAny(values, acuity_mpi_double(), reduction, label)
    }

    package func allReduce(
        _ values: UnsafeMutableBufferPointer<Int64>, _ reduction: Reduction, _ label: String
    ) throws {
        try allReduceAny(values, acuity_mpi_int64(), reduction, label)
    }

    private func allReduceAny<Value>(
        _ values: UnsafeMutableBufferPointer<Value>, _ type: MPI_Datatype, _ reduction: Reduction, _ label: String
    ) throws {
        let stride = MemoryLayout<Value>.stride
        let operation: MPI_Op =
            switch reduction {
            case .sum: acuity_mpi_sum()
            case .max: acuity_mpi_max()
            case .min: acuity_mpi_min()
            }
        let bytes = values.count * stride
        try collective("allReduce", label, bytes: bytes, "\(reduction) of \(values.count) \(Value.self)") {
            if size == 1 { return }
            for piece in Pieces(values.count, limit: min(options.pieceBytes, Self.largestReduction) / stride) {
                let start = values.baseAddress! + piece.lowerBound
                try perform(.allReduce(start, count: Int32(piece.count), type, operation, handle), label)
            }
        }
    }

    package func allGather(
        _ block: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer, _ label: String
    ) throws {
        precondition(all.count == block.count * size, "allGather of \(block.count) bytes into \(all.count)")
        try collective("allGather", label, bytes: all.count, "\(block.count) bytes") {
            try gatherBlocks(block, into: all, label)
        }
    }

    private func gatherBlocks(
        _ block: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer, _ label: String
    ) throws {
        guard let source = block.baseAddress, let target = all.baseAddress else { return }
        let inPlace = source == UnsafeRawPointer(target + rank * block.count)
        for piece in Pieces(block.count, limit: options.pieceBytes / size) {
            let sent = inPlace ? acuity_mpi_in_place()! : source + piece.lowerBound
            let received = target + piece.lowerBound
            let bytes = Int32(piece.count)
            if piece.count == block.count {
                try perform(.allGather(sent, bytes: bytes, received, count: bytes, acuity_mpi_byte(), handle), label)
            } else {
                try withStridedType(pieceBytes: bytes, strideBytes: block.count, label) { type in
                    try perform(.allGather(sent, bytes: bytes, received, count: 1, type, handle), label)
                }
            }
        }
    }

    /// A type of `pieceBytes` bytes, of which the next one starts `strideBytes` later.
    private func withStridedType(
        pieceBytes: Int32, strideBytes: Int, _ label: String, _ body: (MPI_Datatype) throws -> Void
    ) throws {
        final class Made: @unchecked Sendable { var contiguous, strided: MPI_Datatype? }
        let made = Made()
        let make = MPICall.other { _ in
            var code = MPI_Type_contiguous(pieceBytes, acuity_mpi_byte(), &made.contiguous)
            if code == MPI_SUCCESS { code = MPI_Type_create_resized(made.contiguous, 0, strideBytes, &made.strided) }
            if code == MPI_SUCCESS { code = MPI_Type_commit(&made.strided) }
            return code
        }
        let free = MPICall.other { _ in
            let code = MPI_Type_free(&made.strided)
            return code == MPI_SUCCESS ? MPI_Type_free(&made.contiguous) : code
        }
        try perform(make, label)
        try body(made.strided!)
        try perform(free, label)
    }

    package func reduceScatter(
        _ values: UnsafeBufferPointer<Float>, into block: UnsafeMutableBufferPointer<Float>, _ label: String
    ) throws {
        precondition(values.count == block.count * size, "reduceScatter of \(values.count) into \(block.count) values")
        try collective("reduceScatter", label, bytes: values.count * 4, "\(values.count) values") {
            guard let source = values.baseAddress, let target = block.baseAddress else { return }
            // Every value travels once and is summed in rank order; OpenMPI's non-blocking call sends all to one rank.
            let bytes = block.count * MemoryLayout<Float>.stride
            let received = received(byteCount: bytes * size)
            try swapBlocks(UnsafeRawPointer(source), received, byteCount: bytes, label)
            let blocks = received.assumingMemoryBound(to: Float.self)
            target.update(from: blocks, count: block.count)
            for rank in 1..<max(size, 1) {
                let values = blocks + rank * block.count
                for i in 0..<block.count { target[i] += values[i] }
            }
        }
    }

    /// Memory for the blocks of all ranks, kept for the next call.
    private func received(byteCount: Int) -> UnsafeMutableRawPointer {
        if receivedBlocks.byteCount < byteCount { receivedBlocks = AlignedBuffer(byteCount: byteCount) }
        return receivedBlocks.base
    }

    package func allToAll(
        _ blocks: UnsafeRawBufferPointer, into received: UnsafeMutableRawBufferPointer, _ label: String
    ) throws {
        precondition(
            blocks.count == received.count && blocks.count % size == 0,
            "allToAll of \(blocks.count) bytes into \(received.count) on \(size) ranks")
        let block = blocks.count / size
        try collective("allToAll", label, bytes: blocks.count, "\(block) bytes") {
            guard let source = blocks.baseAddress, let target = received.baseAddress else { return }
            try swapBlocks(source, target, byteCount: block, label)
        }
    }

    /// Sends block r to rank r and receives a block from each.
    private func swapBlocks(
        _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, byteCount block: Int, _ label: String
    ) throws {
        for piece in Pieces(block, limit: options.pieceBytes / size) {
            let bytes = Int32(piece.count)
            let (sent, got) = (source + piece.lowerBound, target + piece.lowerBound)
            if piece.count == block {
                try perform(.allToAll(sent, got, count: bytes, acuity_mpi_byte(), handle), label)
            } else {
                try withStridedType(pieceBytes: bytes, strideBytes: block, label) { type in
                    try perform(.allToAll(sent, got, count: 1, type, handle), label)
                }
            }
        }
    }

    package func gather(_ bytes: [UInt8], root: Int, _ label: String) throws -> [[UInt8]]? {
        precondition((0..<size).contains(root), "rank \(root) of \(size)")
        return try collective("gather", label, bytes: bytes.count, "to \(root)") {
            var mine = Int64(bytes.count)
            var sizes = [Int64](repeating: 0, count: size)
            try withUnsafeBytes(of: &mine) { mine in
                try sizes.withUnsafeMutableBytes { try gatherBlocks(mine, into: $0, label) }
            }
            var gathered = rank == root ? sizes.map { [UInt8](repeating: 0, count: Int($0)) } : nil
            let most = sizes.map(Int.init).max() ?? 0
            for piece in Pieces(most, limit: options.pieceBytes / size) {
                try gatherPiece(piece, of: bytes, sizes: sizes.map(Int.init), root: root, into: &gathered, label)
            }
            return gathered
        }
    }

    /// The part of every rank's bytes that lies in `piece`.
    private func gatherPiece(
        _ piece: Range<Int>, of bytes: [UInt8], sizes: [Int], root: Int, into gathered: inout [[UInt8]]?,
        _ label: String
    ) throws {
        let parts = sizes.map { piece.clamped(to: 0..<$0) }
        let counts = parts.map { Int32($0.count) }
        var offsets: [Int32] = []
        var total: Int32 = 0
        for count in counts {
            offsets.append(total)
            total += count
        }
        let received = UnsafeMutableRawBufferPointer.allocate(
            byteCount: rank == root ? max(1, Int(total)) : 1, alignment: 16)
        defer { received.deallocate() }
        let handle = handle
        let own = parts[rank]
        try bytes.withUnsafeBytes { bytes in
            try counts.withUnsafeBufferPointer { counts in
                try offsets.withUnsafeBufferPointer { offsets in
                    let start = bytes.baseAddress.map { $0 + own.lowerBound }
                    let call = MPICall.other {
                        MPI_Igatherv(
                            start, Int32(own.count), acuity_mpi_byte(), received.baseAddress, counts.baseAddress,
                            offsets.baseAddress, acuity_mpi_byte(), Int32(root), handle, $0)
                    }
                    try perform(call, label)
                }
            }
        }
        guard rank == root else { return }
        for (source, part) in parts.enumerated() where !part.isEmpty {
            let start = Int(offsets[source])
            gathered![source].replaceSubrange(part, with: received[start..<start + part.count])
        }
    }
}
