/// A checkpoint's folder name: `step-00012000`, or `step-00012000-2` for the second one committed at that step (after
/// a rollback, a resume that saves at once, or a last evaluation that is the best).
package struct CheckpointName: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// Steps taken.
    package let step: Int
    /// 1 for the first checkpoint of the step.
    package let revision: Int

    static let temporaryPrefix = ".tmp-"
    /// More steps than any run takes, so that names stay short and arithmetic on them safe.
    static let limit = 1_000_000_000_000_000

    package init(step: Int, revision: Int = 1) {
        precondition((0...Self.limit).contains(step) && (1...Self.limit).contains(revision), "step \(step)")
        self.step = step
        self.revision = revision
    }

    /// nil unless the text is exactly what `description` gives.
    package init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard (2...3).contains(parts.count), parts[0] == "step", let step = Int(parts[1]) else { return nil }
        let revision = parts.count == 3 ? Int(parts[2]) : 1
        guard let revision, (0...Self.limit).contains(step), (1...Self.limit).contains(revision) else { return nil }
        self.init(step: step, revision: revision)
        guard description == text else { return nil }
    }

    package var description: String {
        let digits = String(step)
        let base = "step-" + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
        return revision == 1 ? base : base + "-\(revision)"
    }

    /// The folder in which it is written.
    var temporary: String { Self.temporaryPrefix + description }

    package static func < (a: CheckpointName, b: CheckpointName) -> Bool {
        (a.step, a.revision) < (b.step, b.revision)
    }
}
