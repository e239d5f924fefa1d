extension DatasetVerification {
    /// Integers that a 32-bit float cannot hold are rounded: bounds beyond 2^24 are compared with that in mind.
    private static func slack(_ bound: Float) -> UInt64 { bound > 0x1p24 ? UInt64(bound.ulp) : 0 }

    /// insightface's layout: metadata under key 0, images, then identity records.
    mutating func checkIdentities(
        _ found: [VerifiedRecord], _ keyed: [(key: UInt64, record: Int)]
    ) throws(FaceDataError) {
        let metadata = found[keyed[0].record]
        let (low, high) = metadata.labels
        let others = keyed.dropFirst()
        guard low >= 2, high >= low, high < 0x1p40, low == low.rounded(), high == high.rounded() else {
            try add(
                Issue(
                    .metadata, key: 0, at: metadata.offset,
                    "bounds \(low) and \(high): expected whole numbers, 2 <= first <= second"))
            try checkPlainLabels(found, others.filter { found[$0.record].hasImage })
            return
        }
        // Images have the keys below the first bound; where that is rounded, the first record without image decides.
        let (announced, slack) = (UInt64(low), Self.slack(low))
        let split =
            others.firstIndex { entry in
                let record = found[entry.record]
                return entry.key >= announced + slack
                    || (entry.key + slack >= announced && record.isSound && !record.hasImage)
            } ?? others.endIndex
        let (images, identities) = (Array(others[..<split]), Array(others[split...]))
        let firstIdentity = slack == 0 ? announced : identities.first?.key ?? (images.last?.key ?? 0) + 1
        try checkGaps(images.map(\.key), 1..<firstIdentity, "image")
        if identities.isEmpty {
            notes.append("no identity records: the images' own labels count")
        } else {
            let end = slack == 0 ? UInt64(high) : firstIdentity + UInt64(identities.count)
            try checkGaps(identities.map(\.key), firstIdentity..<max(firstIdentity, end), "identity")
        }
        let classes = Int(high) - Int(low)
        var labels: [Float] = []
        labels.reserveCapacity(images.count)
        for entry in images {
            labels.append(try checkedLabel(found[entry.record], entry.key, below: classes > 0 ? classes : nil))
        }
        self.identities = classes > 0 ? classes : Set(labels.filter { $0 >= 0 }).count
        try checkRanges(found, identities, images: images, labels: labels)
    }

    private mutating func checkGaps(
        _ keys: [UInt64], _ expected: Range<UInt64>, _ what: String
    ) throws(FaceDataError) {
        var next = expected.lowerBound
        for key in keys {
            if key >= expected.upperBound {
                try add(
                    Issue(
                        .metadata, key: key,
                        "\(what) records have the keys \(expected), which does not include this one"))
                continue
            }
            if key > next { try add(Issue(.index, "\(Self.missing(next..<key)) of \(what) records")) }
            next = key + 1
        }
        if next < expected.upperBound {
            try add(Issue(.index, "\(Self.missing(next..<expected.upperBound)) of \(what) records"))
        }
    }

    private static func missing(_ keys: Range<UInt64>) -> String {
        keys.count == 1 ? "no record has the key \(keys.lowerBound)" : "no record has the keys \(keys)"
    }

    /// A record's class; -1 when it has none.
    private mutating func checkedLabel(
        _ record: VerifiedRecord, _ key: UInt64, below bound: Int?
    ) throws(FaceDataError) -> Float {
        guard record.isSound else { return -1 }
        let label = record.labels.0
        guard record.hasImage else {
            try add(Issue(.image, key: key, at: record.offset, "holds no image"))
            return -1
        }
        guard label >= 0, label < 0x1p24, label == label.rounded() else {
            try add(Issue(.label, key: key, at: record.offset, "label \(label) is not a class number in 0..<2^24"))
            return -1
        }
        if let bound, Int(label) >= bound {
            try add(
                Issue(
                    .label, key: key, at: record.offset,
                    "label \(Int(label)) is out of range: the file has \(bound) identities"))
            return -1
        }
        return label
    }

    /// Every image lies in the range of one identity record, and all of a range carry one label.
    private mutating func checkRanges(
        _ found: [VerifiedRecord], _ identities: [(key: UInt64, record: Int)], images: [(key: UInt64, record: Int)],
        labels: [Float]
    ) throws(FaceDataError) {
        guard !identities.isEmpty else { return }
        var expected: UInt64 = 1
        var place = 0
        var isOrdered = true
        for (number, entry) in identities.enumerated() {
            let record = found[entry.record]
            func issue(_ reason: String) -> Issue { Issue(.identity, key: entry.key, at: record.offset, reason) }
            guard record.isSound, !record.hasImage, record.flag >= 2 else {
                try add(issue("is no identity record: it has an image, or no range"))
                continue
            }
            let (low, high) = record.labels
            guard low >= 1, high >= low, high < 0x1p40, low == low.rounded(), high == high.rounded() else {
                try add(issue("has the range \(low)..<\(high): expected keys of images"))
                continue
            }
            let (first, end) = (UInt64(low), UInt64(high))
            if first > expected + Self.slack(low) {
                try add(issue("begins at key \(first): the images from key \(expected) on belong to no identity"))
            } else if first + Self.slack(low) < expected {
                try add(issue("begins at key \(first), and the identity before it ends at \(expected)"))
            }
            expected = max(expected, end)
            if first == end { try add(issue("has no image")) }
            // Bounds that may be rounded say too little about single images.
            guard high <= 0x1p24 else { continue }
            while place < images.count, images[place].key < first { place += 1 }
            var own: Float?
            while place < images.count, images[place].key < end {
                let label = labels[place]
                if label >= 0, let known = own, known != label {
                    try add(
                        Issue(
                            .identity, key: images[place].key, at: found[images[place].record].offset,
                            "label \(Int(label)) in the range of key \(entry.key), whose first image has \(Int(known))")
                    )
                } else if label >= 0 {
                    own = label
                }
                place += 1
            }
            if let own, Int(own) != number { isOrdered = false }
        }
        let end = (images.last?.key ?? 0) + 1
        if let last = identities.last, expected + Self.slack(Float(end)) < end {
            try add(
                Issue(
                    .identity, key: last.key, at: found[last.record].offset,
                    "the images from key \(expected) on belong to no identity"))
        }
        if !isOrdered { notes.append("identity records are not in the order of the class numbers") }
    }

    /// im2rec's layout: every record is an image.
    mutating func checkPlainLabels(
        _ found: [VerifiedRecord], _ keyed: [(key: UInt64, record: Int)]
    ) throws(FaceDataError) {
        var distinct: Set<Int32> = []
        for entry in keyed {
            let label = try checkedLabel(found[entry.record], entry.key, below: nil)
            if label >= 0 { distinct.insert(Int32(label)) }
        }
        identities = distinct.count
        if let last = distinct.max(), Int(last) + 1 != distinct.count {
            notes.append("labels run to \(last), and only \(distinct.count) of them are used")
        }
    }

    /// The class count of a `property` file beside the records.
    mutating func checkProperty() throws(FaceDataError) {
        let base = location.hasSuffix(".rec") ? String(location.dropLast(4)) : location
        let candidates = [base + ".property", Folder.resolve("property", in: Folder.parent(of: location))]
        guard let path = candidates.first(where: { Folder.kind($0) == .file }) else {
            notes.append("no property file beside the records")
            return
        }
        let text = String(decoding: try DataFile(path).contents(limit: 4096), as: UTF8.self)
        let numbers = text.split { $0 == "," || $0.isWhitespace }.map { Int($0) }
        guard numbers.count == 3, let classes = numbers[0], numbers[1] != nil, numbers[2] != nil else {
            try add(Issue(.property, name: path, "expected classes,height,width"))
            return
        }
        if classes != identities {
            try add(Issue(.property, name: path, "says \(classes) classes, the records hold \(identities)"))
        }
    }
}
