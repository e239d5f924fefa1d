package import Artifacts
import Collectives

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// A file system on which `disk-full` and `torn-write` strike while the checkpoint of their step is written. The step is
/// told from the path, so that a checkpoint that is written behind the training meets its own faults.
package struct InjectedDisk: FileSystem {
    private let base: any FileSystem
    private let faults: FaultPlan
    private let rank: Int

    package init(_ base: any FileSystem, _ faults: FaultPlan, rank: Int) {
        self.base = base
        self.faults = faults
        self.rank = rank
    }

    /// N of a path that goes through `step-N` or `.tmp-step-N`: the innermost, for the run's folder may have such a name.
    private static func step(of path: String) -> Int? {
        for part in path.split(separator: "/").reversed() {
            let name = part.hasPrefix(".tmp-") ? part.dropFirst(5) : part
            guard name.hasPrefix("step-") else { continue }
            let digits = name.dropFirst(5).prefix { $0.isASCII && $0.isNumber }
            if let step = Int(digits) { return step }
        }
        return nil
    }

    package func createFile(_ path: String, exclusive: Bool) throws -> any WritableFile {
        guard let step = Self.step(of: path) else { return try base.createFile(path, exclusive: exclusive) }
        let isFull = faults.due(.diskFull, .save, step: step, rank: rank) != nil
        let isTorn = faults.due(.tornWrite, .save, step: step, rank: rank) != nil
        return Writer(try base.createFile(path, exclusive: exclusive), path, isFull: isFull, isTorn: isTorn)
    }

    package func openFile(_ path: String) throws -> any ReadableFile { try base.openFile(path) }
    package func rename(_ source: String, to destination: String) throws { try base.rename(source, to: destination) }
    package func makeDirectory(_ path: String) throws { try base.makeDirectory(path) }
    package func removeFile(_ path: String) throws { try base.removeFile(path) }
    package func removeFile(_ path: String, holding bytes: [UInt8]) throws { try base.removeFile(path, holding: bytes) }
    package func removeDirectory(_ path: String) throws { try base.removeDirectory(path) }
    package func synchroniseDirectory(_ path: String) throws { try base.synchroniseDirectory(path) }
    package func entries(of path: String) throws -> [String] { try base.entries(of: path) }
    package func kind(of path: String) throws -> FileKind? { try base.kind(of: path) }

    private final class Writer: WritableFile {
        private let base: any WritableFile
        private let path: String
        private let isFull: Bool
        private var isTorn: Bool

        init(_ base: any WritableFile, _ path: String, isFull: Bool, isTorn: Bool) {
            self.base = base
            self.path = path
            self.isFull = isFull
            self.isTorn = isTorn
        }

        func write(_ bytes: UnsafeRawBufferPointer) throws {
            guard isFull || isTorn else { return try base.write(bytes) }
            try base.write(UnsafeRawBufferPointer(rebasing: bytes.prefix(bytes.count / 2)))
            if isFull { throw FileSystemError("write", path, code: ENOSPC) }
            // The rest never arrives, and nobody is told.
            isTorn = false
        }

        func synchronise() throws { try base.synchronise() }
        func close() throws { try base.close() }
    }
}
