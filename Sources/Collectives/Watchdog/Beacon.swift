/// The datagrams of the watchdogs: fixed in size, read and written in place, so that a beacon allocates nothing.
///
/// All numbers are little-endian:
///
///     0  token (8)          16  step (8)         48  bytes (8)
///     8  kind (1)           24  started (8)      56  operation (24, UTF-8, zero-padded)
///     9  phase (1)          32  sequence (8)     80  label (80)
///     10 flags (2)          40  seconds (8)      160 host (64)
///     12 rank (4)
package enum Beacon {
    package static let byteCount = 224

    package enum Kind: UInt8, Sendable {
        /// A rank's position, to rank 0.
        case position = 1
        /// Rank 0's answer: it is alive.
        case heard = 2
        /// Rank 0's answer: a collective is overdue somewhere, report.
        case alarm = 3
    }

    struct Flags: OptionSet {
        let rawValue: UInt16
        static let waiting = Flags(rawValue: 1)
        /// This rank's collective has not returned in time, or has failed.
        static let overdue = Flags(rawValue: 2)
        /// The collective is one that no step waits for.
        static let behind = Flags(rawValue: 4)
        /// The rank is in such a one, be it this or not.
        static let inBehind = Flags(rawValue: 8)
    }

    /// What every datagram begins with.
    package struct Head: Sendable, Equatable {
        package var kind: Kind
        package var rank: Int
        package var isOverdue: Bool

        package init(kind: Kind, rank: Int, isOverdue: Bool) {
            self.kind = kind
            self.rank = rank
            self.isOverdue = isOverdue
        }
    }

    private enum Place {
        static let operation = 56..<80
        static let label = 80..<160
        static let host = 160..<224
    }

    // MARK: - Writing

    static func writeHead(
        _ kind: Kind, rank: Int, token: UInt64, flags: Flags = [], into buffer: UnsafeMutableRawBufferPointer
    ) {
        precondition(buffer.count == byteCount, "a beacon of \(buffer.count) bytes")
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        put(token, at: 0, buffer)
        buffer[8] = kind.rawValue
        put(flags.rawValue, at: 10, buffer)
        put(UInt32(rank), at: 12, buffer)
    }

    /// The position of a rank, straight from its ring.
    package static func write(
        rank: Int, host: String, token: UInt64, place: Whereabouts, started: UInt64, entry: CollectiveRing.Entry?,
        isInBehind: Bool = false, now: UInt64, isOverdue: Bool, into buffer: UnsafeMutableRawBufferPointer
    ) {
        var flags: Flags = isOverdue ? .overdue : []
        if isInBehind { flags.insert(.inBehind) }
        writeHead(.position, rank: rank, token: token, flags: flags, into: buffer)
        buffer[9] = place.phase.rawValue
        put(UInt64(bitPattern: Int64(place.step)), at: 16, buffer)
        put(started, at: 24, buffer)
        put(host, at: Place.host, buffer)
        guard let entry else { return }
        // Not asked of the optional: that is a comparison of copies, whose end allocates at its first use.
        flags.insert(entry.isBehind ? .waiting.union(.behind) : .waiting)
        put(flags.rawValue, at: 10, buffer)
        put(entry.sequence, at: 32, buffer)
        put(entry.seconds(now: now).bitPattern, at: 40, buffer)
        put(UInt64(bitPattern: Int64(entry.bytes)), at: 48, buffer)
        put(entry.operation, at: Place.operation, buffer)
        put(entry.label, at: Place.label, buffer)
    }

    private static func put<Value: FixedWidthInteger & BitwiseCopyable>(
        _ value: Value, at offset: Int, _ buffer: UnsafeMutableRawBufferPointer
    ) {
        buffer.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
    }

    private static func put(_ text: String, at place: Range<Int>, _ buffer: UnsafeMutableRawBufferPointer) {
        var offset = place.lowerBound
        for byte in text.utf8 {
            if offset == place.upperBound { break }
            buffer[offset] = byte
            offset += 1
        }
    }

    // MARK: - Reading

    /// Judges bytes from the network: nil for what is no datagram of this job.
    package static func head(_ bytes: UnsafeRawBufferPointer, token: UInt64, ranks: Int) -> Head? {
        guard bytes.count == byteCount, get(UInt64.self, at: 0, bytes) == token, let kind = Kind(rawValue: bytes[8])
        else { return nil }
        let rank = Int(get(UInt32.self, at: 12, bytes))
        guard rank < ranks else { return nil }
        let flags = Flags(rawValue: get(UInt16.self, at: 10, bytes))
        return Head(kind: kind, rank: rank, isOverdue: flags.contains(.overdue))
    }

    /// The position that a datagram with a good head holds.
    package static func position(_ bytes: UnsafeRawBufferPointer) -> Position {
        let flags = Flags(rawValue: get(UInt16.self, at: 10, bytes))
        var result = Position(
            rank: Int(get(UInt32.self, at: 12, bytes)), host: text(Place.host, bytes),
            phase: RunPhase(rawValue: bytes[9]) ?? .command,
            step: Int(Int64(bitPattern: get(UInt64.self, at: 16, bytes))), started: get(UInt64.self, at: 24, bytes),
            isInBehind: flags.contains(.inBehind))
        if flags.contains(.waiting) {
            result.waiting = Position.Waiting(
                sequence: get(UInt64.self, at: 32, bytes), operation: text(Place.operation, bytes),
                label: text(Place.label, bytes), bytes: Int(Int64(bitPattern: get(UInt64.self, at: 48, bytes))),
                seconds: Double(bitPattern: get(UInt64.self, at: 40, bytes)), isBehind: flags.contains(.behind))
        }
        return result
    }

    private static func get<Value: FixedWidthInteger & BitwiseCopyable>(
        _ type: Value.Type, at offset: Int, _ bytes: UnsafeRawBufferPointer
    ) -> Value {
        Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }

    /// Cut labels may end within a character; nothing that steers a terminal gets through.
    private static func text(_ place: Range<Int>, _ bytes: UnsafeRawBufferPointer) -> String {
        let raw = bytes[place].prefix { $0 != 0 }
        return String(decoding: raw.map { $0 < 0x20 || $0 == 0x7F ? UInt8(ascii: "?") : $0 }, as: UTF8.self)
    }
}
