/// What `CheckpointStore.save` did.
package struct CommittedCheckpoint: Sendable {
    package let name: CheckpointName
    /// Bytes of all ranks' files (rank 0), of this rank's on the others.
    package let byteCount: Int
    /// Older checkpoints that retention deleted (rank 0).
    package let removed: [CheckpointName]
    /// What did not work and harms nothing yet: old checkpoints that cannot be deleted or read, and what earlier saves left.
    package let warnings: [String]
}

extension CheckpointStore {
    /// Writes a checkpoint. All ranks call this together; each writes its own files in `write`.
    ///
    /// Until the commit the previous checkpoint is what `open` gives, from then on the new one. When any rank fails
    /// before it, all ranks throw and no trace is left; after a failure one can go on and save again.
    ///
    /// - Parameters:
    ///   - step: steps taken.
    ///   - configHash: stored in the manifest.
    ///   - best: also makes the new checkpoint the one that `best` names.
    ///   - write: adds this rank's files. File names differ over the ranks.
    /// - Throws: `ArtifactError.cannotWrite` on every rank, naming the file on the rank that failed; what `write` or
    ///   the collectives throw.
    package func save(
        step: Int, configHash: String, retention: RetentionPolicy, best: Bool = false,
        with ranks: CheckpointCoordination = .alone, _ write: (CheckpointFiles) throws -> Void
    ) throws -> CommittedCheckpoint {
        let temporary = temporaryPath(CheckpointName(step: step))
        let files = CheckpointFiles(
            folder: temporary, rank: ranks.rank, worldSize: ranks.worldSize, fileSystem: fileSystem)
        var name = CheckpointName(step: step)
        var leftovers: [String] = []
        do {
            leftovers = try stage(temporary, files, ranks, write)
            let gathered = try ranks.gather(FileEntry.encode(files.entries))
            try ranks.together(otherwise: elsewhere(temporary)) {
                guard let gathered else { return }
                let manifest = try Self.manifest(
                    gathered, step: step, worldSize: ranks.worldSize, configHash: configHash, path: temporary)
                name = try commit(manifest, from: temporary)
            }
        } catch {
            // A failed save must not keep the space that the next one needs.
            if ranks.rank == 0 { try? fileSystem.removeTree(temporary) }
            if let error = error as? FileSystemError { throw ArtifactError.writing(error) }
            throw error
        }
        let announced = String(decoding: try ranks.broadcast(Array(name.description.utf8)), as: UTF8.self)
        let committed = CheckpointName(announced) ?? name
        let byteCount = files.entries.reduce(0) { $0 + $1.byteCount }
        guard ranks.rank == 0 else {
            return CommittedCheckpoint(name: committed, byteCount: byteCount, removed: [], warnings: [])
        }
        return finish(committed, retention, best: best, leftovers)
    }

    /// Writes a checkpoint of any number of ranks from one process: the ranks' files one after the other.
    ///
    /// - Parameter write: adds the files of one rank; called for each in turn.
    /// - Throws: `ArtifactError.cannotWrite`, and what `write` throws; no trace is left then.
    package func saveAlone(
        step: Int, worldSize: Int, configHash: String, retention: RetentionPolicy = RetentionPolicy(keepLast: .max),
        _ write: (CheckpointFiles) throws -> Void
    ) throws -> CommittedCheckpoint {
        let temporary = temporaryPath(CheckpointName(step: step))
        do {
            try fileSystem.makeDirectories(folder)
            let leftovers = try removeTemporaries(needed: temporary)
            try fileSystem.makeDirectory(temporary)
            var gathered: [[UInt8]] = []
            for rank in 0..<worldSize {
                let files = CheckpointFiles(
                    folder: temporary, rank: rank, worldSize: worldSize, fileSystem: fileSystem)
                try write(files)
                gathered.append(FileEntry.encode(files.entries))
            }
            try fileSystem.synchroniseDirectory(temporary)
            let manifest = try Self.manifest(
                gathered, step: step, worldSize: worldSize, configHash: configHash, path: temporary)
            return finish(try commit(manifest, from: temporary), retention, best: false, leftovers)
        } catch {
            try? fileSystem.removeTree(temporary)
            if let error = error as? FileSystemError { throw ArtifactError.writing(error) }
            throw error
        }
    }

    private func elsewhere(_ path: String) -> ArtifactError {
        .cannotWrite(path: path, reason: "another rank could not write its part; its own message says why")
    }

    /// All ranks: the temporary folder with every rank's files, durable.
    ///
    /// - Returns: what earlier saves left and could not be removed (rank 0).
    private func stage(
        _ temporary: String, _ files: CheckpointFiles, _ ranks: CheckpointCoordination,
        _ write: (CheckpointFiles) throws -> Void
    ) throws -> [String] {
        let leftovers = try ranks.together(otherwise: elsewhere(temporary)) { () -> [String] in
            guard ranks.rank == 0 else { return [] }
            try fileSystem.makeDirectories(folder)
            let warnings = try removeTemporaries(needed: temporary)
            try fileSystem.makeDirectory(temporary)
            return warnings
        }
        try ranks.together(otherwise: elsewhere(temporary)) {
            // The other ranks' hosts may still remember that the folder was not there; making it asks the server.
            if ranks.rank > 0 { try fileSystem.makeDirectories(temporary) }
            try write(files)
            try fileSystem.synchroniseDirectory(temporary)
        }
        return leftovers
    }

    private static func manifest(
        _ gathered: [[UInt8]], step: Int, worldSize: Int, configHash: String, path: String
    ) throws -> CheckpointManifest {
        do {
            let files = try gathered.flatMap { try FileEntry.decode($0) }
            let manifest = CheckpointManifest(step: step, worldSize: worldSize, configHash: configHash, files: files)
            if let problem = manifest.problem() {
                throw ArtifactError.cannotWrite(path: path, reason: "the ranks' files do not fit together: \(problem)")
            }
            return manifest
        } catch let failure as JSONScanner.Failure {
            throw ArtifactError.cannotWrite(
                path: path, reason: "a rank's list of files does not parse: byte \(failure.offset), \(failure.reason)")
        }
    }

    /// Rank 0: the manifest, the rename that makes it a checkpoint, the pointer.
    private func commit(_ manifest: CheckpointManifest, from temporary: String) throws -> CheckpointName {
        try fileSystem.writeFile(joinedPath(temporary, CheckpointManifest.fileName)) { file in
            try manifest.encode().withUnsafeBytes { try file.write($0) }
        }
        try fileSystem.synchroniseDirectory(temporary)
        try checkSizes(manifest, in: temporary)
        let sameStep = try names().filter { $0.step == manifest.step }
        let name = CheckpointName(step: manifest.step, revision: (sameStep.last?.revision ?? 0) + 1)
        try fileSystem.rename(temporary, to: path(name))
        try fileSystem.synchroniseDirectory(folder)
        try setLatest(name)
        return name
    }

    /// Before older checkpoints are given up for this one: rank 0 must see all that the others have written.
    private func checkSizes(_ manifest: CheckpointManifest, in folder: String) throws {
        for file in manifest.files {
            let path = joinedPath(folder, file.name)
            let byteCount = try fileSystem.openFile(path).byteCount
            guard byteCount == file.byteCount else {
                throw ArtifactError.cannotWrite(
                    path: path,
                    reason: "rank \(file.rank) wrote \(file.byteCount) bytes, rank 0 finds \(byteCount); is the run "
                        + "folder on one file system that all hosts share, and does it keep what it is given?")
            }
        }
    }

    /// Rank 0, after the commit: `best` and retention. Nothing here can undo the commit, so failures are warnings.
    private func finish(
        _ name: CheckpointName, _ retention: RetentionPolicy, best: Bool, _ leftovers: [String]
    ) -> CommittedCheckpoint {
        var warnings = leftovers
        var removed: [CheckpointName] = []
        var byteCount = 0
        do {
            byteCount = try checkpoint(name).byteCount
            if best { try setBest(name) }
            // An unreadable `best` stops deletion: it might name anything.
            let best = try self.best()
            let sound = try names().filter { other in
                let problem = problem(other)
                if let problem, other < name { warnings.append("not counted, not deleted: \(problem)") }
                return problem == nil
            }
            for old in retention.removable(sound, latest: name, best: best) {
                try remove(old)
                removed.append(old)
            }
        } catch {
            warnings.append("\(error)")
        }
        return CommittedCheckpoint(name: name, byteCount: byteCount, removed: removed, warnings: warnings)
    }

    /// Whether a checkpoint is visibly not sound: what is damaged must not count among those kept.
    private func problem(_ name: CheckpointName) -> ArtifactError? {
        do {
            return try checkpoint(name).verifySizes().first
        } catch let error as ArtifactError {
            return error
        } catch {
            return .cannotRead(path: path(name), reason: "\(error)")
        }
    }
}
