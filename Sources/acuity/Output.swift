import Artifacts
import Foundation
import Telemetry

/// Files that commands write, and their JSON.
enum Output {
    /// Makes a folder and those above it.
    ///
    /// - Throws: `ArtifactError.cannotWrite`.
    static func folder(_ path: String) throws {
        var isFolder: ObjCBool = false
        if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) {
            if isFolder.boolValue { return }
            throw ArtifactError.cannotWrite(path: path, reason: "a file of that name is in the way of the folder")
        }
        try folder(of: path)
        if mkdir(path, 0o777) != 0, errno != EEXIST {
            throw ArtifactError.cannotWrite(path: path, reason: String(cString: strerror(errno)))
        }
    }

    /// Makes the folder that a file is to be written into.
    static func folder(of path: String) throws {
        let above = URL(filePath: path).deletingLastPathComponent().path
        if above != path, above != "/" { try folder(above) }
    }

    /// Makes the folder that files are to be written into, and makes sure that they can be: before the work, not after it.
    ///
    /// - Throws: `ArtifactError.cannotWrite`.
    static func place(for path: String) throws {
        try folder(of: path)
        var isFolder: ObjCBool = false
        if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
            throw ArtifactError.cannotWrite(path: path, reason: "a folder of that name is in the way of the file")
        }
        // A new file takes the place of an old one: the folder is what must be writable.
        let above = URL(filePath: path).deletingLastPathComponent().path
        if access(above, W_OK | X_OK) != 0 {
            throw ArtifactError.cannotWrite(path: path, reason: String(cString: strerror(errno)))
        }
    }

    /// Makes the folder of files that begin with a prefix, such as 'packed/train' for 'packed/train.rec'.
    ///
    /// - Throws: `ArtifactError.cannotWrite`, also where the prefix ends without a name ('packed/', '.').
    static func folder(ofPrefix prefix: String) throws {
        let name = prefix.split(separator: "/", omittingEmptySubsequences: false).last ?? ""
        if name.isEmpty || name == "." || name == ".." {
            let folder = prefix.isEmpty || name.isEmpty ? prefix : prefix + "/"
            throw ArtifactError.cannotWrite(
                path: prefix, reason: "the files need a name to begin with; give a prefix such as '\(folder)train'")
        }
        try folder(of: prefix)
    }

    /// - Throws: `ArtifactError.cannotWrite`.
    static func write(_ data: Data, to path: String) throws {
        do {
            try data.write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw ArtifactError.cannotWrite(path: path, reason: systemReason(error))
        }
    }

    static func write(_ text: String, to path: String) throws { try write(Data(text.utf8), to: path) }

    /// - Parameter lines: without their line breaks.
    static func write(lines: [String], to path: String) throws {
        try write(lines.joined(separator: "\n") + "\n", to: path)
    }

    // MARK: - JSON

    /// With sorted keys, and a line break at the end.
    static func json(_ value: some Encodable) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(value) + [10]
    }

    /// The same on one line.
    static func jsonLine(
        _ value: some Encodable, keys: JSONEncoder.KeyEncodingStrategy = .useDefaultKeys
    ) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = keys
        return try encoder.encode(value) + [10]
    }

    /// Prints what `json` or `jsonLine` gave.
    static func show(_ json: Data) { print(String(decoding: json, as: UTF8.self), terminator: "") }
}
