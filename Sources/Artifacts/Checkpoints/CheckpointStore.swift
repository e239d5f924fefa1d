/// The checkpoints of a run: `RUN/checkpoints/`. The format and the order of operations: docs/formats/checkpoint.md.
///
/// A checkpoint is written in a hidden temporary folder by all ranks, and becomes one by the rename of that folder:
/// whatever happens before leaves the previous checkpoint as it was.
package struct CheckpointStore: Sendable {
    /// `RUN/checkpoints`
    package let folder: String
    let fileSystem: any FileSystem

    private static let latestFile = "latest"
    private static let bestFile = "best"

    package init(runFolder: String, fileSystem: any FileSystem = POSIXFileSystem()) {
        self.init(folder: joinedPath(runFolder, "checkpoints"), fileSystem: fileSystem)
    }

    private init(folder: String, fileSystem: any FileSystem) {
        self.folder = folder
        self.fileSystem = fileSystem
    }

    /// What a path names that a user gives: a run's folder, or the folder of one checkpoint.
    ///
    /// - Returns: the checkpoints beside it, and the one that is meant, if it is one.
    package static func locate(
        _ path: String, fileSystem: any FileSystem = POSIXFileSystem()
    ) -> (store: CheckpointStore, name: CheckpointName?) {
        if let name = CheckpointName(lastPathPart(path)) {
            return (CheckpointStore(folder: parentPath(path), fileSystem: fileSystem), name)
        }
        return (CheckpointStore(runFolder: path, fileSystem: fileSystem), nil)
    }

    package func path(_ name: CheckpointName) -> String { joinedPath(folder, name.description) }
    func temporaryPath(_ name: CheckpointName) -> String { joinedPath(folder, name.temporary) }

    /// The checkpoints that are there, oldest first, damaged ones included.
    ///
    /// - Throws: `ArtifactError.cannotRead`.
    package func names() throws -> [CheckpointName] {
        do {
            guard try fileSystem.kind(of: folder) != nil else { return [] }
            return try fileSystem.entries(of: folder).compactMap(CheckpointName.init).sorted()
        } catch let error as FileSystemError {
            throw ArtifactError.reading(error)
        }
    }

    /// One checkpoint with its manifest, its files not verified.
    ///
    /// - Throws: `ArtifactError`.
    package func checkpoint(_ name: CheckpointName) throws -> Checkpoint {
        try Checkpoint(name, folder: path(name), fileSystem: fileSystem)
    }

    // MARK: Pointers

    /// What `latest` names; nil where there is no such file.
    ///
    /// - Throws: `ArtifactError` `.cannotRead` or `.damaged`.
    package func latest() throws -> CheckpointName? { try pointer(Self.latestFile) }
    /// What `best` names; nil where there is no such file.
    ///
    /// - Throws: `ArtifactError` `.cannotRead` or `.damaged`.
    package func best() throws -> CheckpointName? { try pointer(Self.bestFile) }

    func setLatest(_ name: CheckpointName) throws { try setPointer(Self.latestFile, name) }

    /// Makes a committed checkpoint the best one, which retention never deletes. For rank 0.
    ///
    /// - Throws: `ArtifactError.cannotWrite`.
    package func setBest(_ name: CheckpointName) throws {
        do {
            try setPointer(Self.bestFile, name)
        } catch let error as FileSystemError {
            throw ArtifactError.writing(error)
        }
    }

    private func pointer(_ file: String) throws -> CheckpointName? {
        let path = joinedPath(folder, file)
        do {
            guard try fileSystem.kind(of: path) != nil else { return nil }
            let text = String(decoding: try fileSystem.readFile(path, atMost: 256), as: UTF8.self)
            guard let name = CheckpointName(text.hasSuffix("\n") ? String(text.dropLast()) : text) else {
                throw ArtifactError.damaged(path: path, reason: "\(quoted(text)) is not the name of a checkpoint")
            }
            return name
        } catch let error as FileSystemError {
            throw ArtifactError.reading(error)
        }
    }

    private func setPointer(_ file: String, _ name: CheckpointName) throws {
        try fileSystem.writeAtomically(joinedPath(folder, file), Array("\(name)\n".utf8))
    }

    // MARK: Cleaning

    /// Removes what interrupted saves left, which may have filled the disk. For rank 0 of the job that holds the run,
    /// while no save is under way.
    ///
    /// - Returns: what stays for now, and why. It harms nothing but for the room that it takes: on network file systems a file
    ///   that some process still has open keeps a name, and its folder.
    /// - Throws: `ArtifactError.cannotWrite` where the folder cannot be listed.
    package func clean() throws -> [String] {
        do {
            return try removeTemporaries()
        } catch let error as FileSystemError {
            throw ArtifactError.writing(error)
        }
    }

    /// What interrupted saves have left and is still there, by path; empty where that cannot be told. For rank 0, while no
    /// save is under way.
    package var leftovers: [String] { (try? temporaries()) ?? [] }

    /// As `clean`, which a save begins with.
    ///
    /// - Parameter needed: the path that the save needs: removed, or an error.
    /// - Throws: `FileSystemError`.
    func removeTemporaries(needed: String? = nil) throws -> [String] {
        var warnings: [String] = []
        for path in try temporaries() where path != needed {
            do {
                try fileSystem.removeTree(path)
            } catch let error as FileSystemError {
                warnings.append("left by an earlier save, and still there: \(error)")
            }
        }
        if let needed { try fileSystem.removeTree(needed) }
        return warnings
    }

    private func temporaries() throws -> [String] {
        guard try fileSystem.kind(of: folder) != nil else { return [] }
        return try fileSystem.entries(of: folder).filter { $0.hasPrefix(CheckpointName.temporaryPrefix) }
            .map { joinedPath(folder, $0) }
    }

    /// Removes a checkpoint so that a half-removed one is never taken for one.
    ///
    /// - Throws: `FileSystemError`.
    func remove(_ name: CheckpointName) throws {
        let aside = joinedPath(folder, CheckpointName.temporaryPrefix + "removed-" + name.description)
        try fileSystem.rename(path(name), to: aside)
        try fileSystem.synchroniseDirectory(folder)
        try fileSystem.removeTree(aside)
    }
}
