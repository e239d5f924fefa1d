/// Which checkpoints stay when a new one is committed.
package struct RetentionPolicy: Sendable, Equatable {
    /// The newest this many stay, the latest included; at least 1.
    package var keepLast: Int
    /// Steps that are multiples of this stay for ever.
    package var keepEvery: Int?

    package init(keepLast: Int, keepEvery: Int? = nil) {
        precondition(keepLast >= 1 && (keepEvery ?? 1) >= 1, "retention \(keepLast), \(keepEvery ?? 1)")
        self.keepLast = keepLast
        self.keepEvery = keepEvery
    }

    /// What may be deleted once `latest` is committed, oldest first.
    ///
    /// Neither `latest` nor `best` ever is, nor anything newer than `latest`: after a rollback those are still the
    /// user's. An older revision of a step is not counted, and goes.
    package func removable(
        _ names: [CheckpointName], latest: CheckpointName, best: CheckpointName?
    ) -> [CheckpointName] {
        let older = names.filter { $0 < latest }.sorted(by: >)
        var removable: [CheckpointName] = []
        var kept = 1
        var newer = latest
        for name in older {
            let superseded = name.step == newer.step
            newer = name
            if !superseded && kept < keepLast {
                kept += 1
                continue
            }
            if name == best { continue }
            if let keepEvery, !superseded, name.step % keepEvery == 0 { continue }
            removable.append(name)
        }
        return removable.reversed()
    }
}
