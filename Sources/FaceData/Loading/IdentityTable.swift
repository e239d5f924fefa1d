/// The records of each class.
package struct IdentityTable: Sendable {
    private let bounds: [Int]
    private let members: [Int32]

    package init(_ source: any FaceSource) {
        precondition(source.count <= Int32.max, "\(source.count) records")
        var bounds = [Int](repeating: 0, count: source.classCount + 1)
        for index in 0..<source.count { bounds[source.label(of: index) + 1] += 1 }
        for label in 0..<source.classCount { bounds[label + 1] += bounds[label] }
        var next = bounds
        var members = [Int32](repeating: 0, count: source.count)
        for index in 0..<source.count {
            let label = source.label(of: index)
            members[next[label]] = Int32(index)
            next[label] += 1
        }
        self.bounds = bounds
        self.members = members
    }

    package var classCount: Int { bounds.count - 1 }
    package var recordCount: Int { members.count }

    /// Ascending.
    package func records(of label: Int) -> ArraySlice<Int32> { members[bounds[label]..<bounds[label + 1]] }
}
