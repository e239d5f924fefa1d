internal import Tensors

/// Looks at every record of a data set and names all that is wrong with it, without stopping at the first.
package struct DatasetVerification {
    package struct Issue: Sendable, Equatable {
        package enum Kind: String, Sendable, CaseIterable {
            /// A stretch of a RecordIO file that holds no record that can be read.
            case record
            /// Bytes behind the last record.
            case trailing
            /// A record that is no image record, or an image that cannot be decoded.
            case image
            /// A line of the `.idx` file, or a record that it lacks.
            case index
            /// A label that is no class number.
            case label
            /// The record under key 0 of insightface's layout, or what it announces.
            case metadata
            /// An identity record, or its range.
            case identity
            /// The `property` file.
            case property
        }

        package let kind: Kind
        /// A record's key, where it has one.
        package let key: UInt64?
        /// Where in the record file it begins.
        package let offset: UInt64?
        /// What a person calls the image, where it has no number.
        package let name: String?
        package let reason: String

        init(_ kind: Kind, key: UInt64? = nil, at offset: UInt64? = nil, name: String? = nil, _ reason: String) {
            self.kind = kind
            self.key = key
            self.offset = offset
            self.name = name
            self.reason = reason
        }

        package var description: String {
            var place: [String] = []
            if let name { place.append(name) }
            if let key { place.append("key \(key)") }
            if let offset { place.append("byte \(offset)") }
            return "\(kind.rawValue): " + (place.isEmpty ? "" : place.joined(separator: ", ") + ": ") + reason
        }
    }

    package struct Progress: Sendable {
        package var what: String
        package var done: Int
        package var total: Int
    }

    package let location: String
    /// `insightface`, `im2rec`, or nil for what is no RecordIO file.
    package internal(set) var layout: RecordPacker.Layout?
    package internal(set) var records = 0
    /// Images that were decoded.
    package internal(set) var images = 0
    package internal(set) var identities = 0
    package private(set) var issueCounts: [Issue.Kind: Int] = [:]
    /// The first of each kind.
    package private(set) var examples: [Issue] = []
    package internal(set) var notes: [String] = []

    package var issues: Int { issueCounts.values.reduce(0, +) }
    package static let mostExamples = 10

    private let report: (Issue) throws(FaceDataError) -> Void

    /// - Parameters:
    ///   - path, folder: as for `FaceSources.open`.
    ///   - report: called for every issue.
    /// - Throws: `FaceDataError` when the files are missing, cannot be read, or are no data set at all; what `report` throws.
    package static func run(
        _ path: String, folder: String? = nil, threads: Int = 1,
        report: @escaping (Issue) throws(FaceDataError) -> Void = { _ in }, progress: (Progress) -> Void = { _ in }
    ) throws(FaceDataError) -> DatasetVerification {
        if let records = recordFile(path) {
            var verification = DatasetVerification(records, report)
            try verification.checkRecords(threads: threads, progress)
            return verification
        }
        var verification = DatasetVerification(path, report)
        try verification.checkImages(try FaceSources.open(path, folder: folder), threads: threads, progress)
        return verification
    }

    private init(_ location: String, _ report: @escaping (Issue) throws(FaceDataError) -> Void) {
        self.location = location
        self.report = report
    }

    /// The `.rec` file that a path leads to; nil when it leads to something else.
    private static func recordFile(_ path: String) -> String? {
        switch Folder.kind(path) {
        case .folder:
            let records = path.hasSuffix("/") ? path + "train.rec" : path + "/train.rec"
            return Folder.kind(records) == .file ? records : nil
        case .file:
            if Folder.fileExtension(path) == "idx" { return path.dropLast(4) + ".rec" }
            return Folder.fileExtension(path) == "rec" ? path : nil
        default: return nil
        }
    }

    mutating func add(_ issue: Issue) throws(FaceDataError) {
        let count = issueCounts[issue.kind, default: 0] + 1
        issueCounts[issue.kind] = count
        if count <= Self.mostExamples { examples.append(issue) }
        try report(issue)
    }

    // MARK: - Folders and lists

    private mutating func checkImages(
        _ source: any FaceSource, threads: Int, _ progress: (Progress) -> Void
    ) throws(FaceDataError) {
        records = source.count
        identities = source.classCount
        notes = source.notes
        try OrderedWork.run(0..<source.count, threads: threads) { record -> (product: FaceDataError?, bytes: Int) in
            do throws(FaceDataError) {
                _ = try source.image(at: record)
                return (nil, 0)
            } catch {
                return (error, 0)
            }
        } take: { record, failure throws(FaceDataError) in
            if let failure {
                if failure.kind == .cannotRead { throw failure }
                try add(Issue(.image, name: source.key(of: record), failure.reason))
            } else {
                images += 1
            }
            progress(Progress(what: "decoding", done: record + 1, total: source.count))
        }
    }
}
