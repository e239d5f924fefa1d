package import Tensors

/// Images with names, and with identities where the data has them: what is embedded or scored.
///
/// All members may be called from several threads at once.
package struct ImageCollection: Sendable {
    /// The file or folder, for messages.
    package let location: String
    package let count: Int
    /// Identities from 0, one per image; nil where the data names none.
    package let labels: [Int32]?
    /// What a person calls the image: a path as seen from the folder, a RecordIO key, an entry of a pair set.
    package let key: @Sendable (Int) -> String
    /// The decoded image, degraded if that was asked for.
    package let image: @Sendable (Int) throws -> RGBImage
    /// What was done to the images, in words.
    package let degradation: String
    /// Oddities, one sentence each.
    package let notes: [String]

    /// Opens a folder of identity folders, a list, RecordIO, a `.bin` set of pairs, or a folder that holds images directly.
    ///
    /// - Parameters:
    ///   - folder: what a list's paths are relative to; the list's own folder by default.
    ///   - degrade: a side in pixels, or a table of degradations by key.
    /// - Throws: `FaceDataError`.
    package static func open(
        _ path: String, folder: String? = nil, degrade: String? = nil
    ) throws(FaceDataError) -> ImageCollection {
        let plain = try opened(path, folder: folder)
        guard let degrade else { return plain }
        return try plain.degraded(degrade)
    }

    private static func opened(_ path: String, folder: String?) throws(FaceDataError) -> ImageCollection {
        if Folder.fileExtension(path) == "bin", Folder.kind(path) == .file {
            let set = try PairSet.bin(path)
            return ImageCollection(
                location: path, count: set.imageCount, labels: nil, key: { set.key(of: $0) },
                image: { try set.image(at: $0) }, degradation: "none", notes: [])
        }
        if Folder.kind(path) == .folder, Folder.kind(path + "/train.rec") == nil {
            let entries = try Folder.entries(path)
            let names = entries.filter { $0.kind == .file && Folder.isImageName($0.name) }.map(\.name)
            let others = entries.count - names.count
            if !names.isEmpty {
                if let subfolder = entries.first(where: { $0.kind == .folder }) {
                    throw FaceDataError(
                        .malformed, file: path, "holds both images (\(names[0])) and folders (\(subfolder.name))",
                        advice: "move the images into folders of their own, or the folders elsewhere")
                }
                return ImageCollection(
                    location: path, count: names.count, labels: nil, key: { names[$0] },
                    image: { try image(path + "/" + names[$0]) }, degradation: "none",
                    notes: others == 0 ? [] : ["\(others) entries that are no images were left out"])
            }
        }
        return ImageCollection(try FaceSources.open(path, folder: folder))
    }

    /// The images of a source.
    package init(_ source: any FaceSource) {
        self.init(
            location: source.location, count: source.count,
            labels: (0..<source.count).map { Int32(source.label(of: $0)) }, key: { source.key(of: $0) },
            image: { try source.image(at: $0) }, degradation: "none", notes: source.notes)
    }

    package init(
        location: String, count: Int, labels: [Int32]?, key: @escaping @Sendable (Int) -> String,
        image: @escaping @Sendable (Int) throws -> RGBImage, degradation: String, notes: [String] = []
    ) {
        self.location = location
        self.count = count
        self.labels = labels
        self.key = key
        self.image = image
        self.degradation = degradation
        self.notes = notes
    }

    static func image(_ file: String) throws(FaceDataError) -> RGBImage {
        let bytes = try DataFile(file).contents(limit: ImageLimits().encodedBytes)
        do throws(ImageError) {
            return try ImageCodec.decode(bytes)
        } catch {
            throw FaceDataError(error, file: file)
        }
    }

    private func degraded(_ degrade: String) throws(FaceDataError) -> ImageCollection {
        let variant: PairVariant
        let words: String
        if let side = Int(degrade) {
            guard (1...112).contains(side) else {
                throw FaceDataError(
                    .unsupported, file: location, "degrading to \(side) px: the side must lie in 1...112")
            }
            (variant, words) = (.reduced(side: side, .both), "\(side) px")
        } else {
            let table = try DegradationTable(degrade)
            (variant, words) = (.mixed(table), "as \(table.location) says")
            // Before the work, not in the middle of it.
            for index in 0..<count { _ = try variant.degradation(of: self.key(index), isSecond: true) }
        }
        let (key, image) = (key, image)
        return ImageCollection(
            location: location, count: count, labels: labels, key: key,
            image: { try variant.degradation(of: key($0), isSecond: true).apply(to: image($0)) }, degradation: words,
            notes: notes)
    }
}
