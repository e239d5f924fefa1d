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
