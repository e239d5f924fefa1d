import Foundation

/// A value in the log.
package enum LogValue: Sendable, Equatable, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByStringLiteral, ExpressibleByBooleanLiteral
{
    case integer(Int)
    case number(Double)
    case text(String)
    case flag(Bool)
    case numbers([Double])

    package init(integerLiteral value: Int) { self = .integer(value) }
    package init(floatLiteral value: Double) { self = .number(value) }
    package init(stringLiteral value: String) { self = .text(value) }
    package init(booleanLiteral value: Bool) { self = .flag(value) }

    /// JSON; a number that JSON cannot hold becomes a text ("nan", "inf").
    package var json: String {
        switch self {
        case .integer(let value): String(value)
        case .number(let value): value.isFinite ? "\(value)" : "\"\(value)\""
        case .flag(let value): value ? "true" : "false"
        case .numbers(let values): "[" + values.map { LogValue.number($0).json }.joined(separator: ",") + "]"
        case .text(let value): Self.quoted(value)
        }
    }

    package static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where scalar.value < 0x20: result += "\\u" + String(repeating: "0", count: 2) + hex(scalar.value)
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    private static func hex(_ value: UInt32) -> String {
        let digits = String(value, radix: 16)
        return digits.count == 1 ? "0" + digits : digits
    }
}

/// The run's events as JSON lines: one object per line, appended and flushed per event.
///
/// Every line has `schema`, `ts` (seconds since 1970), `event` and `step`. After a resume the events of the steps that
/// were lost stand twice; the `resume` event tells a reader where to cut. A `start` event begins a new run, whose folder may
/// hold the log of one that ended before its first checkpoint. What a full disk or the end of a process has cut off stays as
/// a line that is no JSON, and no event is appended to it.
package final class RunLog {
    package static let schema = 1
    private let handle: FileHandle
    package let path: String
    /// The file may end within a line.
    private var mayBeCut = true

    /// Opens for appending, creating the file.
    ///
    /// - Throws: `RunLogError` when the file cannot be written.
    package init(path: String) throws {
        let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw RunLogError(path: path, reason: String(cString: strerror(errno))) }
        handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        self.path = path
    }

    /// Appends one event; the fields keep their order.
    ///
    /// - Throws: `RunLogError`.
    package func write(_ event: String, step: Int, _ fields: KeyValuePairs<String, LogValue>) throws {
        try write(event, step: step, fields.map { ($0.key, $0.value) })
    }

    /// Appends one event; the fields keep their order.
    ///
    /// - Throws: `RunLogError`.
    package func write(_ event: String, step: Int, _ fields: [(String, LogValue)]) throws {
        let head: [(String, LogValue)] = [
            ("schema", .integer(Self.schema)), ("ts", .number((Date().timeIntervalSince1970 * 1000).rounded() / 1000)),
            ("event", .text(event)), ("step", .integer(step)),
        ]
        let line =
            "{" + (head + fields).map { "\(LogValue.quoted($0.0)):\($0.1.json)" }.joined(separator: ",") + "}\n"
        let begin = mayBeCut && endsWithinLine ? "\n" : ""
        do {
            mayBeCut = true
            try handle.write(contentsOf: Data((begin + line).utf8))
            mayBeCut = false
        } catch {
            throw RunLogError(path: path, reason: systemReason(error))
        }
    }

    /// Whether the last byte is no newline; false where that cannot be told.
    private var endsWithinLine: Bool {
        let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        let end = lseek(descriptor, 0, SEEK_END)
        var last: UInt8 = 0
        guard end > 0, pread(descriptor, &last, 1, end - 1) == 1 else { return false }
        return last != UInt8(ascii: "\n")
    }
}

/// The log cannot be written.
package struct RunLogError: Error, Equatable, CustomStringConvertible {
    package let path: String
    package let reason: String

    package init(path: String, reason: String) {
        self.path = path
        self.reason = reason
    }

    /// There is no room, or not enough of the user's share, for now.
    package var isFullDisk: Bool { [ENOSPC, EDQUOT].contains { reason == String(cString: strerror($0)) } }

    package var description: String { "\(path): cannot write the log: \(reason)" }
}
