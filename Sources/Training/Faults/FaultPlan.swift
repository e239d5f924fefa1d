package import Collectives
import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// A fault that is injected on purpose, to see that a run survives it.
package struct Fault: Sendable, Equatable, CustomStringConvertible {
    package enum Kind: String, Sendable, CaseIterable {
        /// The process kills itself (SIGKILL).
        case kill
        /// The rank sleeps for `seconds`.
        case delay
        /// The rank sleeps for ever, or for `seconds`.
        case hang
        /// A gradient of this rank becomes NaN.
        case nan
        /// Writing a checkpoint meets a full disk.
        case diskFull = "disk-full"
        /// Half of a write of a checkpoint arrives on the disk, and nobody is told.
        case tornWrite = "torn-write"
        /// The bytes of the record `record` are cut in half.
        case corruptRecord = "corrupt-record"
    }

    package var kind: Kind
    /// nil: every rank.
    package var rank: Int?
    /// The update, counted from 1, in `step`; the completed ones in the other phases. nil: every one.
    package var step: Int?
    package var phase: RunPhase
    package var seconds: Double?
    package var record: Int?
    /// How often it strikes on a rank; nil: whenever its place is reached.
    package var times: Int?

    package var description: String {
        let fields: [String?] = [
            rank.map { "rank \($0)" } ?? "every rank", step.map { "step \($0)" }, "phase \(phase.name)",
            seconds.map { "\($0) s" }, record.map { "record \($0)" },
        ]
        return "\(kind.rawValue) (\(fields.compactMap { $0 }.joined(separator: ", ")))"
    }
}

/// A fault that cannot be understood.
package struct FaultPlanError: Error, Equatable, CustomStringConvertible {
    package let text: String
    package let reason: String

    package var description: String {
        "'\(text)' is no fault: \(reason); faults are written KIND@key=value,..., such as kill@rank=1,step=20,phase=save"
    }
}

/// The faults of a run, in the words of `--inject`. Every one that strikes is announced on standard error.
package struct FaultPlan: Sendable {
    package let faults: [Fault]
    private let struck: Struck
    private let announce: @Sendable (String) -> Void

    /// How often each fault has struck on each rank of this process.
    private final class Struck: @unchecked Sendable {
        private struct Place: Hashable {
            var fault: Int
            var rank: Int
        }

        private let monitor = Monitor()
        private var counts: [Place: Int] = [:]

        /// Counts one more, unless it has struck `limit` times.
        func has(_ fault: Int) -> Bool { monitor.withLock { counts.keys.contains { $0.fault == fault } } }

        func take(_ fault: Int, _ rank: Int, limit: Int?) -> Bool {
            monitor.withLock {
                let place = Place(fault: fault, rank: rank)
                let count = counts[place] ?? 0
                if let limit, count >= limit { return false }
                counts[place] = count + 1
                return true
            }
        }
    }

    package static let empty = FaultPlan([])

    package init(_ faults: [Fault], announce: @escaping @Sendable (String) -> Void = FaultPlan.shout) {
        self.faults = faults
        self.announce = announce
        struck = Struck()
    }

    /// - Throws: `FaultPlanError`.
    package init(
        parsing texts: [String], announce: @escaping @Sendable (String) -> Void = FaultPlan.shout
    ) throws(FaultPlanError) {
        var faults: [Fault] = []
        for text in texts { faults.append(try Self.parse(text)) }
        self.init(faults, announce: announce)
    }

    package var isEmpty: Bool { faults.isEmpty }

    /// Writes on standard error at once: the next thing may be the end of the process.
    package static let shout: @Sendable (String) -> Void = { text in
        let line = Array("FAULT INJECTION: \(text)\n".utf8)
        _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    // MARK: - Striking

    /// This rank has reached a place: kills it, delays it or lets it hang, where the plan says so.
    package func reached(_ phase: RunPhase, step: Int, rank: Int) {
        if isEmpty { return }
        for kind in [Fault.Kind.delay, .hang, .kill] {
            guard let fault = due(kind, phase, step: step, rank: rank) else { continue }
            if kind == .kill { kill(getpid(), SIGKILL) }
            Self.sleep(fault.seconds ?? .infinity)
        }
    }

    /// The fault of `kind` that strikes here and now, for what the caller does itself; it is announced.
    package func due(_ kind: Fault.Kind, _ phase: RunPhase, step: Int, rank: Int) -> Fault? {
        if isEmpty { return nil }
        for (index, fault) in faults.enumerated() {
            guard fault.kind == kind, fault.phase == phase, fault.rank ?? rank == rank, fault.step ?? step == step,
                struck.take(index, rank, limit: fault.times)
            else { continue }
            announce("rank \(rank), step \(step): \(fault)")
            return fault
        }
        return nil
    }

    /// The faults that should have struck on this rank and have not: a test with them has tested nothing. Rank 0 stands for
    /// all where a fault is any rank's.
    package func missed(rank: Int) -> [Fault] {
        faults.indices.filter { faults[$0].rank ?? 0 == rank && faults[$0].kind != .corruptRecord && !struck.has($0) }
            .map { faults[$0] }
    }

    /// The records that are damaged on a rank.
    package func corruptRecords(rank: Int) -> Set<Int> {
        Set(faults.filter { $0.kind == .corruptRecord && $0.rank ?? rank == rank }.compactMap(\.record))
    }

    private static func sleep(_ seconds: Double) {
        let limit = MonotonicClock.seconds + seconds
        while MonotonicClock.seconds < limit {
            usleep(UInt32(min(100_000, max(1, (limit - MonotonicClock.seconds) * 1e6))))
        }
    }

    // MARK: - Parsing

    private static func parse(_ text: String) throws(FaultPlanError) -> Fault {
        func refuse(_ reason: String) -> FaultPlanError { FaultPlanError(text: text, reason: reason) }
        let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        guard let kind = Fault.Kind(rawValue: String(parts[0])) else {
            throw refuse("the kinds are \(Fault.Kind.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        var fault = Fault(kind: kind, phase: phases(kind)[0])
        var isCounted = false
        let fields = parts.count > 1 ? parts[1].split(separator: ",", omittingEmptySubsequences: false) : []
        for field in fields {
            let pair = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard pair.count == 2 else { throw refuse("'\(field)' is not key=value") }
            let (key, value) = (String(pair[0]), String(pair[1]))
            func number(from least: Int) throws(FaultPlanError) -> Int {
                guard let number = Int(value), number >= least else {
                    throw refuse("\(key) = '\(value)' is not a whole number from \(least)")
                }
                return number
            }
            switch key {
            case "rank": fault.rank = try number(from: 0)
            case "step": fault.step = try number(from: 0)
            case "record": fault.record = try number(from: 0)
            case "times":
                fault.times = try number(from: 1)
                isCounted = true
            case "seconds":
                guard let seconds = Double(value), seconds > 0, seconds < 1e9 else {
                    throw refuse("seconds = '\(value)' is not a positive number")
                }
                fault.seconds = seconds
            case "phase":
                guard let phase = phases(kind).first(where: { $0.name == value }) else {
                    let names = phases(kind).map(\.name).joined(separator: ", ")
                    throw refuse("\(kind.rawValue) strikes in the phases \(names), not in '\(value)'")
                }
                fault.phase = phase
            default: throw refuse("the keys are rank, step, phase, seconds, record, times, not '\(key)'")
            }
        }
        // A run that goes back to a checkpoint comes by once more; what was meant for one step strikes once.
        if !isCounted, fault.step != nil { fault.times = 1 }
        if kind == .delay, fault.seconds == nil { throw refuse("it needs seconds=…") }
        if kind == .corruptRecord, fault.record == nil { throw refuse("it needs record=…, the index of a record") }
        if kind != .corruptRecord, fault.record != nil { throw refuse("record is for corrupt-record") }
        return fault
    }

    /// Where a kind can strike; the first is where it does if nothing is said.
    private static func phases(_ kind: Fault.Kind) -> [RunPhase] {
        switch kind {
        case .kill, .delay, .hang: [.step, .load, .save, .evaluate]
        case .nan: [.step]
        case .diskFull, .tornWrite: [.save]
        case .corruptRecord: [.load]
        }
    }
}
