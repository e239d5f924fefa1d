/// When the buckets of a step are ready and reduced: backward goes on while the communication thread works through them
/// in their order.
package struct StepTimeline: Sendable, Equatable {
    /// Seconds after the start of backward.
    package struct Bucket: Sendable, Equatable {
        package var ready: Double
        package var start: Double
        package var end: Double

        package init(ready: Double, start: Double, end: Double) {
            self.ready = ready
            self.start = start
            self.end = end
        }
    }

    package private(set) var buckets: [Bucket] = []
    /// Seconds of backward, with what it loses to the reductions beside it.
    package private(set) var backward = 0.0
    /// Seconds of reduction, hidden or not.
    package private(set) var communication = 0.0

    /// - Parameters:
    ///   - backward: seconds of backward by step of the graph, alone; runs from the last to the first.
    ///   - bucketAfterStep: by step, the bucket that is complete after its backward.
    ///   - reductions: seconds of each bucket's reduction, alone.
    ///   - contention: how much longer both take while both go on.
    package init(
        backward: [Double], bucketAfterStep: [Int: Int], reductions: [Double], contention: Contention = .none
    ) {
        var reducer = Reducer(reductions, contention)
        for step in backward.indices.reversed() {
            reducer.compute(backward[step])
            guard let bucket = bucketAfterStep[step] else { continue }
            reducer.ready(bucket)
        }
        self.backward = reducer.now
        reducer.finish()
        buckets = reducer.buckets
        communication = buckets.reduce(0) { $0 + $1.end - $1.start }
    }

    /// Seconds that the step waits for gradients after backward.
    package var exposed: Double { max(0, (buckets.last?.end ?? 0) - backward) }
}

/// The communication thread beside the computing ones, from event to event.
private struct Reducer {
    private(set) var now = 0.0
    private(set) var buckets: [StepTimeline.Bucket] = []
    private let reductions: [Double]
    private let contention: Contention
    /// The bucket in work or the next one, and what is left of it in seconds alone.
    private var current = 0
    private var left = 0.0

    init(_ reductions: [Double], _ contention: Contention) {
        self.reductions = reductions
        self.contention = contention
    }

    private var isBusy: Bool { current < buckets.count }

    mutating func ready(_ bucket: Int) {
        precondition(bucket == buckets.count, "buckets are completed in their order")
        let waits = isBusy
        buckets.append(.init(ready: now, start: now, end: now))
        if !waits { left = reductions[bucket] }
    }

    /// Time passes until `seconds` of computing are done.
    mutating func compute(_ seconds: Double) {
        var seconds = seconds
        while isBusy, seconds > 0 {
            let untilReduced = left * contention.messages
            let untilComputed = seconds * contention.computing
            if untilComputed < untilReduced {
                now += untilComputed
                left -= untilComputed / contention.messages
                return
            }
            now += untilReduced
            seconds -= untilReduced / contention.computing
            next()
        }
        now += seconds
    }

    /// Backward has ended.
    mutating func finish() {
        while isBusy {
            now += left
            next()
        }
    }

    private mutating func next() {
        buckets[current].end = now
        current += 1
        guard isBusy else { return }
        buckets[current].start = now
        left = reductions[current]
    }
}
