import Collectives
import Foundation
import TestSupport
import Testing

/// What a trace keeps, and the file that it becomes.
@Suite struct TraceTests {
    private static func slice(
        _ name: String, _ start: UInt64, _ end: UInt64, on track: TraceRecorder.Track = .step
    ) -> TraceRecorder.Slice {
        .init(track: track, name: name, number: nil, start: start, end: end, bytes: 0, detail: "")
    }

    @Test func nothingIsKeptOutsideOfTheTrace() {
        let recorder = TraceRecorder(capacity: 10, steps: 2)
        recorder.add(Self.slice("before", 1, 2))
        recorder.start()
        #expect(recorder.isRecording)
        recorder.add(Self.slice("within", 3, 4))
        recorder.stop()
        recorder.add(Self.slice("after", 5, 6))
        recorder.add(TraceRecorder.Reduction(step: 1, end: 6, seconds: 1, exposed: 0))
        #expect(recorder.slices.map(\.name) == ["within"] && recorder.reductions.isEmpty && recorder.lostCount == 0)
    }

    @Test func whatDoesNotFitIsCounted() {
        let recorder = TraceRecorder(capacity: 2, steps: 1)
        recorder.start()
        for i in 0..<5 { recorder.add(Self.slice("\(i)", UInt64(i), UInt64(i + 1))) }
        #expect(recorder.slices.map(\.name) == ["0", "1"] && recorder.lostCount == 3)
    }

    @Test func outerSlicesComeBeforeInnerOnes() {
        let recorder = TraceRecorder(capacity: 10, steps: 1)
        recorder.start()
        for slice in [
            Self.slice("gather", 0, 9, on: .collectives), Self.slice("inner", 10, 15), Self.slice("outer", 10, 20),
            Self.slice("first", 1, 2),
        ] { recorder.add(slice) }
        #expect(recorder.slices.map(\.name) == ["first", "outer", "inner", "gather"])
    }

    @Test func aSliceCoversItsBodyAndHandsItsResultOn() throws {
        struct Failure: Error {}
        let none: TraceRecorder? = nil
        #expect(none.slice("nothing") { 3 } == 3)
        let recorder: TraceRecorder? = TraceRecorder(capacity: 10, steps: 1)
        #expect(recorder.slice("off") { 4 } == 4)
        recorder?.start()
        let sum = recorder.slice("outer") { recorder.slice("inner", number: 7, bytes: 8, detail: "x") { 5 } + 1 }
        #expect(throws: Failure.self) { try recorder.slice("fails", on: .collectives) { throw Failure() } }
        let slices = try #require(recorder?.slices)
        #expect(sum == 6 && slices.map(\.name) == ["outer", "inner", "fails"])
        #expect(slices[0].start <= slices[1].start && slices[1].end <= slices[0].end)
        #expect(slices[1].number == 7 && slices[1].bytes == 8 && slices[1].detail == "x")
        #expect(slices[2].track == .collectives)
    }

    @Test func theRingHandsItsCollectivesOn() throws {
        let ring = CollectiveRing()
        let recorder = TraceRecorder(capacity: 10, steps: 1)
        recorder.start()
        func run(_ channel: String, _ label: String) throws {
            try ring.record(channel: channel, operation: "allGather", label: label, bytes: 16) {}
        }
        try run("world", "before")
        ring.trace(into: recorder)
        try run("labels", "head labels")
        try run("gradients between hosts", "gradients, bucket 0")
        ring.trace(into: nil)
        try run("world", "after")
        let slices = recorder.slices
        #expect(slices.map(\.name) == ["gradients, bucket 0", "head labels"])
        #expect(slices.map(\.track) == [.communication, .collectives])
        #expect(slices.allSatisfy { $0.bytes == 16 && $0.detail == "allGather" && $0.end >= $0.start })
    }

    private struct Document: Decodable {
        struct Event: Decodable {
            struct Arguments: Decodable {
                var name: String?
                var bytes: Int?
                var how: String?
                var hidden: Double?
                var exposed: Double?
            }
            var name: String
            var ph: String
            var pid: Int
            var tid: Int?
            var ts: Double?
            var dur: Double?
            var args: Arguments
        }
        var traceEvents: [Event]
        var otherData: [String: String]
    }

    @Test func theFileIsJSONOfTheKnownForm() throws {
        let recorder = TraceRecorder(capacity: 10, steps: 1)
        recorder.start()
        recorder.add(
            TraceRecorder.Slice(
                track: .communication, name: "a \"quoted\" \\ name\n", number: 3, start: 5_001_234, end: 7_000_000,
                bytes: 4096, detail: "window"))
        // Another host's clock may be a little early.
        recorder.add(Self.slice("early", 4_999_999, 5_000_000))
        recorder.add(TraceRecorder.Reduction(step: 1, end: 8_000_000, seconds: 0.005, exposed: 0.001))
        let parts = [2, 3].map { TraceEvents(rank: $0, hostName: "node", origin: 5_000_000).json(recorder) }
        let text = TraceEvents.document(parts, summary: [("overlap", "80 %")])
        let document = try JSONDecoder().decode(Document.self, from: Data(text.utf8))
        #expect(document.otherData == ["overlap": "80 %"])
        let own = document.traceEvents.filter { $0.pid == 2 }
        #expect(own.count == document.traceEvents.count / 2)
        #expect(own.contains { $0.ph == "M" && $0.name == "process_name" && $0.args.name == "rank 2 on node" })
        let rows = own.filter { $0.name == "thread_name" }.compactMap(\.args.name)
        #expect(rows == ["step", "communication", "collectives"])
        let bucket = try #require(own.first { $0.tid == 2 && $0.ph == "X" })
        #expect(bucket.name == "a \"quoted\" \\ name\n 3" && bucket.ts == 1.234 && bucket.dur == 1998.766)
        #expect(bucket.args.bytes == 4096 && bucket.args.how == "window")
        #expect(own.first { $0.name == "early" }?.ts == -0.001)
        let counter = try #require(own.first { $0.ph == "C" })
        #expect(counter.args.hidden == 4 && counter.args.exposed == 1 && counter.ts == 3000)
        let empty = try JSONDecoder().decode(Document.self, from: Data(TraceEvents.document([], summary: []).utf8))
        #expect(empty.traceEvents.isEmpty)
    }

    /// Ranks of one process have one clock, so what is found between "hosts" is the error.
    @Test func clocksOfHostsAreCompared() throws {
        let offsets = try InProcessGroup.run(ranks: 4, ranksPerHost: [2, 1, 1]) { try ClockOffset.measure($0) }
        for all in offsets { #expect(all == offsets[0]) }
        #expect(offsets[0][0] == ClockOffset() && offsets[0][1] == ClockOffset())
        for other in offsets[0][2...] {
            #expect(abs(other.nanoseconds) <= other.uncertainty + 1 && other.uncertainty < 50_000_000, "\(other)")
        }
        let alone = try InProcessGroup.run(ranks: 2) { try ClockOffset.measure($0) }
        #expect(alone == [[ClockOffset(), ClockOffset()], [ClockOffset(), ClockOffset()]])
    }
}
