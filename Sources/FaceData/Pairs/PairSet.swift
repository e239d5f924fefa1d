package import Tensors

/// Two images of a verification set.
package struct FacePair: Sendable, Equatable {
    /// Indices of the set's images.
    package let first: Int
    package let second: Int
    /// Whether both show the same person.
    package let isSame: Bool
    /// From 0.
    package let fold: Int

    package init(first: Int, second: Int, isSame: Bool, fold: Int) {
        self.first = first
        self.second = second
        self.isSame = isSame
        self.fold = fold
    }
}

/// Images and the pairs of them that a verification protocol compares.
package struct PairSet: Sendable {
    private enum Images: Sendable {
        case encoded([ArraySlice<UInt8>])
        case files(folder: String, names: [String])
    }

    /// The file that the pairs come from.
    package let location: String
    package let pairs: [FacePair]
    package let foldCount: Int
    private let images: Images

    /// Images in files, as paths seen from `folder`.
    init(location: String, pairs: [FacePair], foldCount: Int, files: [String], folder: String) {
        self.init(
            location: location, pairs: pairs, foldCount: foldCount, images: .files(folder: folder, names: files))
    }

    private init(location: String, pairs: [FacePair], foldCount: Int, images: Images) {
        self.location = location
        self.pairs = pairs
        self.foldCount = foldCount
        self.images = images
    }

    package var imageCount: Int {
        switch images {
        case .encoded(let encoded): encoded.count
        case .files(_, let names): names.count
        }
    }

    /// What a person calls the image: a path as seen from the set's folder, or its number.
    package func key(of index: Int) -> String {
        switch images {
        case .encoded: "image \(index)"
        case .files(_, let names): names[index]
        }
    }

    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        switch images {
        case .encoded(let encoded): Array(encoded[index])
        case .files(let folder, let names):
            try DataFile(Folder.resolve(names[index], in: folder)).contents(limit: ImageLimits().encodedBytes)
        }
    }

    package func image(at index: Int, limits: ImageLimits = ImageLimits()) throws(FaceDataError) -> RGBImage {
        let bytes = try encodedBytes(of: index)
        do throws(ImageError) {
            return try ImageCodec.decode(bytes, limits: limits)
        } catch {
            switch images {
            case .encoded: throw FaceDataError(error, file: location, at: .image(index))
            case .files(let folder, let names):
                throw FaceDataError(error, file: Folder.resolve(names[index], in: folder))
            }
        }
    }

    // MARK: .bin

    /// Reads a `.bin` set (lfw.bin, cfp_fp.bin, agedb_30.bin, …): a pickle of (list of 2·M encoded images, list of M truth
    /// values), pair i being the images 2i and 2i + 1. No code of the pickle is run.
    ///
    /// The pairs are divided into 10 contiguous folds, the first M mod 10 of them one pair longer.
    package static func bin(_ path: String, limit: Int = 4 << 30) throws(FaceDataError) -> PairSet {
        try bin(DataFile(path).contents(limit: limit), from: path)
    }

    /// The same from bytes that were read from `path`.
    package static func bin(_ bytes: [UInt8], from path: String) throws(FaceDataError) -> PairSet {
        let content: (images: [ArraySlice<UInt8>], same: [Bool])
        do throws(PickleReader.Refusal) {
            content = try PickleReader.pairs(bytes)
        } catch {
            throw FaceDataError(
                .malformed, file: path, at: .byte(UInt64(error.offset)), error.reason,
                advice: "expected a pickle of (list of encoded images, list of booleans)")
        }
        let count = content.same.count
        guard count > 0, content.images.count == 2 * count else {
            throw FaceDataError(
                .malformed, file: path, "\(content.images.count) images for \(count) pairs",
                advice: "the file is damaged: copy it again")
        }
        let folds = min(10, count)
        var pairs: [FacePair] = []
        pairs.reserveCapacity(count)
        for fold in 0..<folds {
            for _ in 0..<count / folds + (fold < count % folds ? 1 : 0) {
                let pair = pairs.count
                pairs.append(FacePair(first: 2 * pair, second: 2 * pair + 1, isSame: content.same[pair], fold: fold))
            }
        }
        return PairSet(location: path, pairs: pairs, foldCount: folds, images: .encoded(content.images))
    }

    /// Writes a `.bin` set as Python 2 wrote them (protocol 2, byte strings).
    /// - Parameters:
    ///   - images: 2·M encoded images.
    ///   - same: M truth values.
    package static func writeBin(_ images: [[UInt8]], same: [Bool], to path: String) throws(FaceDataError) {
        precondition(images.count == 2 * same.count, "\(images.count) images for \(same.count) pairs")
        try writeBin(count: same.count, to: path) { index throws(FaceDataError) in
            images[index]
        } same: {
            same[$0]
        }
    }

    /// The same with images that are made one after the other.
    /// - Parameter count: M, the number of pairs.
    package static func writeBin(
        count: Int, to path: String, image: (Int) throws(FaceDataError) -> [UInt8], same: (Int) -> Bool
    ) throws(FaceDataError) {
        let writer = try FileWriter(path)
        // PROTO 2; lists filled in groups of 1000, as Python's own pickler does.
        try writer.append([0x80, 0x02])
        func appendList(_ count: Int, _ item: (Int) throws(FaceDataError) -> Void) throws(FaceDataError) {
            try writer.append([0x5D])
            for start in stride(from: 0, to: count, by: 1000) {
                try writer.append([0x28])
                for index in start..<min(count, start + 1000) { try item(index) }
                try writer.append([0x65])
            }
        }
        try appendList(2 * count) { index throws(FaceDataError) in
            let bytes = try image(index)
            guard let length = Int32(exactly: bytes.count) else {
                throw FaceDataError(.tooLarge, file: path, at: .image(index), "longer than 2^31 - 1 bytes")
            }
            var header: [UInt8] = [0x54]
            header.append(littleEndian: length)
            try writer.append(header)
            try writer.append(bytes)
        }
        try appendList(count) { index throws(FaceDataError) in try writer.append([same(index) ? 0x88 : 0x89]) }
        try writer.append([0x86, 0x2E])
        try writer.finish()
    }

    // MARK: pairs.txt

    /// Reads LFW's `pairs.txt`: a line `folds<TAB>n` (or `n` for a single fold), then for each fold n lines
    /// `name i j` of the same person and n lines `name i name j` of two, separated by tabs. Image i of a person is
    /// `name/name_000i.jpg` or `.png` under `folder`.
    package static func lfw(pairs path: String, folder: String) throws(FaceDataError) -> PairSet {
        var reader = LFWPairs(path: path, folder: folder)
        try DataFile(path).forEachLine { line, number, _ throws(FaceDataError) in
            try reader.read(line, number)
        }
        guard reader.expected > 0, reader.pairs.count == reader.expected else {
            throw FaceDataError(
                .malformed, file: path, "\(reader.pairs.count) pairs where the first line announces \(reader.expected)",
                advice: "the file is truncated: copy it again")
        }
        return PairSet(
            location: path, pairs: reader.pairs, foldCount: reader.folds,
            images: .files(folder: folder, names: reader.names))
    }
}

/// Reads the lines of a `pairs.txt`.
private struct LFWPairs {
    let path: String
    let folder: String
    var folds = 0
    var expected = 0
    var pairs: [FacePair] = []
    var names: [String] = []
    private var indices: [String: Int] = [:]

    init(path: String, folder: String) {
        self.path = path
        self.folder = folder
    }

    mutating func read(_ line: ArraySlice<UInt8>, _ number: Int) throws(FaceDataError) {
        if line.allSatisfy({ $0 == 0x20 || $0 == 0x09 }) { return }
        let text = try String(line: line, number, of: path)
        let fields = text.split { $0 == "\t" || $0 == " " }
        if folds == 0 {
            let numbers = fields.map { Int($0) ?? 0 }
            guard (1...2).contains(numbers.count), numbers.allSatisfy({ (1...1_000_000).contains($0) }) else {
                throw error(number, "expected the number of folds and of pairs")
            }
            folds = numbers.count == 2 ? numbers[0] : 1
            expected = 2 * folds * numbers[numbers.count - 1]
            return
        }
        guard pairs.count < expected else { throw error(number, "more pairs than the \(expected) announced") }
        guard fields.count == 3 || fields.count == 4 else {
            throw error(number, "expected `name i j` or `name i name j`")
        }
        let first = try image(fields[0], fields[1], number)
        let second = try image(fields.count == 3 ? fields[0] : fields[2], fields[fields.count - 1], number)
        pairs.append(
            FacePair(
                first: first, second: second, isSame: fields.count == 3, fold: pairs.count / (expected / folds)))
    }

    private mutating func image(_ person: Substring, _ index: Substring, _ line: Int) throws(FaceDataError) -> Int {
        guard let value = Int(index), (0...9999).contains(value) else {
            throw error(line, "\"\(index)\" is not an image number")
        }
        guard !person.hasPrefix("."), !person.contains("/"), !person.contains("\0") else {
            throw error(line, "\"\(person)\" is not a name")
        }
        let digits = String(value)
        let stem = "\(person)/\(person)_" + String(repeating: "0", count: 4 - digits.count) + digits
        if let known = indices[stem] { return known }
        guard let name = [stem + ".jpg", stem + ".png"].first(where: { Folder.kind(folder + "/" + $0) == .file }) else {
            throw FaceDataError(
                .missing, file: path, at: .line(line), "neither \(stem).jpg nor .png is in \(folder)",
                advice: "name the folder that holds one folder per person")
        }
        names.append(name)
        indices[stem] = names.count - 1
        return names.count - 1
    }

    private func error(_ line: Int, _ reason: String) -> FaceDataError {
        FaceDataError(.malformed, file: path, at: .line(line), reason)
    }
}
