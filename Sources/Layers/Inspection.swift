internal import CKernels

/// What a pass has found in one layer, for somebody who looks for the first value that is not finite.
package struct Inspection: Sendable, Equatable {
    package enum Pass: String, Sendable { case forward, backward }

    /// An element of a feature map.
    package struct Place: Sendable, Equatable, CustomStringConvertible {
        package var image: Int
        package var channel: Int
        package var row: Int
        package var column: Int

        package var description: String { "image \(image), channel \(channel), row \(row), column \(column)" }
    }

    package var pass: Pass
    /// Of the graph.
    package var step: Int
    /// The first element of the layer's output (forward), or of the gradients of its inputs (backward), that is not finite.
    package var place: Place?
}

extension Inspection.Place {
    /// The first element of a map that is not finite; nil where all are. A map without data belongs to a norm that its
    /// readers apply.
    init?(firstNonFiniteOf map: ak_map) {
        guard let data = map.data else { return nil }
        let count = Int(map.n) * Int(map.image)
        let found: Int?
        if map.dtype == AK_F32 {
            let values = UnsafeBufferPointer(start: data.assumingMemoryBound(to: Float.self), count: count)
            found = values.firstIndex { !$0.isFinite }
        } else {
            let patterns = UnsafeBufferPointer(start: data.assumingMemoryBound(to: UInt16.self), count: count)
            found = patterns.firstIndex { $0 & 0x7F80 == 0x7F80 }
        }
        guard let found else { return nil }
        let (image, rest) = found.quotientAndRemainder(dividingBy: Int(map.image))
        let (block, inBlock) = rest.quotientAndRemainder(dividingBy: Int(map.block))
        let (row, inRow) = inBlock.quotientAndRemainder(dividingBy: Int(map.row))
        self.init(image: image, channel: block * 16 + inRow % 16, row: row, column: inRow / 16)
    }
}

extension Inspection {
    init(_ pass: Pass, _ step: Int, _ maps: [ak_map]) {
        self.init(
            pass: pass, step: step, place: maps.lazy.compactMap { Place(firstNonFiniteOf: $0) }.first)
    }
}

extension Operands {
    /// Where backward has left gradients of inputs.
    var writtenGradients: [ak_map] {
        targets.compactMap { target in
            switch target {
            case .write(let map), .add(let map): map
            case .none, .shared, .chained: nil
            }
        }
    }
}
