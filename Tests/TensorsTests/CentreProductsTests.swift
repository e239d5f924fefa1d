import CKernels
import Tensors
import Testing

/// Products of embeddings and class centres against their definitions in double.
@Suite(.serialized) struct CentreProductsTests {
    struct Size: Sendable {
        var rows: Int
        var columns: Int
        var centres: Int
    }

    /// Fewer than a register tile holds, exactly as many, some more; more than one panel, chunk and block of centres.
    static let sizes = [
        Size(rows: 1, columns: 64, centres: 1), Size(rows: 6, columns: 64, centres: 12),
        Size(rows: 7, columns: 128, centres: 5), Size(rows: 33, columns: 192, centres: 77),
        Size(rows: 64, columns: 512, centres: 150), Size(rows: 256, columns: 64, centres: 13),
    ]

    private static func close(_ values: [Float], _ expected: [Double], _ tolerance: Double) -> Bool {
        let scale = expected.reduce(1e-30) { max($0, abs($1)) }
        return values.count == expected.count
            && zip(values, expected).allSatisfy { abs(Double($0) - $1) <= tolerance * scale }
    }

    private static func packed(_ x: [Float], _ size: Size) -> Tensor {
        let packed = Tensor([CentreProducts.packedCount(rows: size.rows, columns: size.columns)])
        CentreProducts.pack(x, rows: size.rows, columns: size.columns, into: packed.pointer)
        return packed
    }

    @Test(arguments: sizes) func products(_ size: Size) {
        let (n, d, c) = (size.rows, size.columns, size.centres)
        let (x, w) = (randomFloats(n * d, 1), randomFloats(c * d, 2, std: 3))
        var expected = [Double](repeating: 0, count: n * c)
        for i in 0..<n {
            for j in 0..<c {
                expected[i * c + j] = (0..<d).reduce(0) { $0 + Double(x[i * d + $1]) * Double(w[j * d + $1]) }
            }
        }
        let lengths = (0..<c).map { j in
            1 / (0..<d).reduce(0) { $0 + Double(w[j * d + $1]) * Double(w[j * d + $1]) }.squareRoot()
        }
        let packed = Self.packed(x, size)
        onEachSet { pool, setting in
            // A number behind the last product must stay.
            var values = [Float](repeating: 7, count: n * c + 1)
            var inverse = [Float](repeating: 7, count: c + 1)
            CentreProducts.products(
                pool, packed: packed.pointer, rows: n, columns: d, centres: w, count: c, into: &values,
                inverse: &inverse)
            #expect(values.last == 7 && inverse.last == 7, "\(setting)")
            #expect(Self.close(Array(values.dropLast()), expected, 3e-6), "\(setting)")
            #expect(Self.close(Array(inverse.dropLast()), lengths, 1e-6), "\(setting)")
            var again = [Float](repeating: 0, count: n * c)
            CentreProducts.products(
                pool, packed: packed.pointer, rows: n, columns: d, centres: w, count: c, into: &again, inverse: nil)
            #expect(again == Array(values.dropLast()), "the same bits twice, \(setting)")
        }
    }

    @Test(arguments: sizes) func inputGradient(_ size: Size) {
        let (n, d, c) = (size.rows, size.columns, size.centres)
        let (g, w, old) = (randomFloats(n * c, 3), randomFloats(c * d, 4), randomFloats(n * d, 5))
        var expected = [Double](repeating: 0, count: n * d)
        for i in 0..<n {
            for j in 0..<c {
                for k in 0..<d { expected[i * d + k] += Double(g[i * c + j]) * Double(w[j * d + k]) }
            }
        }
        let added = zip(expected, old).map { $0 + Double($1) }
        onEachSet { pool, setting in
            var gradient = old + [7]
            CentreProducts.inputGradient(
                pool, g, rows: n, columns: d, centres: w, count: c, into: &gradient, accumulate: false)
            #expect(gradient.last == 7 && Self.close(Array(gradient.dropLast()), expected, 3e-6), "\(setting)")
            gradient = old
            CentreProducts.inputGradient(
                pool, g, rows: n, columns: d, centres: w, count: c, into: &gradient, accumulate: true)
            #expect(Self.close(gradient, added, 3e-6), "\(setting)")
        }
    }

    /// The gradient without its part along each centre, then the step; rows that are no target stay.
    @Test(arguments: sizes, [true, false]) func update(_ size: Size, isSparse: Bool) {
        let (n, d, c) = (size.rows, size.columns, size.centres)
        let all = isSparse ? 2 * c + 1 : c
        let (x, g) = (randomFloats(n * d, 6), randomFloats(n * c, 7, std: 0.1))
        let (p, v) = (randomFloats(all * d, 8), randomFloats(all * d, 9))
        let targets = isSparse ? (0..<c).map { Int32(2 * $0 + 1) } : nil
        for isProjected in [true, false] {
            var (parameters, velocity) = (p.map { Double($0) }, v.map { Double($0) })
            var inverses: [Float] = []
            for j in 0..<c {
                let row = (targets.map { Int($0[j]) } ?? j) * d
                var gradient = [Double](repeating: 0, count: d)
                for i in 0..<n {
                    for k in 0..<d { gradient[k] += Double(g[i * c + j]) * Double(x[i * d + k]) }
                }
                let squares = (0..<d).reduce(0) { $0 + parameters[row + $1] * parameters[row + $1] }
                inverses.append(Float(1 / squares.squareRoot()))
                let product = (0..<d).reduce(0) { $0 + parameters[row + $1] * gradient[$1] }
                let along = isProjected ? product / squares : 0
                for k in 0..<d {
                    velocity[row + k] =
                        0.9 * velocity[row + k] + gradient[k] + (0.05 - along) * parameters[row + k]
                    parameters[row + k] -= 0.1 * velocity[row + k]
                }
            }
            let packed = Self.packed(x, size)
            onEachSet { pool, setting in
                var (moved, speed) = (p, v)
                CentreProducts.update(
                    pool, packed: packed.pointer, g, rows: n, columns: d, count: c, parameters: &moved,
                    velocity: &speed, targets: targets, inverse: isProjected ? inverses : nil, rate: 0.1,
                    momentum: 0.9, decay: 0.05)
                #expect(Self.close(moved, parameters, 5e-6), "\(setting)")
                #expect(Self.close(speed, velocity, 5e-6), "\(setting)")
            }
        }
    }

    @Test func whatIsNotTaken() {
        #expect(CentreProducts.packedCount(rows: 257, columns: 64) == 0)
        #expect(CentreProducts.packedCount(rows: 8, columns: 96) == 0)
        #expect(CentreProducts.packedCount(rows: 8, columns: 1088) == 0)
        #expect(CentreProducts.packedCount(rows: 33, columns: 64) == 64 * 64 + 33 * 64)
    }
}
