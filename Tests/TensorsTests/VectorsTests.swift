import CKernels
import Tensors
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

@Suite(.serialized)
struct VectorsTests {
    static let counts = [0, 1, 15, 16, 17, 31, 33, 100, 1000, 4099]

    /// A vector that starts at an odd address, so that no kernel relies on alignment.
    private static func vector(_ values: [Float]) -> Tensor {
        let whole = Tensor([values.count + 1])
        let view = Tensor([values.count], buffer: whole.buffer, byteOffset: 4)
        _ = view.floats.update(fromContentsOf: values)
        return view
    }

    @Test(arguments: counts)
    func sumOfSquares(count: Int) {
        let values = randomFloats(count, 1, mean: 3)
        let expected = values.reduce(0) { $0 + Double($1) * Double($1) }
        let x = Self.vector(values)
        onEachSet { pool, setting in
            let sum = Vectors.sumSquares(pool, x.floats)
            #expect(abs(sum - expected) <= 1e-13 * expected, "\(setting)")
            #expect(Vectors.sumSquares(pool, x.floats) == sum, "same bits twice, \(setting)")
        }
    }

    /// Squares beyond fp32's range still sum.
    @Test func sumOfLargeSquares() {
        let x = Self.vector([Float](repeating: 1e30, count: 50))
        onEachSet { pool, _ in
            #expect(
                abs(Vectors.sumSquares(pool, x.floats) / (50 * Double(Float(1e30)) * Double(Float(1e30))) - 1) < 1e-12)
        }
    }

    /// The gradient without its part along the row, then the step.
    @Test(arguments: [1, 15, 16, 40, 512]) func sgdOfCentres(columns: Int) {
        let rows = 5
        let (p, v, g) = (randomFloats(rows * columns, 5), randomFloats(rows * columns, 6), randomFloats(3 * columns, 7))
        let targets: [Int32] = [4, 0, 3]
        for isProjected in [true, false] {
            var (parameters, velocity) = (p.map { Double($0) }, v.map { Double($0) })
            var inverses: [Float] = []
            for (source, target) in targets.enumerated() {
                let own = Int(target) * columns..<(Int(target) + 1) * columns
                let squares = own.reduce(0) { $0 + parameters[$1] * parameters[$1] }
                inverses.append(Float(1 / squares.squareRoot()))
                let product = own.enumerated().reduce(0) { $0 + parameters[$1.1] * Double(g[source * columns + $1.0]) }
                let along = isProjected ? product / squares : 0
                for (j, i) in own.enumerated() {
                    velocity[i] = 0.9 * velocity[i] + Double(g[source * columns + j]) + (0.05 - along) * parameters[i]
                    parameters[i] -= 0.1 * velocity[i]
                }
            }
            onEachSet { _, setting in
                let (moved, speed) = (Self.vector(p), Self.vector(v))
                Vectors.sgdCentres(
                    parameters: moved.pointer, velocity: speed.pointer, gradient: g, targets: targets,
                    inverse: isProjected ? inverses : nil, rows: 3, columns: columns, rate: 0.1, momentum: 0.9,
                    decay: 0.05)
                for i in 0..<rows * columns {
                    #expect(abs(Double(moved.floats[i]) - parameters[i]) < 1e-5, "\(setting)")
                    #expect(abs(Double(speed.floats[i]) - velocity[i]) < 1e-5, "\(setting)")
                }
            }
        }
    }

    /// Rows in any order, and rows without a gradient, move as the same rows do in one vector.
    @Test(arguments: [1, 15, 16, 40]) func sgdOfRowsIsThatOfTheVector(columns: Int) {
        let rows = 9
        let (p, v, g) = (randomFloats(rows * columns, 2), randomFloats(rows * columns, 3), randomFloats(4 * columns, 4))
        let targets: [Int32] = [7, 2, 0, 5]
        let sources = (0..<Int32(rows)).map { row in targets.firstIndex(of: row).map(Int32.init) ?? -1 }
        func whole(_ pool: ThreadPool, touched: (Int) -> Bool) -> (p: [Float], v: [Float]) {
            var gradient = [Float](repeating: 0, count: rows * columns)
            for (source, target) in targets.enumerated() {
                gradient.replaceSubrange(
                    Int(target) * columns..<(Int(target) + 1) * columns,
                    with: g[source * columns..<(source + 1) * columns])
            }
            var (p, v) = (p, v)
            for row in 0..<rows where touched(row) {
                let range = row * columns..<(row + 1) * columns
                p.withUnsafeMutableBufferPointer { p in
                    v.withUnsafeMutableBufferPointer { v in
                        gradient.withUnsafeMutableBufferPointer { g in
                            Vectors.sgd(
                                pool, parameters: .init(rebasing: p[range]), velocity: .init(rebasing: v[range]),
                                gradient: .init(rebasing: g[range]), rate: 0.1, momentum: 0.9, decay: 0.05)
                        }
                    }
                }
            }
            return (p, v)
        }
        onEachSet { pool, setting in
            for isSparse in [true, false] {
                let (parameters, velocity) = (Self.vector(p), Self.vector(v))
                Vectors.sgdRows(
                    pool, parameters: parameters.pointer, velocity: velocity.pointer, gradient: g,
                    targets: isSparse ? targets : nil, sources: isSparse ? nil : sources,
                    rows: isSparse ? 4 : rows, columns: columns, rate: 0.1, momentum: 0.9, decay: 0.05)
                let expected = whole(pool) { !isSparse || targets.contains(Int32($0)) }
                #expect(Array(parameters.floats) == expected.p && Array(velocity.floats) == expected.v, "\(setting)")
            }
        }
    }

    @Test(arguments: counts)
    func sgdIsPyTorchs(count: Int) {
        let (p, v, g) = (randomFloats(count, 2), randomFloats(count, 3), randomFloats(count, 4))
        onEachSet { pool, setting in
            let (parameters, velocity, gradient) = (Self.vector(p), Self.vector(v), Self.vector(g))
            for _ in 0..<2 {
                Vectors.sgd(
                    pool, parameters: parameters.floats, velocity: velocity.floats, gradient: gradient.floats,
                    scale: 0.5,
                    rate: 0.1, momentum: 0.9, decay: 5e-4)
            }
            var (expectedP, expectedV) = (p.map { Double($0) }, v.map { Double($0) })
            for _ in 0..<2 {
                for i in 0..<count {
                    expectedV[i] = 0.9 * expectedV[i] + 0.5 * Double(g[i]) + 5e-4 * expectedP[i]
                    expectedP[i] -= 0.1 * expectedV[i]
                }
            }
            #expect(relativeError(parameters.floats.map { Double($0) }, expectedP) < 1e-6, "\(setting)")
            #expect(relativeError(velocity.floats.map { Double($0) }, expectedV) < 1e-6, "\(setting)")
            #expect(gradient.floats.elementsEqual(g), "\(setting)")
        }
    }

    /// Against the definition in double, over enough steps that both corrections of the start matter.
    @Test(arguments: counts)
    func adamIsPyTorchs(count: Int) {
        let constants = Vectors.AdamConstants(beta1: 0.8, beta2: 0.99, epsilon: 1e-3)
        let gradients = (0..<3).map { randomFloats(count, 3 + UInt64($0)) }
        let start = randomFloats(count, 2)
        var (p, m, s) = (
            start.map { Double($0) }, [Double](repeating: 0, count: count), [Double](repeating: 0, count: count)
        )
        for (step, gradient) in gradients.enumerated() {
            let corrections = (1 - pow(0.8, Double(step + 1)), 1 - pow(0.99, Double(step + 1)))
            for i in 0..<count {
                let g = 0.5 * Double(gradient[i]) + 0.01 * p[i]
                m[i] = 0.8 * m[i] + 0.2 * g
                s[i] = 0.99 * s[i] + 0.01 * g * g
                p[i] -= 0.1 * (m[i] / corrections.0) / ((s[i] / corrections.1).squareRoot() + 1e-3)
            }
        }
        onEachSet { pool, setting in
            let none = [Float](repeating: 0, count: count)
            let (parameters, means, squares) = (Self.vector(start), Self.vector(none), Self.vector(none))
            for (step, values) in gradients.enumerated() {
                let gradient = Self.vector(values)
                Vectors.adam(
                    pool, parameters: parameters.floats, means: means.floats, squares: squares.floats,
                    gradient: gradient.floats, scale: 0.5, rate: 0.1, constants, decay: 0.01, step: step + 1)
                #expect(gradient.floats.elementsEqual(values), "\(setting)")
            }
            #expect(relativeError(parameters.floats.map { Double($0) }, p) < 1e-5, "\(setting)")
            #expect(relativeError(means.floats.map { Double($0) }, m) < 1e-6, "\(setting)")
            #expect(relativeError(squares.floats.map { Double($0) }, s) < 1e-6, "\(setting)")
        }
    }

    /// PyTorch's Adam with its defaults, a rate of 3.5e-4 and a decay of 5e-4, from 1: three steps.
    @Test func adamFollowsPyTorchsNumbers() {
        let (p, m, s) = (Tensor([1], [1]), Tensor([1]), Tensor([1]))
        let expected = [0.999650000007, 0.999528641217, 0.999395389595]
        let gradients = Tensor([3], [0.5, -0.2, 0.1])
        for step in 0..<3 {
            Vectors.adam(
                ThreadPool(threads: 1), parameters: p.floats, means: m.floats, squares: s.floats,
                gradient: gradients.rows(step..<step + 1).floats, rate: 3.5e-4, .init(), decay: 5e-4, step: step + 1)
            #expect(abs(Double(p.floats[0]) - expected[step]) < 1e-7)
        }
        withExtendedLifetime(gradients) {}
    }

    @Test(arguments: counts)
    func accumulateAndScale(count: Int) {
        let (a, b) = (randomFloats(count, 5), randomFloats(count, 6))
        onEachSet { pool, setting in
            let (x, y) = (Self.vector(a), Self.vector(b))
            Vectors.accumulate(pool, x.floats, into: y.floats)
            #expect(y.floats.elementsEqual(zip(a, b).map { $0 + $1 }), "\(setting)")
            Vectors.scale(pool, x.floats, by: 0.75)
            #expect(x.floats.elementsEqual(a.map { $0 * 0.75 }), "\(setting)")
        }
    }

    @Test(arguments: [1, 16, 37, 1000])
    func finiteness(count: Int) {
        let x = Self.vector(randomFloats(count, 7, std: 1e30))
        onEachSet { pool, setting in
            #expect(Vectors.allFinite(pool, x.floats), "\(setting)")
            for place in [0, count / 2, count - 1] {
                for bad in [Float.infinity, -.infinity, .nan, -.nan] {
                    let kept = x.floats[place]
                    x.floats[place] = bad
                    #expect(!Vectors.allFinite(pool, x.floats), "\(bad) at \(place), \(setting)")
                    x.floats[place] = kept
                }
            }
        }
        let edges = Self.vector([.greatestFiniteMagnitude, -.greatestFiniteMagnitude, .leastNonzeroMagnitude, -0.0])
        #expect(Vectors.allFinite(ThreadPool(threads: 1), edges.floats))
    }

    @Test func bfloat16RoundsToNearestEven() {
        var values: [Float] = [
            0, -0.0, 1, -1, .infinity, -.infinity, .greatestFiniteMagnitude, .leastNonzeroMagnitude,
            Float(bitPattern: 0x3F80_8000), Float(bitPattern: 0x3F81_8000), Float(bitPattern: 0x3F80_8001),
            Float(bitPattern: 0x3F80_7FFF), Float(bitPattern: 0x7F7F_8000), Float(bitPattern: 0x0000_8001),
        ]
        values += randomFloats(1001, 8, std: 100)
        // The first five are worth spelling out: ties go to the even neighbour, and the largest values to infinity.
        #expect(
            bfloat16Bits(values[8]) == 0x3F80 && bfloat16Bits(values[9]) == 0x3F82 && bfloat16Bits(values[10]) == 0x3F81
        )
        #expect(bfloat16Bits(values[12]) == 0x7F80)
        onEachSet { pool, setting in
            let x = Self.vector(values)
            var bits = [UInt16](repeating: 0, count: values.count)
            let back = Self.vector(values)
            bits.withUnsafeMutableBufferPointer { bits in
                Vectors.bfloat16(pool, x.floats, into: bits)
                Vectors.float32(pool, bits, into: back.floats)
            }
            #expect(bits == values.map { bfloat16Bits($0) }, "\(setting)")
            #expect(back.floats.elementsEqual(bits.map { Float(bitPattern: UInt32($0) << 16) }), "\(setting)")
            // NaN with a payload only in the bits that are dropped must not become infinity.
            let nan = Self.vector([Float](repeating: Float(bitPattern: 0x7F80_0001), count: 19))
            var nanBits = [UInt16](repeating: 0, count: 19)
            nanBits.withUnsafeMutableBufferPointer { Vectors.bfloat16(pool, nan.floats, into: $0) }
            #expect(nanBits.allSatisfy { Float(bitPattern: UInt32($0) << 16).isNaN }, "\(setting)")
        }
    }

    // MARK: Rows

    struct Matrix: Sendable {
        var rows: Int
        var columns: Int
        var stride: Int
    }

    /// Few long rows are cut between threads, many short ones are not; rows of no columns and odd strides occur.
    static let matrices = [
        Matrix(rows: 1, columns: 1, stride: 1), Matrix(rows: 3, columns: 37, stride: 41),
        Matrix(rows: 2, columns: 5003, stride: 5010), Matrix(rows: 50, columns: 130, stride: 130),
        Matrix(rows: 1, columns: 20_000, stride: 20_000), Matrix(rows: 4, columns: 0, stride: 3),
    ]

    @Test(arguments: matrices)
    func softmaxOfRows(matrix: Matrix) {
        let values = randomFloats(matrix.rows * matrix.stride, 9, std: 20)
        onEachSet { pool, setting in
            let x = Tensor([values.count], values)
            let (maxima, sums) = (Tensor([matrix.rows]), Tensor([matrix.rows]))
            Rows.maximum(
                pool, x.pointer, rows: matrix.rows, columns: matrix.columns, stride: matrix.stride, into: maxima.floats)
            for i in 0..<matrix.rows {
                let row = values[i * matrix.stride..<i * matrix.stride + matrix.columns]
                #expect(maxima.floats[i] == row.max() ?? -.infinity, "\(setting)")
            }
            if matrix.columns == 0 { maxima.fill(0) }
            Rows.expSum(
                pool, x.pointer, rows: matrix.rows, columns: matrix.columns, stride: matrix.stride,
                minus: maxima.floats,
                into: sums.floats)
            for i in 0..<matrix.rows {
                var total = 0.0
                for j in 0..<matrix.stride {
                    let at = i * matrix.stride + j
                    if j >= matrix.columns {
                        #expect(x.floats[at] == values[at], "between rows, \(setting)")
                        continue
                    }
                    let expected = exp(Double(values[at] - maxima.floats[i]))
                    total += expected
                    #expect(abs(Double(x.floats[at]) - expected) <= 2.5e-7 * expected + 1e-44, "\(setting)")
                }
                #expect(abs(Double(sums.floats[i]) - total) <= 1e-6 * total, "\(setting)")
            }
        }
    }

    /// All of exp's range, in units in the last place of the exact value.
    @Test func exponentialIsWithinTwoUlps() {
        let inputs =
            stride(from: -104.5, to: 88.72, by: 0.0037).map { Float($0) } + [0, -0.0, 1, -1, 88.722, 0.34657359]
        onEachSet(threads: [2]) { pool, setting in
            let x = Tensor([inputs.count], inputs)
            let (zero, sum) = (Tensor([1]), Tensor([1]))
            Rows.expSum(
                pool, x.pointer, rows: 1, columns: inputs.count, stride: inputs.count, minus: zero.floats,
                into: sum.floats)
            var worst = 0.0
            for (input, result) in zip(inputs, x.floats) {
                let exact = exp(Double(input))
                let unit = max(Double(Float(exact).ulp), Double(Float.leastNonzeroMagnitude))
                worst = max(worst, abs(Double(result) - exact) / unit)
            }
            #expect(worst <= 2, "\(worst) ulps, \(setting)")
        }
    }

    @Test func exponentialAtTheEnds() {
        let inputs: [Float] = [-.infinity, -1e30, -200, -105, 89, 1e30, .infinity, .nan, 0]
        onEachSet(threads: [1]) { pool, setting in
            // Once in the tail, once in whole vectors.
            for copies in [1, 16] {
                let all = [[Float]](repeating: inputs, count: copies).flatMap { $0 }
                let x = Tensor([all.count], all)
                let (zero, sum) = (Tensor([1]), Tensor([1]))
                Rows.expSum(
                    pool, x.pointer, rows: 1, columns: all.count, stride: all.count, minus: zero.floats,
                    into: sum.floats)
                for i in all.indices {
                    let result = x.floats[i]
                    switch i % inputs.count {
                    case 0...3: #expect(result == 0, "\(all[i]), \(setting)")
                    case 4...6: #expect(result == .infinity, "\(all[i]), \(setting)")
                    case 7: #expect(result.isNaN, "\(setting)")
                    default: #expect(result == 1, "\(setting)")
                    }
                }
                #expect(sum.floats[0].isNaN, "\(setting)")
            }
        }
    }

    @Test(arguments: matrices)
    func inverseNormsOfRows(matrix: Matrix) {
        var values = randomFloats(matrix.rows * matrix.stride, 10)
        if matrix.rows > 1 { for j in 0..<matrix.columns { values[j] = 0 } }
        onEachSet { pool, setting in
            let x = Tensor([values.count], values)
            let inverses = Tensor([matrix.rows])
            Rows.inverseNorm(
                pool, x.pointer, rows: matrix.rows, columns: matrix.columns, stride: matrix.stride,
                into: inverses.floats)
            for i in 0..<matrix.rows {
                let row = values[i * matrix.stride..<i * matrix.stride + matrix.columns]
                let norm = row.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
                let expected = 1 / max(norm, 1e-12)
                #expect(abs(Double(inverses.floats[i]) - expected) <= 1e-7 * expected, "\(setting)")
            }
        }
    }
}
