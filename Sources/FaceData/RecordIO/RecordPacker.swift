internal import Tensors

/// Packs any source into RecordIO with its index, list and `property` file.
package enum RecordPacker {
    package enum Layout: Sendable {
        /// Metadata under key 0, images of an identity together, identity records: what face trainers expect.
        case insightface
        /// Images only, in the source's order, keys from 0.
        case im2rec
    }

    package struct Summary: Sendable, Equatable {
        package var images = 0
        package var classes = 0
        /// Records that could not be decoded, with the reason.
        package var skipped: [String] = []
    }

    /// Writes `prefix.rec`, `prefix.idx`, `prefix.lst` and, beside them, `property`. The encoded bytes are copied as
    /// they are.
    /// - Parameters:
    ///   - skipDamaged: leave out images that cannot be decoded; otherwise the first one ends the packing.
    ///   - progress: called with the number of images checked so far.
    /// - Throws: `FaceDataError`; no file under a final name is left then.
    package static func pack(
        _ source: any FaceSource, to prefix: String, layout: Layout, skipDamaged: Bool = false,
        progress: (Int) -> Void = { _ in }
    ) throws(FaceDataError) -> Summary {
        var summary = Summary()
        var intact: [Int] = []
        var size: (width: Int, height: Int)?
        for index in 0..<source.count {
            do throws(FaceDataError) {
                let image = try source.image(at: index)
                size = size ?? (image.width, image.height)
                intact.append(index)
            } catch {
                if !skipDamaged { throw error }
                summary.skipped.append(error.description)
            }
            progress(index + 1)
        }
        guard let size else {
            throw FaceDataError(.malformed, file: source.location, "holds no image that can be decoded")
        }
        let kept = try SubsetSource(source, indices: intact)
        guard kept.classCount < 1 << 24 else {
            throw FaceDataError(.tooLarge, file: source.location, "RecordIO's labels end at 2^24 - 1")
        }
        summary.images = kept.count
        summary.classes = kept.classCount
        switch layout {
        case .insightface: try packByIdentity(kept, to: prefix)
        case .im2rec: try packInOrder(kept, to: prefix)
        }
        try FileWriter.save(
            "\(kept.classCount),\(size.height),\(size.width)\n".utf8,
            to: Folder.resolve("property", in: Folder.parent(of: prefix)))
        return summary
    }

    private static func packInOrder(_ source: SubsetSource, to prefix: String) throws(FaceDataError) {
        let records = try RecordIOWriter(prefix)
        let list = try FileWriter(prefix + ".lst")
        for index in 0..<source.count {
            let label = source.label(of: index)
            let bytes = try source.encodedBytes(of: index)
            try records.append(
                key: UInt64(index), ImageRecord(label: Float(label), id: UInt64(index), image: bytes))
            try list.append("\(index)\t\(label)\t\(listed(source.key(of: index)))\n")
        }
        try records.finish()
        try list.finish()
    }

    private static func packByIdentity(_ source: SubsetSource, to prefix: String) throws(FaceDataError) {
        let records = try RecordIOWriter(prefix)
        let list = try FileWriter(prefix + ".lst")
        let order = (0..<source.count).sorted { (source.label(of: $0), $0) < (source.label(of: $1), $1) }
        var bounds = [Int](repeating: 0, count: source.classCount + 1)
        for (position, index) in order.enumerated() {
            let label = source.label(of: index)
            let key = UInt64(position + 1)
            let bytes = try source.encodedBytes(of: index)
            try records.append(key: key, ImageRecord(labels: [Float(label), 1], id: key, image: bytes))
            try list.append("1\t\(listed(source.key(of: index)))\t\(label)\n")
            bounds[label + 1] = position + 1
        }
        let firstIdentity = order.count + 1
        try records.append(
            key: 0, ImageRecord(labels: [Float(firstIdentity), Float(firstIdentity + source.classCount)], id: 0))
        for label in 0..<source.classCount {
            let key = UInt64(firstIdentity + label)
            let range = [Float(bounds[label] + 1), Float(bounds[label + 1] + 1)]
            try records.append(key: key, ImageRecord(labels: range, id: key))
        }
        try records.finish()
        try list.finish()
    }

    /// A key as a field of a list: tabs and line breaks would break the list.
    private static func listed(_ key: String) -> String {
        String(key.map { $0 == "\t" || $0.isNewline ? " " : $0 })
    }
}
