import ArgumentParser
import Benchmarks
import Collectives
import Foundation
import MPICollectives
import Tensors
import Training

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check that this machine and this launch can train; run it as the training would be run.",
        discussion: "mpirun -np 2 acuity doctor")

    @OptionGroup var session: SessionOptions

    private struct Finding: Codable {
        var rank: Int
        var host: String
        var threads: Int
        var processors: Int
        var kernels: String
        var sharedMemoryMiB: Int?
        var descriptors: Int
    }

    func run() throws {
        try Session.run(session) { environment in
            let communicator = environment.communicator
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            let own = Finding(
                rank: communicator.rank, host: communicator.topology.hostName, threads: environment.pool.threads,
                processors: ThreadPool.availableProcessors, kernels: KernelSet.current,
                sharedMemoryMiB: SharedMemoryWindow.freeBytes.map { $0 >> 20 },
                descriptors: Int(min(limit.rlim_cur, 1 << 30)))
            let findings = try communicator.gather(coding: own, "doctor")
            let seconds = try timing(communicator)
            let problems = findings.map { report($0, seconds, communicator) } ?? []
            return problems.isEmpty ? Training.ExitCode.success : Training.ExitCode.peerLost
        }
    }

    /// Median seconds of summing 16 MiB over the ranks.
    private func timing(_ communicator: any Communicator) throws -> Double {
        var values = [Float](repeating: 1, count: 4 << 20)
        return try communicator.medianSeconds(of: 5, "doctor") {
            try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .max, "doctor") }
        }
    }

    private func report(_ findings: [Finding], _ seconds: Double, _ communicator: any Communicator) -> [String] {
        let launcher = MPIEnvironment.current.launcher
        print("acuity \(ModelFile.version), launched by \(launcher == .none ? "hand" : launcher.rawValue)")
        print("MPI      \(MPICommunicator.libraryVersion)")
        print("BLAS     \(BLAS.description)")
        print("kernels  \(KernelSet.current) (this machine's best: \(KernelSet.best))")
        for finding in findings {
            let shared = finding.sharedMemoryMiB.map { "\($0) MiB of shared memory free" } ?? "no shared memory"
            print(
                "rank \(finding.rank)   \(finding.host): \(finding.threads) thread(s) on \(finding.processors) processor(s), "
                    + "\(shared), \(finding.descriptors) files")
        }
        print(String(format: "16 MiB all-reduce over %d rank(s): %.1f ms", communicator.size, seconds * 1000))
        var problems: [String] = []
        if Set(findings.map(\.kernels)).count > 1 {
            problems.append("the ranks use different instruction sets: results would differ between them; set ACUITY_ISA")
        }
        for finding in findings where (finding.sharedMemoryMiB ?? 0) < 256 && communicator.topology.localSize > 1 {
            problems.append(
                "rank \(finding.rank): little shared memory; gradients will go by messages (containers: --shm-size=1g)")
        }
        for finding in findings where finding.descriptors < 1024 {
            problems.append("rank \(finding.rank): only \(finding.descriptors) open files allowed; raise 'ulimit -n'")
        }
        for problem in problems { print("problem: \(problem)") }
        print(problems.isEmpty ? "all well" : "\(problems.count) problem(s)")
        return problems
    }
}
