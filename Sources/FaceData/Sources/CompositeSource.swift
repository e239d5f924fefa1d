package import Tensors

/// Several sources as one: their records one after the other, each source with a weight.
///
/// Identities of different sources are different people, and their names get the source's name in front, unless the sources
/// share their labels: then equal names are one identity.
package final class CompositeSource: FaceSource {
    /// One of the sources.
    package struct Member: Sendable {
        package enum Labels: Sendable {
            case separate
            /// With all other members that share.
            case shared
        }

        package var name: String
        package var source: any FaceSource
        package var weight: Double
        package var labels: Labels

        package init(name: String, source: any FaceSource, weight: Double = 1, labels: Labels = .separate) {
            precondition(weight > 0 && weight.isFinite, "weight \(weight)")
            self.name = name
            self.source = source
            self.weight = weight
            self.labels = labels
        }
    }

    package let location: String
    package let notes: [String]
    package let count: Int
    package let parts: [SourcePart]
    package let namesAreNumbers: Bool
    private let members: [Member]
    /// By member, the class of each of its labels.
    private let classes: [[Int32]]
    /// By class, a member and its label: where the name comes from.
    private let origins: [(member: Int32, label: Int32)]

    /// - Parameter members: at least one; their names differ.
    /// - Throws: when there are more records than 2^31 - 1.
    package init(_ members: [Member]) throws(FaceDataError) {
        precondition(!members.isEmpty, "no sources")
        precondition(Set(members.map(\.name)).count == members.count, "two sources of one name")
        location = members.map { $0.source.location }.joined(separator: " + ")
        var parts: [SourcePart] = []
        var start = 0
        for member in members {
            parts.append(SourcePart(records: start..<start + member.source.count, weight: member.weight))
            start += member.source.count
        }
        guard start <= Int32.max else {
            throw FaceDataError(.tooLarge, file: location, "\(start) records, more than \(Int32.max)")
        }
        var origins: [(member: Int32, label: Int32)] = []
        var shared: [String: Int32] = [:]
        var joined = 0
        var classes: [[Int32]] = []
        for (number, member) in members.enumerated() {
            var own = [Int32](repeating: 0, count: member.source.classCount)
            for label in own.indices {
                let name = member.labels == .shared ? member.source.identityName(label) : ""
                if member.labels == .shared, let known = shared[name] {
                    own[label] = known
                    joined += 1
                    continue
                }
                own[label] = Int32(origins.count)
                if member.labels == .shared { shared[name] = own[label] }
                origins.append((Int32(number), Int32(label)))
            }
            classes.append(own)
        }
        self.members = members
        self.parts = parts
        self.classes = classes
        self.origins = origins
        count = start
        namesAreNumbers = members.contains { $0.source.namesAreNumbers }
        var notes = members.flatMap { member in member.source.notes.map { "\(member.name): \($0)" } }
        let sharing = members.filter { $0.labels == .shared }
        if sharing.count > 1 {
            let names = sharing.map(\.name).joined(separator: ", ")
            notes.append("\(joined) identities of \(names) have the names of others and are taken for the same people")
            if sharing.contains(where: { $0.source.namesAreNumbers }) {
                notes.append("some of them know their identities by number only: equal numbers are equal people then")
            }
        }
        self.notes = notes
    }

    package var classCount: Int { origins.count }

    private func place(_ index: Int) -> (member: Int, record: Int) {
        let member = parts.lastIndex { $0.records.lowerBound <= index }!
        return (member, index - parts[member].records.lowerBound)
    }

    package func label(of index: Int) -> Int {
        let (member, record) = place(index)
        return Int(classes[member][members[member].source.label(of: record)])
    }

    package func key(of index: Int) -> String {
        let (member, record) = place(index)
        return members[member].name + "/" + members[member].source.key(of: record)
    }

    package func identityName(_ label: Int) -> String {
        let origin = origins[label]
        let member = members[Int(origin.member)]
        let name = member.source.identityName(Int(origin.label))
        return member.labels == .shared ? name : member.name + "/" + name
    }

    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        let (member, record) = place(index)
        return try members[member].source.encodedBytes(of: record)
    }

    package func image(at index: Int) throws(FaceDataError) -> RGBImage {
        let (member, record) = place(index)
        return try members[member].source.image(at: record)
    }

    package func decode(
        _ index: Int, with decoder: ImageDecoder, into image: inout RGBImage
    ) throws(FaceDataError) {
        let (member, record) = place(index)
        try members[member].source.decode(record, with: decoder, into: &image)
    }

    package func willNeed(_ records: Range<Int>) {
        for (member, part) in zip(members, parts) {
            let own = records.clamped(to: part.records)
            if own.isEmpty { continue }
            member.source.willNeed(own.lowerBound - part.records.lowerBound..<own.upperBound - part.records.lowerBound)
        }
    }
}
