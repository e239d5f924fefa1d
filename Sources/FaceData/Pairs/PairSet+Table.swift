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
