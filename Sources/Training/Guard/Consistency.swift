package import Collectives
package import FaceData
import Tensors

/// Compares what all ranks must have alike, and names the ranks that differ.
package enum Consistency {
    /// What one rank has, as a hash and in words.
    package struct Fingerprint: Sendable, Equatable {
        package var hash: UInt64
        package var text: String

        package init(hash: UInt64, text: String = "") {
            self.hash = hash
            self.text = text
        }
    }

    /// Bytes of words that travel, host name and description together.
    private static let textBytes = 248

    /// Collective.
    ///
    /// - Parameters:
    ///   - what: "recipe", "data", …, for messages and labels.
    ///   - advice: what to do.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package static func check(
        _ what: String, _ own: Fingerprint, over communicator: any Communicator, exitCode: Int32, advice: String
    ) throws {
        guard communicator.size > 1 else { return }
        let all = try exchange(own, over: communicator)
        guard let reference = reference(all.map(\.hash)) else { return }
        let others = all.indices.filter { all[$0].hash != all[reference].hash }
        guard !others.isEmpty else { return }
        func describe(_ rank: Int) -> String { "rank \(rank) (\(all[rank].text))" }
        let shown = others.prefix(8).map(describe).joined(separator: ", ")
        let more = others.count > 8 ? " and \(others.count - 8) more" : ""
        throw RunFailure(
            rank: nil,
            message: "the ranks differ in their \(what): \(shown)\(more) from \(describe(reference)); \(advice)",
            exitCode: exitCode)
    }

    /// The lowest rank of those that most agree with: the others are named, not they.
    static func reference(_ hashes: [UInt64]) -> Int? {
        var counts: [UInt64: Int] = [:]
        for hash in hashes { counts[hash, default: 0] += 1 }
        guard let most = counts.values.max() else { return nil }
        return hashes.firstIndex { counts[$0] == most }
    }

    /// Every rank's fingerprint on every rank, its text after the host's name.
    private static func exchange(_ own: Fingerprint, over communicator: any Communicator) throws -> [Fingerprint] {
        let width = 8 + textBytes
        var block = [UInt8](repeating: 0, count: width)
        withUnsafeBytes(of: own.hash.littleEndian) { block.replaceSubrange(0..<8, with: $0) }
        let text = communicator.topology.hostName + (own.text.isEmpty ? "" : ": " + own.text)
        let bytes = Array(text.utf8.prefix(textBytes))
        block.replaceSubrange(8..<8 + bytes.count, with: bytes)
        var all = [UInt8](repeating: 0, count: width * communicator.size)
        try block.withUnsafeBytes { block in
            try all.withUnsafeMutableBytes { try communicator.allGather(block, into: $0, "consistency") }
        }
        return all.withUnsafeBytes { raw in
            (0..<communicator.size).map { rank in
                let start = rank * width
                let hash = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: start, as: UInt64.self))
                let text = raw[start + 8..<start + width].prefix { $0 != 0 }
                return Fingerprint(hash: hash, text: String(decoding: text, as: UTF8.self))
            }
        }
    }

    /// The host of every rank. Collective.
    static func hosts(_ communicator: any Communicator) throws -> [String] {
        try exchange(Fingerprint(hash: 0), over: communicator).map(\.text)
    }

    // MARK: - Hashes

    private static func mix(_ hash: UInt64, _ value: UInt64) -> UInt64 { (hash ^ value) &* 0x100_0000_01b3 }

    /// What a source holds, as far as it can be told without reading images: counts, all labels, some names. Where it lies
    /// does not count: hosts may have copies of their own.
    ///
    /// - Parameter recordKeys: with the keys of RecordIO, which an index that was rebuilt need not have.
    package static func fingerprint(_ source: any FaceSource, recordKeys: Bool = true) -> Fingerprint {
        var hash = "\(source.count) \(source.classCount)".stableHash
        for index in 0..<source.count { hash = mix(hash, UInt64(bitPattern: Int64(source.label(of: index)))) }
        let samples = 256
        for sample in 0..<min(samples, source.count) {
            let key = source.key(of: sample * source.count / min(samples, source.count))
            if !recordKeys, RecordIOSource.isNumber(key: key) { continue }
            hash = mix(hash, String(key.split(separator: "/").last ?? "").stableHash)
        }
        for sample in 0..<min(samples, source.classCount) {
            let name = source.identityName(sample * source.classCount / min(samples, source.classCount))
            hash = mix(hash, name.stableHash)
        }
        return Fingerprint(
            hash: hash, text: "\(source.count) images of \(source.classCount) identities in \(source.location)")
    }

    /// Of all bits of `values`, in four lanes, so that memory is the limit.
    package static func hash(_ values: UnsafeBufferPointer<Float>) -> UInt64 {
        let raw = UnsafeRawBufferPointer(values)
        func word(_ offset: Int) -> UInt64 { raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
        var (a, b, c, d) = (UInt64(1), UInt64(2), UInt64(3), UInt64(4))
        var offset = 0
        while offset + 32 <= raw.count {
            a = folded(a, word(offset))
            b = folded(b, word(offset + 8))
            c = folded(c, word(offset + 16))
            d = folded(d, word(offset + 24))
            offset += 32
        }
        var result = UInt64(values.count)
        for lane in [a, b, c, d] { result = folded(result, lane) }
        while offset < raw.count {
            result = folded(result, UInt64(raw[offset]))
            offset += 1
        }
        return result
    }

    /// A product carries upwards only: the high bits come down again, or two changed signs would cancel out.
    @inline(__always)
    private static func folded(_ hash: UInt64, _ word: UInt64) -> UInt64 {
        let product = (hash ^ word) &* 0x9E37_79B9_7F4A_7C15
        return product ^ product >> 32
    }
}
