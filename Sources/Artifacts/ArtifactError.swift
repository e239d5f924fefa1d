/// What is wrong with an artifact: a weights file, a checkpoint, the lock of a run.
///
/// Each case says which file it is about and what can be done; commands turn the case into their exit code.
package enum ArtifactError: Error, Equatable, CustomStringConvertible {
    /// The disk is full, the folder is read-only, a device failed while writing.
    case cannotWrite(path: String, reason: String)
    /// The file is there, but the system does not give its bytes.
    case cannotRead(path: String, reason: String)
    /// The bytes are not what the format or the manifest says.
    case damaged(path: String, reason: String)
    /// There is no such file, checkpoint or tensor.
    case missing(path: String, reason: String)
    /// The bytes are sound, but not for this use: another network, a newer format, an element type we do not read.
    case incompatible(path: String, reason: String)
    /// Another job holds the run folder.
    case locked(path: String, reason: String)

    package var description: String {
        switch self {
        case .cannotWrite(let path, let reason): "cannot write \(quoted(path)): \(reason)"
        case .cannotRead(let path, let reason): "cannot read \(quoted(path)): \(reason)"
        case .damaged(let path, let reason): "\(quoted(path)) is damaged: \(reason)"
        case .missing(let path, let reason): "\(quoted(path)): \(reason)"
        case .incompatible(let path, let reason): "\(quoted(path)) does not fit: \(reason)"
        case .locked(let path, let reason): "the run is locked by \(quoted(path)): \(reason)"
        }
    }

    package var path: String {
        switch self {
        case .cannotWrite(let path, _), .cannotRead(let path, _), .damaged(let path, _), .missing(let path, _),
            .incompatible(let path, _), .locked(let path, _):
            path
        }
    }

    /// The meaning of a failed system call while something was being read.
    static func reading(_ error: FileSystemError) -> ArtifactError {
        error.isNotFound
            ? .missing(path: error.path, reason: "there is no such file")
            : .cannotRead(path: error.path, reason: error.reason)
    }

    /// The meaning of a failed system call while something was being written.
    static func writing(_ error: FileSystemError) -> ArtifactError {
        .cannotWrite(path: error.path, reason: error.reason)
    }
}

/// Untrusted text for a message: in quotes, control characters escaped, shortened in the middle when long.
func quoted(_ text: some StringProtocol) -> String {
    var shown = ""
    var scalars = Array(text.unicodeScalars.prefix(4_097))
    if scalars.count > 300 { scalars = scalars[..<200] + Array("…".unicodeScalars) + scalars.suffix(90) }
    for scalar in scalars {
        if scalar.properties.generalCategory == .control || scalar.properties.generalCategory == .format {
            shown += "\\u{\(String(scalar.value, radix: 16))}"
        } else {
            shown.unicodeScalars.append(scalar)
        }
    }
    return "'\(shown)'"
}
