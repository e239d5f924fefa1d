/// A verified checkpoint.
package struct OpenedCheckpoint: Sendable {
    package let checkpoint: Checkpoint
    /// Newer checkpoints that were passed over, and why: damaged files by name. Rank 0 has those of all ranks.
    package let warnings: [String]
}

package enum CheckpointChoice: Sendable, Equatable {
    /// What `latest` names; if that is damaged, the newest sound one before it.
    case latest
    /// This one or an error.
    case named(CheckpointName)
}

extension CheckpointStore {
    /// Finds a checkpoint and verifies all of its files; the ranks share that work and come to the same answer.
    ///
    /// - Throws: `ArtifactError`: `.missing` when there is none; `.damaged`, `.cannotRead` when none is sound;
    ///   `.incompatible` when another version of the program wrote it. Errors of the collectives.
    package func open(
        _ choice: CheckpointChoice = .latest, with ranks: CheckpointCoordination = .alone
    ) throws -> OpenedCheckpoint {
        var warnings: [String] = []
        let listed = try ranks.together(otherwise: elsewhere(folder, "it cannot be listed")) {
            ranks.rank == 0 ? try candidates(choice, &warnings) : []
        }
        let text = listed.map(\.description).joined(separator: "\n")
        let names = String(decoding: try ranks.broadcast(Array(text.utf8)), as: UTF8.self)
            .split(separator: "\n").compactMap { CheckpointName(String($0)) }
        var firstError: ArtifactError?
        for name in names {
            let (checkpoint, problems) = inspect(name, ranks)
            if try ranks.confirm(problems.isEmpty), let checkpoint {
                return OpenedCheckpoint(checkpoint: checkpoint, warnings: warnings)
            }
            firstError = firstError ?? problems.first
            let own = problems.map { "\($0)" }.joined(separator: "\n")
            if let all = try ranks.gather(Array(own.utf8)) {
                let messages = all.map { String(decoding: $0, as: UTF8.self) }.filter { !$0.isEmpty }
                warnings += messages
                firstError = firstError ?? .damaged(path: path(name), reason: messages.joined(separator: "; "))
            }
            // Sound, but of another version: falling back would silently lose steps.
            if try !ranks.confirm(!problems.contains { $0.isIncompatible }) { break }
        }
        guard !names.isEmpty else {
            throw ArtifactError.missing(path: folder, reason: "there is no checkpoint")
        }
        throw firstError ?? elsewhere(folder, "no checkpoint is sound")
    }

    private func elsewhere(_ path: String, _ reason: String) -> ArtifactError {
        .cannotRead(path: path, reason: "\(reason); another rank's message says why")
    }

    /// Where to look, best first: `latest`, then the older ones, then newer ones that `latest` was not yet set to.
    private func candidates(_ choice: CheckpointChoice, _ warnings: inout [String]) throws -> [CheckpointName] {
        if case .named(let name) = choice { return [name] }
        let names = try names()
        var latest: CheckpointName?
        do {
            latest = try self.latest()
        } catch let error as ArtifactError {
            warnings.append("\(error)")
        }
        guard let latest else { return names.reversed() }
        return [latest] + names.filter { $0 < latest }.reversed() + names.filter { $0 > latest }.reversed()
    }

    private func inspect(
        _ name: CheckpointName, _ ranks: CheckpointCoordination
    ) -> (Checkpoint?, [ArtifactError]) {
        do {
            let checkpoint = try checkpoint(name)
            return (checkpoint, checkpoint.verify(share: ranks.rank, of: ranks.worldSize))
        } catch let error as ArtifactError {
            return (nil, [error])
        } catch {
            return (nil, [.cannotRead(path: path(name), reason: "\(error)")])
        }
    }
}

extension ArtifactError {
    fileprivate var isIncompatible: Bool {
        if case .incompatible = self { true } else { false }
    }
}
