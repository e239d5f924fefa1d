/// One rank's part of a trace in the JSON trace event format, which chrome://tracing and Perfetto open: a process for each
/// rank, a thread for each track.
package struct TraceEvents: Sendable {
    package let rank: Int
    package let hostName: String
    /// Nanoseconds of this rank's monotonic clock at time 0 of the trace.
    package let origin: Int64

    package init(rank: Int, hostName: String, origin: Int64) {
        self.rank = rank
        self.hostName = hostName
        self.origin = origin
    }

    /// A file of the parts of several ranks.
    ///
    /// - Parameter summary: names and texts that belong to the whole.
    package static func document(_ parts: [String], summary: [(name: String, text: String)]) -> String {
        let others = summary.map { "\(quoted($0.name)):\(quoted($0.text))" }.joined(separator: ",")
        return "{\"traceEvents\":[\n" + parts.filter { !$0.isEmpty }.joined(separator: ",\n")
            + "\n],\"displayTimeUnit\":\"ms\",\"otherData\":{\(others)}}\n"
    }

    /// The events of a recorder, one to a line, separated by commas.
    package func json(_ recorder: TraceRecorder) -> String {
        let slices = recorder.slices
        let reductions = recorder.reductions
        var lines: [String] = [metadata("process_name", "rank \(rank) on \(hostName)", thread: nil)]
        lines.reserveCapacity(slices.count + reductions.count + 8)
        lines.append(#"{"name":"process_sort_index","ph":"M","pid":\#(rank),"args":{"sort_index":\#(rank)}}"#)
        for track in TraceRecorder.Track.allCases {
            lines.append(metadata("thread_name", track.name, thread: track.rawValue))
            lines.append(
                #"{"name":"thread_sort_index","ph":"M","pid":\#(rank),"tid":\#(track.rawValue),"#
                    + #""args":{"sort_index":\#(track.rawValue)}}"#)
        }
        for slice in slices { lines.append(line(slice)) }
        for reduction in reductions { lines.append(line(reduction)) }
        return lines.joined(separator: ",\n")
    }

    private func metadata(_ name: String, _ value: String, thread: Int?) -> String {
        let thread = thread.map { ",\"tid\":\($0)" } ?? ""
        return "{\"name\":\"\(name)\",\"ph\":\"M\",\"pid\":\(rank)\(thread),\"args\":{\"name\":\(Self.quoted(value))}}"
    }

    private func line(_ slice: TraceRecorder.Slice) -> String {
        var arguments: [String] = []
        if slice.bytes > 0 { arguments.append("\"bytes\":\(slice.bytes)") }
        if !slice.detail.isEmpty { arguments.append("\"how\":\(Self.quoted(slice.detail))") }
        let name = slice.number.map { "\(slice.name) \($0)" } ?? slice.name
        return "{\"name\":\(Self.quoted(name)),\"cat\":\"\(slice.track.name)\",\"ph\":\"X\",\"ts\":"
            + Self.microseconds(Int64(slice.start) - origin) + ",\"dur\":"
            + Self.microseconds(Int64(slice.end) - Int64(slice.start))
            + ",\"pid\":\(rank),\"tid\":\(slice.track.rawValue),\"args\":{\(arguments.joined(separator: ","))}}"
    }

    /// A counter: how many milliseconds of the step's reduction were hidden behind backward, and how many were not.
    private func line(_ reduction: TraceRecorder.Reduction) -> String {
        func milliseconds(_ seconds: Double) -> String { Self.microseconds(Int64((seconds * 1e6).rounded())) }
        return "{\"name\":\"reduction, ms\",\"ph\":\"C\",\"ts\":" + Self.microseconds(Int64(reduction.end) - origin)
            + ",\"pid\":\(rank),\"args\":{\"hidden\":\(milliseconds(reduction.seconds - reduction.exposed)),"
            + "\"exposed\":\(milliseconds(reduction.exposed))}}"
    }

    /// Thousandths as a decimal number: nanoseconds as microseconds.
    private static func microseconds(_ nanoseconds: Int64) -> String {
        let (whole, rest) = nanoseconds.magnitude.quotientAndRemainder(dividingBy: 1000)
        let digits = String(rest)
        return (nanoseconds < 0 ? "-" : "") + "\(whole)." + String(repeating: "0", count: 3 - digits.count) + digits
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
