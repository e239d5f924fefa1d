/// What is wrong with a file of images, where, and what to do about it.
package struct FaceDataError: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Kind: Sendable {
        /// The file or folder is not there.
        case missing
        /// The bytes break the format.
        case malformed
        /// Sound, but of a kind that is not read.
        case unsupported
        /// Over one of the limits that protect memory and time.
        case tooLarge
        /// This one file is closed to us: its permissions, a loop of links, a name that is too long.
        case denied
        /// The operating system failed to read.
        case cannotRead
        /// The operating system refused to write.
        case cannotWrite
    }

    package enum Place: Sendable, Equatable, CustomStringConvertible {
        /// Lines count from 1.
        case line(Int)
        case byte(UInt64)
        /// A record of a RecordIO file: its key and where it begins.
        case record(key: UInt64, byte: UInt64)
        /// An entry of a set of pairs, from 0.
        case image(Int)

        package var description: String {
            switch self {
            case .line(let line): "line \(line)"
            case .byte(let byte): "byte \(byte)"
            case .record(let key, let byte): "record key \(key) at byte \(byte)"
            case .image(let index): "image \(index)"
            }
        }
    }

    package let kind: Kind
    package let file: String
    package let place: Place?
    package let reason: String
    /// What to do next.
    package let advice: String?

    package init(_ kind: Kind, file: String, at place: Place? = nil, _ reason: String, advice: String? = nil) {
        self.kind = kind
        self.file = file
        self.place = place
        self.reason = reason
        self.advice = advice
    }

    package var description: String {
        let position = place.map { ", \($0)" } ?? ""
        return "\(file)\(position): \(reason)" + (advice.map { "; \($0)" } ?? "")
    }
}
