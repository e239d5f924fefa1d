/// Byte offsets of records, multiples of 4, in the order in which they are added: 4 bytes each while neighbours lie within
/// 8 GiB of each other, which only an index in random order breaks; then 8 bytes each.
struct OffsetTable: Sendable {
    private static let blockBits = 8

    /// The first offset of each block of 256.
    private var bases: [UInt64] = []
    /// From it, in units of 4 bytes.
    private var deltas: [Int32] = []
    /// All offsets themselves, once a distance was too long for a delta.
    private var wide: [UInt64]?

    var count: Int { wide?.count ?? deltas.count }

    /// For messages and tests.
    var byteCount: Int { 8 * bases.capacity + 4 * deltas.capacity + 8 * (wide?.capacity ?? 0) }

    mutating func reserveCapacity(_ count: Int) {
        if wide != nil { return }
        deltas.reserveCapacity(count)
        bases.reserveCapacity(count >> Self.blockBits + 1)
    }

    /// - Precondition: a multiple of 4.
    mutating func append(_ offset: UInt64) {
        precondition(offset % 4 == 0, "offset \(offset)")
        if wide != nil {
            wide!.append(offset)
            return
        }
        if deltas.count & (1 << Self.blockBits - 1) == 0 { bases.append(offset) }
        let base = bases[bases.count - 1]
        let isAfter = offset >= base
        let distance = (isAfter ? offset - base : base - offset) / 4
        guard distance <= UInt64(Int32.max) else {
            var all: [UInt64] = []
            all.reserveCapacity(2 * deltas.count)
            for slot in 0..<deltas.count { all.append(self[slot]) }
            all.append(offset)
            wide = all
            (bases, deltas) = ([], [])
            return
        }
        deltas.append(isAfter ? Int32(distance) : -Int32(distance))
    }

    subscript(slot: Int) -> UInt64 {
        if let wide { return wide[slot] }
        return UInt64(Int64(bases[slot >> Self.blockBits]) + 4 * Int64(deltas[slot]))
    }
}
