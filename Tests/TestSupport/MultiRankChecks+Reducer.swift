internal import Collectives

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

extension MultiRankCheck {
    /// The gradient reducer and the background collectives.
    package static let reducer: [MultiRankCheck] = [
        MultiRankCheck("reducer in shared memory") { try reducerSums($0, sharesMemory: true) },
        MultiRankCheck("reducer by messages") { try reducerSums($0, sharesMemory: false) },
        MultiRankCheck("reducer by messages in bf16") { try reducerSums($0, sharesMemory: false, messages: .bf16) },
        MultiRankCheck("reducer in shared memory and bf16") { try reducerSums($0, sharesMemory: true, messages: .bf16) },
        MultiRankCheck("reducer with late ranks and quick next steps", reducerWithLateRanks),
        MultiRankCheck("reducer beside other collectives", reducerBesideCollectives),
        MultiRankCheck("collectives in the background", backgroundCollectives),
    ]

    /// A gradient whose sum depends on the order of additions.
    private static func gradient(_ index: Int, rank: Int, step: Int) -> Float {
        Float((index * 7 + step * 13) % 1_009 - 504) / Float(rank * 2 + 3)
    }

    private static let elementCount = 50_021
    /// Backward completes the last layers first; sizes that neither cache lines nor ranks divide.
    private static let buckets = [40_000..<50_021, 20_003..<40_000, 20_000..<20_003, 7..<20_000]

    @Sendable private static func reducerSums(
        _ communicator: any Communicator, sharesMemory: Bool, messages: GradientReducer.MessagePrecision = .fp32
    ) throws {
        let reducer = try GradientReducer(
            communicator: communicator, elementCount: elementCount, bucketRanges: buckets,
            messages: messages, sharesMemory: sharesMemory)
        try check(reducer.route == expectedRoute(communicator, sharesMemory), "route \(reducer.route)")
        try check(reducer.gradients.allSatisfy { $0 == 0 }, "new gradients are not zero")
        var first: [UInt32] = []
        for repetition in 0..<4 {
            for index in 0..<elementCount {
                reducer.gradients[index] = gradient(index, rank: communicator.rank, step: 0)
            }
            reducer.begin()
            for bucket in buckets.indices { reducer.bucketReady(bucket) }
            let timing = try reducer.finish()
            try check(timing.waited >= 0 && timing.communication >= 0, "timing \(timing)")
            let sums = Array(reducer.gradients)
            for index in 0..<7 {
                let own = gradient(index, rank: communicator.rank, step: 0)
                try check(sums[index] == own, "element \(index) lies in no bucket but has changed")
            }
            let isRounded = messages == .bf16 && reducer.route != .none && reducer.route != .window
            try checkSums(sums, communicator, step: 0, isRounded: isRounded)
            try checkSameBits(Array(sums[7...]), on: communicator, "reducer")
            let bits = sums.map(\.bitPattern)
            if repetition == 0 { first = bits }
            try check(bits == first, "repetition \(repetition) gives other bits")
        }
    }

    private static func expectedRoute(_ communicator: any Communicator, _ sharesMemory: Bool) throws
        -> GradientReducer.Route
    {
        let topology = communicator.topology
        let most = try communicator.allReduce(topology.localSize, .max, "most")
        let fewest = try communicator.allReduce(topology.localSize, .min, "fewest")
        if communicator.size == 1 { return .none }
        if !sharesMemory || most == 1 { return .messages }
        if topology.hosts == 1 { return .window }
        return most == fewest ? .windowAndSlices : .windowAndLeaders
    }

    /// Compares with the sum in double, and exactly with the sum in rank order where nothing was rounded and there is one
    /// host.
    private static func checkSums(
        _ sums: [Float], _ communicator: any Communicator, step: Int, isRounded: Bool = false
    ) throws {
        // Terms and sum are each rounded to bf16, by 2^-8 at most; 2e-7 covers a sum in fp32.
        let error = isRounded ? 0x1p-7 : 2e-7 * Double(communicator.size)
        for index in 7..<elementCount {
            let terms = (0..<communicator.size).map { gradient(index, rank: $0, step: step) }
            let exact = terms.reduce(0.0) { $0 + Double($1) }
            let magnitude = terms.reduce(0.0) { $0 + abs(Double($1)) }
            try check(
                abs(Double(sums[index]) - exact) <= error * magnitude,
                "element \(index) is \(sums[index]) instead of \(exact)")
            if !isRounded && communicator.topology.hosts == 1 {
                let ordered = terms.dropFirst().reduce(terms[0], +)
                try check(sums[index] == ordered, "element \(index) was not summed in rank order")
            }
        }
    }

    @Sendable private static func reducerWithLateRanks(_ communicator: any Communicator) throws {
        let reducer = try GradientReducer(
            communicator: communicator, elementCount: elementCount, bucketRanges: buckets)
        for step in 0..<24 {
            reducer.begin()
            for (number, range) in buckets.enumerated() {
                // Another rank is late in every step, at another bucket.
                if step % communicator.size == communicator.rank && step % buckets.count == number { usleep(2_000) }
                for index in range {
                    reducer.gradients[index] = gradient(index, rank: communicator.rank, step: step)
                }
                reducer.bucketReady(number)
            }
            try reducer.finish()
            for range in buckets {
                for index in stride(from: range.lowerBound, to: range.upperBound, by: 37) {
                    var exact = 0.0
                    for rank in 0..<communicator.size { exact += Double(gradient(index, rank: rank, step: step)) }
                    try check(
                        abs(Double(reducer.gradients[index]) - exact) < 1e-3,
                        "step \(step), element \(index): \(reducer.gradients[index]) instead of \(exact)")
                }
            }
            // The sums are this rank's alone now: overwriting them must disturb nobody.
            reducer.gradients.update(repeating: .nan)
        }
    }

    @Sendable private static func reducerBesideCollectives(_ communicator: any Communicator) throws {
        let reducer = try GradientReducer(
            communicator: communicator, elementCount: elementCount, bucketRanges: buckets)
        let count = 501
        nonisolated(unsafe) let all = UnsafeMutableBufferPointer<Int32>.allocate(capacity: count * communicator.size)
        defer { all.deallocate() }
        let labels = try BackgroundCollective(over: communicator, channel: "labels") { (block: [Int32], channel) in
            try block.withUnsafeBytes { try channel.allGather($0, into: UnsafeMutableRawBufferPointer(all), "labels") }
        }
        for step in 0..<10 {
            labels.start((0..<count).map { Int32($0 + step + communicator.rank * 1_000) })
            reducer.begin()
            for (number, range) in buckets.enumerated() {
                for index in range {
                    reducer.gradients[index] = gradient(index, rank: communicator.rank, step: step)
                }
                reducer.bucketReady(number)
                let sum = try communicator.allReduce(number + communicator.rank, .sum, "flags")
                let ranks = communicator.size
                try check(sum == number * ranks + ranks * (ranks - 1) / 2, "sum of flags \(sum)")
            }
            try reducer.finish()
            try labels.wait()
            for rank in 0..<communicator.size {
                for index in 0..<count {
                    let label = all[rank * count + index]
                    try check(label == Int32(index + step + rank * 1_000), "label \(index) of rank \(rank): \(label)")
                }
            }
            try checkSums(Array(reducer.gradients), communicator, step: step)
        }
    }

    /// Three that are under way at once and are waited for the other way round; one of them throws now and then.
    @Sendable private static func backgroundCollectives(_ communicator: any Communicator) throws {
        struct Refused: Error {}
        let ranks = communicator.size
        let background = try (0..<3).map { place in
            try BackgroundCollective(over: communicator, channel: "background \(place)") { (step: Int, channel) in
                let sum = try channel.allReduce(step * 10 + channel.rank, .sum, "background")
                try check(sum == step * 10 * ranks + ranks * (ranks - 1) / 2, "step \(step), channel \(place): \(sum)")
                if place == 1 && step % 4 == 2 { throw Refused() }
            }
        }
        for step in 0..<12 {
            for one in background { one.start(step) }
            for (place, one) in background.enumerated().reversed() {
                var refused = false
                do { try one.wait() } catch is Refused { refused = true }
                try check(refused == (place == 1 && step % 4 == 2), "step \(step), channel \(place): \(refused)")
            }
        }
    }
}
