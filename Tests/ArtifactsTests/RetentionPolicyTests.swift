import Artifacts
import Testing

@Suite struct RetentionPolicyTests {
    private func removable(
        _ names: [String], _ policy: RetentionPolicy, latest: String, best: String? = nil
    ) throws -> [String] {
        let names = try names.map { try #require(CheckpointName($0)) }
        let removable = policy.removable(
            names, latest: try #require(CheckpointName(latest)), best: best.flatMap { CheckpointName($0) })
        return removable.map(\.description)
    }

    private let hundreds = (1...9).map { "step-00000\($0)00" }

    @Test func keepsTheLast() throws {
        #expect(try removable(hundreds, RetentionPolicy(keepLast: 3), latest: hundreds[8]) == Array(hundreds[..<6]))
        #expect(try removable(hundreds, RetentionPolicy(keepLast: 1), latest: hundreds[8]) == Array(hundreds[..<8]))
        #expect(try removable(hundreds, RetentionPolicy(keepLast: 20), latest: hundreds[8]) == [])
    }

    @Test func keepsEveryNthAndTheBest() throws {
        let policy = RetentionPolicy(keepLast: 2, keepEvery: 300)
        #expect(
            try removable(hundreds, policy, latest: hundreds[8], best: hundreds[3])
                == [hundreds[0], hundreds[1], hundreds[4], hundreds[6]])
    }

    @Test func leavesWhatIsNewerThanTheLatest() throws {
        #expect(
            try removable(hundreds, RetentionPolicy(keepLast: 2), latest: hundreds[4]) == Array(hundreds[..<3]))
    }

    @Test func countsAStepOnce() throws {
        let names = ["step-00000010", "step-00000020", "step-00000020-2", "step-00000020-3"]
        let policy = RetentionPolicy(keepLast: 2, keepEvery: 10)
        #expect(try removable(names, policy, latest: names[3]) == [names[1], names[2]])
        #expect(try removable(names, policy, latest: names[3], best: names[1]) == [names[2]])
    }

    @Test func namesAreReadAsTheyAreWritten() {
        #expect(CheckpointName("step-00012000") == CheckpointName(step: 12_000))
        #expect(CheckpointName("step-123456789-2") == CheckpointName(step: 123_456_789, revision: 2))
        for text in [
            "", "step-", "step-1", "step-000012000", "step-0001200x", "step-00012000-1", "step-00012000-02", "latest",
            "step--0000001", "step-+0000001", "step-00012000-", "step-00012000-2-3", "step-99999999999999999999",
            "step-00012000\n", "Step-00012000",
        ] {
            #expect(CheckpointName(text) == nil, "\(text)")
        }
    }
}
