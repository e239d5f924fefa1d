import Foundation
import Telemetry
import Testing

/// The event log: lines that any JSON reader takes, appended and never rewritten.
@Suite struct RunLogTests {
    private func scratch() throws -> String {
        let folder = FileManager.default.temporaryDirectory.appending(path: "acuity-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        return folder
    }

    private func decoded(_ json: String) throws -> Any {
        try JSONSerialization.jsonObject(with: Data(json.utf8), options: .fragmentsAllowed)
    }

    @Test(arguments: [
        "", "plain", "a \"quoted\" word", "back\\slash", "line\nbreak\r\ttab", "\u{0}\u{1}\u{8}\u{c}\u{1f}", "Ä 顔 👤",
        "\u{2028}\u{2029}\u{7f}", "</script>", "e\u{301}",
    ])
    func textsSurviveJSON(_ text: String) throws {
        let read = try decoded(LogValue.text(text).json)
        #expect(Array((read as? String ?? "?").unicodeScalars) == Array(text.unicodeScalars))
        #expect(!LogValue.text(text).json.contains("\n"))
    }

    @Test func numbersSurviveJSON() throws {
        for value in [0, 0.1, -1e-300, 1e300, .leastNonzeroMagnitude, .pi, -0.0] as [Double] {
            #expect(try decoded(LogValue.number(value).json) as? Double == value)
        }
        #expect(try decoded(LogValue.integer(.max).json) as? Int == .max)
        #expect(LogValue.flag(true).json == "true" && LogValue.flag(false).json == "false")
        #expect(LogValue.numbers([0.5, .nan, -2]).json == "[0.5,\"nan\",-2.0]" && LogValue.numbers([]).json == "[]")
        // JSON has no such numbers.
        #expect(LogValue.number(.nan).json == "\"nan\"")
        #expect(LogValue.number(.infinity).json == "\"inf\"")
        #expect(LogValue.number(-.infinity).json == "\"-inf\"")
    }

    @Test func eventsAreAppendedAsLines() throws {
        let folder = try scratch()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = folder + "/log.jsonl"
        try RunLog(path: path).write("start", step: 0, ["recipe": "a\nb", "ranks": 2])
        let before = Date().timeIntervalSince1970
        let log = try RunLog(path: path)
        try log.write("step", step: 7, [("loss", .number(0.5)), ("a \"key\"", .flag(true))])
        let text = try String(contentsOfFile: path, encoding: .utf8)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count == 3 && lines[2].isEmpty)
        #expect(lines[0].hasPrefix("{\"schema\":1,\"ts\":"))
        #expect(lines[0].hasSuffix("\"event\":\"start\",\"step\":0,\"recipe\":\"a\\nb\",\"ranks\":2}"))
        let second = try #require(try decoded(String(lines[1])) as? [String: Any])
        #expect(second["event"] as? String == "step" && second["step"] as? Int == 7 && second["loss"] as? Double == 0.5)
        #expect(second["a \"key\""] as? Bool == true)
        #expect(abs((second["ts"] as? Double ?? 0) - before) < 60)
    }

    /// What the end of a process has cut off stays a line of its own.
    @Test(arguments: ["", "{\"schema\":1,\"ts\":17", "\n", "{\"schema\":1}\n"])
    func noEventIsAppendedToALineThatWasCut(_ left: String) throws {
        let folder = try scratch()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = folder + "/log.jsonl"
        try Data(left.utf8).write(to: URL(filePath: path))
        let log = try RunLog(path: path)
        for step in 1...2 { try log.write("step", step: step, []) }
        let text = try String(contentsOfFile: path, encoding: .utf8)
        let begin = left.isEmpty || left.hasSuffix("\n") ? left : left + "\n"
        #expect(text.hasPrefix(begin + "{\"schema\":1,\"ts\":"), "\(text)")
        let lines = text.dropFirst(begin.count).split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count == 3 && lines[2].isEmpty)
        for (index, line) in lines.dropLast().enumerated() {
            let event = try #require(try decoded(String(line)) as? [String: Any])
            #expect(event["step"] as? Int == index + 1)
        }
    }

    /// A disk that fills within an event, which is lost, and has room again for the next one.
    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/dev/full")), arguments: ["", "{\"schema\":1,\"ts\":17"])
    func afterAFailedWriteALineBegins(_ written: String) throws {
        let folder = try scratch()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = folder + "/log.jsonl"
        let log = try RunLog(path: path)
        try log.write("start", step: 0, [])
        let descriptor = try #require(try openDescriptor(of: path))
        let (full, file) = (open("/dev/full", O_WRONLY | O_CLOEXEC), dup(descriptor))
        #expect(full >= 0 && file >= 0 && dup2(full, descriptor) == descriptor)
        #expect(throws: RunLogError.self) { try log.write("step", step: 1, []) }
        let end = try FileHandle(forWritingTo: URL(filePath: path))
        _ = try end.seekToEnd()
        try end.write(contentsOf: Data(written.utf8))
        try end.close()
        #expect(dup2(file, descriptor) == descriptor)
        close(full)
        close(file)
        for step in 2...3 { try log.write("step", step: step, []) }
        let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count == (written.isEmpty ? 4 : 5) && lines.last?.isEmpty == true, "\(lines)")
        let steps = lines.compactMap { (try? decoded(String($0)) as? [String: Any])?["step"] as? Int }
        #expect(steps == [0, 2, 3], "\(lines)")
    }

    /// The descriptor under which this process has a file open.
    private func openDescriptor(of path: String) throws -> Int32? {
        // The folder of temporary files may be reached by a link.
        let end = path.split(separator: "/").suffix(2).joined(separator: "/")
        return try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").first {
            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/" + $0)
            return target?.hasSuffix(end) == true
        }.flatMap { Int32($0) }
    }

    @Test func aLogThatCannotBeWrittenSaysWhy() throws {
        let folder = try scratch()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let error = #expect(throws: RunLogError.self) { try RunLog(path: folder + "/no/log.jsonl") }
        #expect(error?.reason == "No such file or directory")
        #expect(throws: RunLogError.self) { try RunLog(path: folder) }
    }

    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/dev/full"))) func aFullDiskSaysSo() throws {
        let log = try RunLog(path: "/dev/full")
        let error = #expect(throws: RunLogError.self) { try log.write("step", step: 1, []) }
        #expect(error?.description == "/dev/full: cannot write the log: No space left on device")
        #expect(error?.isFullDisk == true)
    }
}
