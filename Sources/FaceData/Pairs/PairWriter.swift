/// Writes pairs of a source's records as verification sets.
package enum PairWriter {
    package enum Form: Sendable, Equatable {
        /// LFW's `pairs.txt`.
        case lfw
        /// `path<TAB>path<TAB>same<TAB>fold`.
        case table
    }

    /// Writes LFW's format where all folders and files are called as it needs them (`name/name_0001.jpg`, no spaces), and
    /// lines of paths otherwise.
    ///
    /// - Throws: `FaceDataError` also for a source whose records are no files.
    package static func writeText(
        _ draw: PairDraw, of source: any FaceSource, to path: String
    ) throws(FaceDataError) -> Form {
        let used = Set(draw.pairs.flatMap { [$0.first, $0.second] })
        var numbered: [Int: (name: String, number: Int)] = [:]
        for record in used {
            let key = source.key(of: record)
            guard Folder.isImageName(key) else {
                throw FaceDataError(
                    .unsupported, file: source.location, "its images are not files that a text could name",
                    advice: "write a .bin file")
            }
            numbered[record] = lfwName(key)
        }
        var lines: [String] = []
        let perKind = draw.pairs.count / draw.foldCount / 2
        if numbered.count == used.count {
            lines.append("\(draw.foldCount)\t\(perKind)")
            for pair in draw.pairs {
                let (a, b) = (numbered[pair.first]!, numbered[pair.second]!)
                let second = pair.isSame ? "\(b.number)" : "\(b.name)\t\(b.number)"
                lines.append("\(a.name)\t\(a.number)\t\(second)")
            }
            try FileWriter.save(lines: lines, to: path)
            return .lfw
        }
        lines.append("# first, second, same, fold")
        for pair in draw.pairs {
            let keys = [source.key(of: pair.first), source.key(of: pair.second)]
            if let bad = keys.first(where: { $0.contains("\t") || $0.contains(where: \.isNewline) }) {
                throw FaceDataError(
                    .unsupported, file: source.location, "\(bad) has a tab or a line break in its name",
                    advice: "rename it, or write a .bin file")
            }
            lines.append("\(keys[0])\t\(keys[1])\t\(pair.isSame ? 1 : 0)\t\(pair.fold + 1)")
        }
        try FileWriter.save(lines: lines, to: path)
        return .table
    }

    /// `name/name_0001.jpg` as name and number; nil for what LFW's format cannot name.
    private static func lfwName(_ key: String) -> (name: String, number: Int)? {
        let parts = key.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, key.hasSuffix(".jpg") || key.hasSuffix(".png"), parts[1].hasPrefix("\(parts[0])_"),
            !parts[0].isEmpty, !parts[0].contains(where: \.isWhitespace)
        else { return nil }
        let digits = parts[1].dropFirst(parts[0].count + 1).dropLast(4)
        guard digits.count == 4, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(digits) else {
            return nil
        }
        return (String(parts[0]), number)
    }

    /// Writes a `.bin` set with the images' bytes as they are.
    ///
    /// - Throws: when an image cannot be decoded: it is named.
    package static func writeBin(
        _ draw: PairDraw, of source: any FaceSource, to path: String, progress: (Int) -> Void = { _ in }
    ) throws(FaceDataError) {
        let count = draw.pairs.count
        try PairSet.writeBin(count: count, to: path) { index throws(FaceDataError) in
            let pair = draw.pairs[index / 2]
            let record = index % 2 == 0 ? pair.first : pair.second
            let bytes = try source.encodedBytes(of: record)
            do throws(ImageError) {
                _ = try ImageCodec.decode(bytes)
            } catch {
                throw FaceDataError(error, file: "\(source.location), \(source.key(of: record))")
            }
            progress(index / 2 + 1)
            return bytes
        } same: {
            draw.pairs[$0].isSame
        }
    }
}
