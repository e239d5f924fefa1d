extension PairSet {
    /// Reads a text file of pairs, of either kind: LFW's `pairs.txt`, or lines of `path<TAB>path<TAB>same<TAB>fold`.
    ///
    /// - Parameter folder: where the images' paths begin.
    package static func text(_ path: String, folder: String) throws(FaceDataError) -> PairSet {
        var isTable: Bool?
        try DataFile(path).forEachLine { line, _, _ throws(FaceDataError) in
            if isTable != nil || line.isEmpty { return }
            // LFW's first line has one or two numbers.
            isTable = line.first == UInt8(ascii: "#") || line.count(where: { $0 == 0x09 }) >= 2
        }
        return isTable == true ? try table(path, folder: folder) : try lfw(pairs: path, folder: folder)
    }

    /// Reads lines of `path<TAB>path<TAB>same<TAB>fold`: two images as seen from `folder`, 1 for the same person or 0, the
    /// fold from 1. Empty lines and lines that begin with `#` are left out.
    ///
    /// - Throws: also when an image is missing, or a fold has no pair.
    package static func table(_ path: String, folder: String) throws(FaceDataError) -> PairSet {
        var names: [String] = []
        var indices: [String: Int] = [:]
        var pairs: [FacePair] = []
        func image(_ name: Substring, _ line: Int) throws(FaceDataError) -> Int {
            let name = String(name)
            if let known = indices[name] { return known }
            guard !name.isEmpty, !name.contains("\0"), Folder.kind(Folder.resolve(name, in: folder)) == .file else {
                throw FaceDataError(
                    .missing, file: path, at: .line(line), "there is no \(name) in \(folder)",
                    advice: "name the folder that the paths are relative to")
            }
            names.append(name)
            indices[name] = names.count - 1
            return names.count - 1
        }
        try DataFile(path).forEachLine { line, number, _ throws(FaceDataError) in
            if line.isEmpty || line.first == UInt8(ascii: "#") { return }
            let text = try String(line: line, number, of: path)
            let fields = text.split(separator: "\t", omittingEmptySubsequences: false)
            guard fields.count == 4, fields[2] == "0" || fields[2] == "1", let fold = Int(fields[3]),
                (1...1_000_000).contains(fold)
            else {
                throw FaceDataError(
                    .malformed, file: path, at: .line(number),
                    "expected path, path, 1 or 0, and the fold from 1, separated by tabs")
            }
            let (first, second) = (try image(fields[0], number), try image(fields[1], number))
            pairs.append(FacePair(first: first, second: second, isSame: fields[2] == "1", fold: fold - 1))
        }
        guard let last = pairs.map(\.fold).max() else {
            throw FaceDataError(.malformed, file: path, "lists no pair")
        }
        guard last < pairs.count, Set(pairs.map(\.fold)).count == last + 1 else {
            throw FaceDataError(
                .malformed, file: path, "the folds run to \(last + 1), and some of them have no pair",
                advice: "number the folds from 1 without gaps")
        }
        return PairSet(location: path, pairs: pairs, foldCount: last + 1, files: names, folder: folder)
    }
}

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
            try FileWriter.save((lines.joined(separator: "\n") + "\n").utf8, to: path)
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
        try FileWriter.save((lines.joined(separator: "\n") + "\n").utf8, to: path)
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
