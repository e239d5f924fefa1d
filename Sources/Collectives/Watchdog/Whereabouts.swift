internal import Synchronization

/// The parts of a program that differ in how long a rank may wait for the others, and in which faults can be injected.
package enum RunPhase: UInt8, Sendable, CaseIterable {
    /// A command that is no training run.
    case command
    /// Opening data, building the network, reading a checkpoint, and the first update.
    case load
    case step
    case evaluate
    case save

    package var name: String {
        switch self {
        case .command: "command"
        case .load: "load"
        case .step: "step"
        case .evaluate: "evaluate"
        case .save: "save"
        }
    }
}

/// What a rank is at. Any thread may read it.
package final class Whereabouts: Sendable {
    private let storedPhase = Atomic<UInt8>(RunPhase.command.rawValue)
    private let storedStep = Atomic<Int>(0)

    package init() {}

    package var phase: RunPhase { RunPhase(rawValue: storedPhase.load(ordering: .relaxed)) ?? .command }
    /// The update under way, counted from 1; outside of updates the number of completed ones.
    package var step: Int { storedStep.load(ordering: .relaxed) }

    package func enter(_ phase: RunPhase, step: Int) {
        storedPhase.store(phase.rawValue, ordering: .relaxed)
        storedStep.store(step, ordering: .relaxed)
    }
}
