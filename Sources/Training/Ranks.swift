package import Collectives
import FaceData
import Foundation

/// What went wrong on one rank, known to all: rank 0 prints it once, and every rank ends with the same code.
package struct RunFailure: Error, CustomStringConvertible {
    /// nil where all ranks came to it together.
    package let rank: Int?
    package let message: String
    package let exitCode: Int32

    package init(rank: Int?, message: String, exitCode: Int32) {
        self.rank = rank
        self.message = message
        self.exitCode = exitCode
    }

    /// What all ranks threw together.
    package init(_ error: any Error) {
        self.init(rank: nil, message: "\(error)", exitCode: ExitCode.of(error))
    }

    package var description: String { message }
}

extension Communicator {
    /// Runs `body` on every rank, then learns whether it succeeded everywhere: no rank goes on alone.
    ///
    /// - Parameter isCause: whether this rank's failure is one of its own, not the echo of another rank's; asked after
    ///   a failure.
    /// - Throws: `RunFailure` on every rank, of the lowest rank that failed by itself; errors of the collectives.
    package func together<T>(
        _ label: String, isCause: () -> Bool = { true }, _ body: () throws -> T
    ) throws -> T {
        let result = Result { try body() }
        var failed: Int64 = 0
        if case .failure(let error) = result {
            // A lost peer cannot be agreed upon.
            if error is CollectiveError { throw error }
            failed = Int64(size - rank + (isCause() ? size : 0))
        }
        try withUnsafeMutablePointer(to: &failed) {
            try allReduce(UnsafeMutableBufferPointer(start: $0, count: 1), .max, label)
        }
        if failed == 0 { return try result.get() }
        let culprit = (2 * size - Int(failed)) % size
        var code: Int32 = 0
        var text: [UInt8] = []
        if culprit == rank, case .failure(let error) = result {
            code = ExitCode.of(error)
            text = Array("\(error)".utf8)
        }
        var header = [Int64(code), Int64(text.count)]
        try header.withUnsafeMutableBytes { try broadcast($0, root: culprit, label) }
        text += [UInt8](repeating: 0, count: Int(header[1]) - text.count)
        try text.withUnsafeMutableBytes { try broadcast($0, root: culprit, label) }
        throw RunFailure(
            rank: culprit, message: String(decoding: text, as: UTF8.self), exitCode: Int32(header[0]))
    }

    /// The numbers of all ranks, in rank order, on rank 0; nil on the others.
    package func gather(_ values: [Float], _ label: String) throws -> [Float]? {
        let bytes = values.withUnsafeBytes { Array($0) }
        guard let parts = try gather(bytes, root: 0, label) else { return nil }
        return parts.flatMap { part in part.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) } }
    }

    /// What each rank says, in rank order, on rank 0; nil on the others. It travels as JSON.
    package func gather<Value: Codable>(coding value: Value, _ label: String) throws -> [Value]? {
        let bytes = [UInt8](try JSONEncoder().encode(value))
        guard let parts = try gather(bytes, root: 0, label) else { return nil }
        return try parts.map { try JSONDecoder().decode(Value.self, from: Data($0)) }
    }
}
