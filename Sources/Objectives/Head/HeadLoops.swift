internal import Tensors

/// The element loops that both scalar types share. Each is inlined into a concrete caller, where it is specialised.
enum HeadLoops {
    @inline(__always)
    static func dot<S: HeadScalar>(_ a: UnsafePointer<S>, _ b: UnsafePointer<S>, count: Int) -> Double {
        var sums = SIMD8<Double>.zero
        let whole = count & ~7
        var i = 0
        while i < whole {
            for lane in 0..<8 { sums[lane] += Double(a[i + lane]) * Double(b[i + lane]) }
            i += 8
        }
        var sum = sums.sum()
        while i < count {
            sum += Double(a[i]) * Double(b[i])
            i += 1
        }
        return sum
    }

    @inline(__always)
    static func activate<S: HeadScalar>(
        _ pool: ThreadPool, _ block: LogitBlock<S>, _ rows: UnsafeMutablePointer<RowActivation>
    ) {
        pool.forEachRange(block.rows) { range in
            for row in range {
                let values = block.values + row * block.columns
                let slopes = block.slopes.map { $0 + row * block.columns }
                let state = rows + row
                state.pointee.negativeMaximum = -.infinity
                state.pointee.logitMaximum = -.infinity
                state.pointee.ruleApplied = false
                let target = block.target(row)
                let inverse = block.rowInverse[row]
                let end = target ?? block.columns
                segment(values, slopes, block.columnInverse, end, inverse, block.limit, state)
                guard let target else { continue }
                let rest = target + 1
                segment(
                    values + rest, slopes.map { $0 + rest }, block.columnInverse + rest, block.columns - rest, inverse,
                    block.limit, state)
                values[target] = -.infinity
            }
        }
    }

    /// Columns of one row without its target.
    @inline(__always)
    private static func segment<S: HeadScalar>(
        _ values: UnsafeMutablePointer<S>, _ slopes: UnsafeMutablePointer<S>?, _ columnInverse: UnsafePointer<S>,
        _ count: Int, _ rowInverse: S, _ limit: S, _ state: UnsafeMutablePointer<RowActivation>
    ) {
        guard count > 0 else { return }
        let scale = S(state.pointee.scale)
        guard let rule = state.pointee.rule else {
            let extremes = cosines(values, columnInverse, count, rowInverse, limit, scale)
            state.pointee.negativeMaximum = max(state.pointee.negativeMaximum, Double(extremes.maximum))
            state.pointee.logitMaximum = max(state.pointee.logitMaximum, Double(extremes.maximum * scale))
            if let slopes { slopes.update(repeating: 1, count: count) }
            return
        }
        let extremes = cosines(values, columnInverse, count, rowInverse, limit, 1)
        state.pointee.negativeMaximum = max(state.pointee.negativeMaximum, Double(extremes.maximum))
        let bound = min(rule.limit, rule.threshold, rule.cutoff)
        if Double(extremes.maximum) > bound || Double(extremes.minimum) < -rule.limit {
            state.pointee.ruleApplied = true
            apply(rule, values, slopes, count)
        } else if let slopes {
            slopes.update(repeating: 1, count: count)
        }
        var maximum = -S.infinity
        for i in 0..<count {
            let value = values[i] * scale
            values[i] = value
            maximum = value > maximum ? value : maximum
        }
        state.pointee.logitMaximum = max(state.pointee.logitMaximum, Double(maximum))
    }

    /// values = scale · clamp(values · rowInverse · columnInverse, ±limit); returns the extremes of the cosines.
    ///
    /// Sixteen running extremes, so that the loop becomes vector code; the SIMD types' own operators do not in generic
    /// code, even when it is specialised.
    @inline(__always)
    private static func cosines<S: HeadScalar>(
        _ values: UnsafeMutablePointer<S>, _ columnInverse: UnsafePointer<S>, _ count: Int, _ rowInverse: S, _ limit: S,
        _ scale: S
    ) -> (minimum: S, maximum: S) {
        withUnsafeTemporaryAllocation(of: S.self, capacity: 32) { extremes in
            let high = extremes.baseAddress!
            let low = high + 16
            high.initialize(repeating: -.infinity, count: 16)
            low.initialize(repeating: .infinity, count: 16)
            @inline(__always)
            func step(_ i: Int, _ lane: Int) {
                var c = values[i] * columnInverse[i] * rowInverse
                c = c > limit ? limit : c
                c = c < -limit ? -limit : c
                high[lane] = c > high[lane] ? c : high[lane]
                low[lane] = c < low[lane] ? c : low[lane]
                values[i] = c * scale
            }
            let whole = count & ~15
            var i = 0
            while i < whole {
                for lane in 0..<16 { step(i + lane, lane) }
                i += 16
            }
            while i < count {
                step(i, 0)
                i += 1
            }
            var result = (minimum: low[0], maximum: high[0])
            for lane in 1..<16 {
                result.maximum = high[lane] > result.maximum ? high[lane] : result.maximum
                result.minimum = low[lane] < result.minimum ? low[lane] : result.minimum
            }
            return result
        }
    }

    @inline(__always)
    private static func apply<S: HeadScalar>(
        _ rule: NegativeRule, _ values: UnsafeMutablePointer<S>, _ slopes: UnsafeMutablePointer<S>?, _ count: Int
    ) {
        let limit = S(rule.limit)
        let cutoff = S(rule.cutoff)
        let threshold = S(rule.threshold)
        let constant = S(rule.constant)
        let linear = S(rule.linear)
        let quadratic = S(rule.quadratic)
        for i in 0..<count {
            let raw = values[i]
            let c = raw > limit ? limit : (raw < -limit ? -limit : raw)
            if c > cutoff {
                values[i] = 0
                if let slopes { slopes[i] = 0 }
                continue
            }
            let above = c > threshold
            values[i] = above ? constant + c * (linear + quadratic * c) : c
            if let slopes { slopes[i] = c != raw ? 0 : (above ? linear + 2 * quadratic * c : 1) }
        }
    }

    @inline(__always)
    static func differentiate<S: HeadScalar>(
        _ pool: ThreadPool, _ block: LogitBlock<S>, coefficient: UnsafePointer<Double>, target: UnsafePointer<Double>
    ) {
        pool.forEachRange(block.rows) { range in
            for row in range {
                let values = block.values + row * block.columns
                let factor = S(coefficient[row])
                if let slopes = block.slopes.map({ $0 + row * block.columns }) {
                    for i in 0..<block.columns { values[i] *= factor * block.columnInverse[i] * slopes[i] }
                } else {
                    for i in 0..<block.columns { values[i] *= factor * block.columnInverse[i] }
                }
                if let column = block.target(row) {
                    values[column] = S(target[row]) * block.columnInverse[column]
                }
            }
        }
    }

    @inline(__always)
    static func addColumnSums<S: HeadScalar>(
        _ values: UnsafePointer<S>, rows: Int, columns: Int, into sums: UnsafeMutablePointer<S>
    ) {
        for row in 0..<rows {
            let values = values + row * columns
            for i in 0..<columns { sums[i] += values[i] }
        }
    }

    @inline(__always)
    static func scaleRows<S: HeadScalar>(
        _ pool: ThreadPool, _ x: UnsafeMutablePointer<S>, factors: UnsafePointer<S>, rows: Int, columns: Int
    ) {
        pool.forEachRange(rows) { range in
            for row in range {
                for i in row * columns..<(row + 1) * columns { x[i] *= factors[row] }
            }
        }
    }

    @inline(__always)
    static func project<S: HeadScalar>(
        _ pool: ThreadPool, _ gradient: UnsafeMutablePointer<S>, x: UnsafePointer<S>, inverse: UnsafePointer<S>,
        rows: Int, columns: Int, radial: UnsafePointer<RadialTerm>?
    ) {
        pool.forEachRange(rows) { range in
            for row in range {
                let g = gradient + row * columns
                let x = x + row * columns
                let unit = Double(inverse[row])
                let along = dot(g, x, count: columns) * unit
                let term = radial?[row] ?? RadialTerm()
                let factor = S((term.radial - along * (1 - term.keep)) * unit)
                for i in 0..<columns { g[i] += factor * x[i] }
            }
        }
    }

    @inline(__always)
    static func add<S: HeadScalar>(
        _ from: UnsafePointer<S>, times weight: S, to: UnsafeMutablePointer<S>, count: Int, replacing: Bool
    ) {
        if replacing {
            for i in 0..<count { to[i] = weight * from[i] }
        } else {
            for i in 0..<count { to[i] += weight * from[i] }
        }
    }

    @inline(__always)
    static func draw<S: HeadScalar>(
        _ initializer: CentreInitializer, _ stream: RandomStream, into centre: UnsafeMutableBufferPointer<S>
    ) {
        var stream = stream
        switch initializer {
        case .normal(let deviation):
            for i in centre.indices { centre[i] = S(deviation * stream.normal()) }
        case .unitUniform:
            var squares = 0.0
            for i in centre.indices {
                let value = stream.uniform(-1, 1)
                centre[i] = S(value)
                squares += value * value
            }
            let factor = S(1 / max(squares.squareRoot(), 1e-12))
            for i in centre.indices { centre[i] *= factor }
        }
    }
}
