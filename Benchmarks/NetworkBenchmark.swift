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

        let alone = try communicator.medianSeconds(of: Self.repetitions) {
            reducer.begin()
            for index in buckets.indices { reducer.bucketReady(index) }
            _ = try reducer.finish()
        }
        let contention = try contention(communicator, alone: alone, each: each, work) {
            reducer.begin()
            for index in buckets.indices { reducer.bucketReady(index) }
        } finish: {
            try reducer.finish().communication
        }

        let bytes = Double(count) * 4
        let hosts = Double(placement.hosts)
        let sent = 2 * (hosts - 1) / hosts * bytes / Double(placement.ranksPerHost)
        let link = Link(latency: latency, bandwidth: sent * Double(placement.ranksPerHost) / alone)
        return NetworkMeasurement(
            hosts: placement.hosts, ranksPerHost: placement.ranksPerHost, threads: pool.threads, link: link,
            contention: contention)
    }

    /// How much longer gradients that take `alone` seconds by themselves, and computing of about three times as long, take
    /// while both go on: the medians of some rounds, each as the slowest rank saw it.
    private func contention(
        _ communicator: any Communicator, alone: Double, each: Double, _ work: ComputingTask, start: () -> Void,
        finish: () throws -> Double
    ) throws -> Contention {
        let tasks = max(1, Int((3 * alone / each).rounded(.up)))
        let separately = try communicator.medianSeconds(of: Self.repetitions) { work.run(tasks) }
        var times = [Double](repeating: 0, count: 2 * Self.rounds)
        for round in 0..<Self.rounds {
            try communicator.barrier("benchmark")
            start()
            let begin = MonotonicClock.seconds
            work.run(tasks)
            times[round] = MonotonicClock.seconds - begin
            times[Self.rounds + round] = try finish()
        }
        try times.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .max, "benchmark") }
        let computing = times[..<Self.rounds].sorted()[Self.rounds / 2]
        let messages = times[Self.rounds...].sorted()[Self.rounds / 2]
        // Computing is slowed while messages travel, and what it loses it loses in that time.
        let lost = min(max(computing - separately, 0), 0.9 * messages)
        return Contention(computing: messages / (messages - lost), messages: max(1, messages / alone))
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
