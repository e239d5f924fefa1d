internal import Tensors

/// The weights with which the samples of one axis enter each output sample. Every output has the same number of taps, so
/// that loops over them have one length; those that a kernel does not need have weight 0.
final class AxisTable: Sendable {
    /// Bits after the point of the fixed-point weights, as in Pillow.
    static let precision: Int32 = 22

    let taps: Int
    /// Per output sample, its first input sample.
    let starts: [Int32]
    /// Per output sample, `taps` weights: of antialiased kernels in fixed point, of the others as floats; the other array
    /// is empty.
    let fixed: [Int32]
    let floats: [Float]

    init(from input: Int, to output: Int, _ kernel: ResizeKernel) {
        let windows = kernel.windows(from: input, to: output)
        let taps = windows.map(\.weights.count).max() ?? 1
        var starts: [Int32] = []
        var values = [Double](repeating: 0, count: taps * output)
        for (position, window) in windows.enumerated() {
            let start = min(window.start, input - taps)
            starts.append(Int32(start))
            for (index, weight) in window.weights.enumerated() {
                values[position * taps + window.start - start + index] = weight
            }
        }
        self.taps = taps
        self.starts = starts
        let unit = Double(1 << Self.precision)
        fixed = kernel.isAntialiased ? values.map { Int32(($0 * unit).rounded(.toNearestOrAwayFromZero)) } : []
        floats = kernel.isAntialiased ? [] : values.map { Float($0) }
    }

    var weightCount: Int { taps * starts.count }
}

/// The tables in use, shared by all threads. There are few in a run: some sides, some kernels.
final class AxisTables: @unchecked Sendable {
    static let shared = AxisTables()

    private struct Key: Hashable {
        let input: Int
        let output: Int
        let kernel: ResizeKernel
    }

    /// Weights kept, 16 MiB of them; beyond that it begins anew.
    private static let limit = 1 << 22
    private let monitor = Monitor()
    private var tables: [Key: AxisTable] = [:]
    private var weightCount = 0

    func table(from input: Int, to output: Int, _ kernel: ResizeKernel) -> AxisTable {
        let key = Key(input: input, output: output, kernel: kernel)
        if let known = monitor.withLock({ tables[key] }) { return known }
        let table = AxisTable(from: input, to: output, kernel)
        monitor.withLock {
            if weightCount + table.weightCount > Self.limit {
                tables.removeAll()
                weightCount = 0
            }
            if tables.updateValue(table, forKey: key) == nil { weightCount += table.weightCount }
        }
        return table
    }
}
