package import Collectives
import Foundation
import Layers
import Networks
package import Tensors
package import Training

/// What the network between the hosts of this job gives, alone and while the processors compute: what
/// `acuity plan --network` goes by.
package struct NetworkBenchmark: Sendable {
    /// Of the gradients that are reduced again and again, and of a bucket.
    private static let mebibytes = 24
    private static let bucket = 1 << 20
    private static let repetitions = 5
    private static let rounds = 9

    package init() {}

    /// Collective.
    /// - Throws: `CollectiveError`; `TrainingError` where all ranks share one host.
    package func run(_ communicator: any Communicator, _ pool: ThreadPool) throws -> NetworkMeasurement {
        let topology = communicator.topology
        let fewest = try communicator.allReduce(topology.localSize, .min, "ranks per host")
        let most = try communicator.allReduce(topology.localSize, .max, "ranks per host")
        guard topology.hosts > 1, fewest == most else {
            throw TrainingError.incompatible(
                "--network measures messages between hosts with as many ranks each; start it with mpirun on two or more")
        }
        let placement = Placement(ranks: communicator.size, ranksPerHost: most, threads: pool.threads, batch: 1)
        let latency = try latency(communicator, placement)
        let count = Self.mebibytes << 18
        let buckets = stride(from: 0, to: count, by: Self.bucket).map { $0..<min($0 + Self.bucket, count) }
        let reducer = try GradientReducer(communicator: communicator, elementCount: count, bucketRanges: buckets)
        let work = try ComputingTask(pool)
        let each = try communicator.medianSeconds(of: Self.repetitions) { work.run(1) }

        func start() {
            reducer.begin()
            for index in buckets.indices { reducer.bucketReady(index) }
        }
        let first = try communicator.medianSeconds(of: Self.repetitions) {
            start()
            _ = try reducer.finish()
        }
        let rounds = try compare(
            communicator, work, tasks: max(1, Int((3 * first / each).rounded(.up))), start: start,
            finish: { try reducer.finish().communication })

        let bytes = Double(count) * 4
        let hosts = Double(placement.hosts)
        let sent = 2 * (hosts - 1) / hosts * bytes / Double(placement.ranksPerHost)
        // The link gives what its best round gave; other processes can only have slowed it down.
        let link = Link(latency: latency, bandwidth: sent * Double(placement.ranksPerHost) / rounds.fastest)
        return NetworkMeasurement(
            hosts: placement.hosts, ranksPerHost: placement.ranksPerHost, threads: pool.threads, link: link,
            contention: rounds.contention)
    }

    /// How much longer gradients, and computing of about three times as long, take while both go on: each round takes both
    /// alone and then together, as the slowest rank saw it, and the medians of the rounds' ratios count.
    private func compare(
        _ communicator: any Communicator, _ work: ComputingTask, tasks: Int, start: () -> Void,
        finish: () throws -> Double
    ) throws -> (fastest: Double, contention: Contention) {
        var times: [Double] = []
        for _ in 0..<Self.rounds {
            try communicator.barrier("benchmark")
            start()
            times.append(try finish())
            try communicator.barrier("benchmark")
            var begin = MonotonicClock.seconds
            work.run(tasks)
            times.append(MonotonicClock.seconds - begin)
            try communicator.barrier("benchmark")
            start()
            begin = MonotonicClock.seconds
            work.run(tasks)
            times.append(MonotonicClock.seconds - begin)
            times.append(try finish())
        }
        try times.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .max, "benchmark") }
        var computing: [Double] = []
        var messages: [Double] = []
        for round in 0..<Self.rounds {
            let (alone, separately) = (times[4 * round], times[4 * round + 1])
            let (beside, reduced) = (times[4 * round + 2], times[4 * round + 3])
            messages.append(max(1, reduced / alone))
            // Computing is slowed while messages travel, and what it loses it loses in that time.
            let lost = min(max(beside - separately, 0), 0.9 * reduced)
            computing.append(reduced / (reduced - lost))
        }
        let fastest = (0..<Self.rounds).map { times[4 * $0] }.min()!
        return (
            fastest,
            Contention(computing: computing.sorted()[Self.rounds / 2], messages: messages.sorted()[Self.rounds / 2])
        )
    }

    /// Of one round of messages.
    private func latency(_ communicator: any Communicator, _ placement: Placement) throws -> Double {
        var values = [Double](repeating: 0, count: 5)
        let seconds = try communicator.medianSeconds(of: 50) {
            try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "benchmark") }
        }
        return seconds / ceil(log2(Double(placement.ranks)))
    }
}

/// Something like a step for the processors to do: a few images through a small network.
private final class ComputingTask {
    private static let images = 2
    private let execution: Execution
    private let input: Tensor

    init(_ pool: ThreadPool) throws {
        let network = try NetworkSpecification("mobilefacenet").build()
        network.initialize(seed: 1)
        execution = Execution(network.graph, batch: Self.images, purpose: .inference, precision: .fp32, pool: pool)
        input = Tensor([Self.images, network.graph.inputShape.count])
    }

    func run(_ times: Int) {
        for _ in 0..<times { execution.forward(input.pointer, count: Self.images, mode: .evaluation) }
    }
}
