import Artifacts
import Foundation
import Tensors

/// Passes operations on until the n-th (from 0), which fails.
final class FaultInjector: FileSystem, @unchecked Sendable {
    enum Fault: Equatable {
        /// The operation fails once, for example with EIO.
        case once(Int32)
        /// From here on nothing that needs space works.
        case full
        /// The process ends: this operation is half done, and no other follows.
        case crash
    }

    /// The process has ended.
    struct Crash: Error {}

    private let base: any FileSystem
    private let place: Int
    private let fault: Fault
    private let lock = NSLock()
    private var count = 0

    init(_ base: any FileSystem, at place: Int, _ fault: Fault) {
        self.base = base
        self.place = place
        self.fault = fault
    }

    /// Whether the place was reached.
    var fired: Bool { lock.withLock { count > place } }
    /// Whether the process has ended.
    var crashed: Bool { fault == .crash && fired }

    /// The collectives of a process that may end: an ended one takes part in none.
    func guarding(_ ranks: CheckpointCoordination) -> CheckpointCoordination {
        func alive() throws {
            if crashed { throw Crash() }
        }
        return CheckpointCoordination(
            rank: ranks.rank, worldSize: ranks.worldSize,
            confirm: {
                try alive()
                return try ranks.confirm($0)
            },
            gather: {
                try alive()
                return try ranks.gather($0)
            },
            broadcast: {
                try alive()
                return try ranks.broadcast($0)
            })
    }

    enum Need { case space, none }

    /// Counts an operation and throws what it has to suffer; `half` is done before the error.
    fileprivate func step(_ operation: String, _ path: String, _ need: Need, half: () throws -> Void = {}) throws {
        let index = lock.withLock {
            count += 1
            return count - 1
        }
        switch fault {
        case .crash where index == place:
            try half()
            throw Crash()
        case .crash where index > place: throw Crash()
        case .once(let code) where index == place:
            try half()
            throw FileSystemError(operation, path, code: code)
        case .full where index >= place && need == .space:
            try half()
            throw FileSystemError(operation, path, code: ENOSPC)
        default: break
        }
    }

    func createFile(_ path: String, exclusive: Bool) throws -> any WritableFile {
        try step("create", path, .space)
        return Writer(try base.createFile(path, exclusive: exclusive), path, self)
    }

    func openFile(_ path: String) throws -> any ReadableFile {
        try step("open", path, .none)
        return Reader(try base.openFile(path), path, self)
    }

    func rename(_ source: String, to destination: String) throws {
        try step("rename", source, .none)
        try base.rename(source, to: destination)
    }

    func makeDirectory(_ path: String) throws {
        try step("make folder", path, .space)
        try base.makeDirectory(path)
    }

    func removeFile(_ path: String) throws {
        try step("remove", path, .none)
        try base.removeFile(path)
    }

    func removeDirectory(_ path: String) throws {
        try step("remove folder", path, .none)
        try base.removeDirectory(path)
    }

    func synchroniseDirectory(_ path: String) throws {
        try step("fsync folder", path, .none)
        try base.synchroniseDirectory(path)
    }

    func entries(of path: String) throws -> [String] {
        try step("list", path, .none)
        return try base.entries(of: path)
    }

    func kind(of path: String) throws -> FileKind? {
        try step("examine", path, .none)
        return try base.kind(of: path)
    }

    private final class Writer: WritableFile {
        let base: any WritableFile
        let path: String
        let injector: FaultInjector

        init(_ base: any WritableFile, _ path: String, _ injector: FaultInjector) {
            self.base = base
            self.path = path
            self.injector = injector
        }

        func write(_ bytes: UnsafeRawBufferPointer) throws {
            try injector.step("write", path, .space) {
                try base.write(UnsafeRawBufferPointer(rebasing: bytes.prefix(bytes.count / 2)))
            }
            try base.write(bytes)
        }

        func synchronise() throws {
            try injector.step("fsync", path, .space)
            try base.synchronise()
        }

        func close() throws {
            try injector.step("close", path, .none)
            try base.close()
        }
    }

    private final class Reader: ReadableFile {
        let base: any ReadableFile
        let path: String
        let injector: FaultInjector

        init(_ base: any ReadableFile, _ path: String, _ injector: FaultInjector) {
            self.base = base
            self.path = path
            self.injector = injector
        }

        var byteCount: Int { base.byteCount }

        func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
            try injector.step("read", path, .none)
            try base.read(at: offset, into: buffer)
        }

        func map() throws -> AlignedBuffer {
            try injector.step("map", path, .none)
            return try base.map()
        }
    }
}
