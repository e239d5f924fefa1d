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
    package let backward: Double
    /// Seconds of reduction, hidden or not.
    package private(set) var communication = 0.0

    /// - Parameters:
    ///   - backward: seconds of backward by step of the graph; runs from the last to the first.
    ///   - bucketAfterStep: by step, the bucket that is complete after its backward.
    ///   - reductions: seconds of each bucket's reduction.
    package init(backward: [Double], bucketAfterStep: [Int: Int], reductions: [Double]) {
        var now = 0.0
        var free = 0.0
        for step in backward.indices.reversed() {
            now += backward[step]
            guard let bucket = bucketAfterStep[step] else { continue }
            precondition(bucket == buckets.count, "buckets are completed in their order")
            let start = max(now, free)
            free = start + reductions[bucket]
            communication += reductions[bucket]
            buckets.append(Bucket(ready: now, start: start, end: free))
        }
        self.backward = now
    }

    /// Seconds that the step waits for gradients after backward.
    package var exposed: Double { max(0, (buckets.last?.end ?? 0) - backward) }
}
