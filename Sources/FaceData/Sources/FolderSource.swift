package import Tensors

/// A folder of folders: `root/identity/image.{jpg,jpeg,png}`. Identities and images are sorted by the bytes of their
/// names, so that labels do not depend on the machine. Names that begin with a dot and files of other kinds are left out.
package final class FolderSource: FaceSource {
    package let location: String
    package let notes: [String]
    private let identities: [String]
    private let names: [String]
    private let labels: [Int32]

    /// What is named like an image counts as one: whether it can be read shows when its turn comes.
    /// - Throws: `FaceDataError` when an identity has no image (it is named), or when there is no image at all.
    package init(_ root: String) throws(FaceDataError) {
        var trimmed = root
        while trimmed.count > 1, trimmed.hasSuffix("/") { trimmed.removeLast() }
        location = trimmed
        var identities: [String] = []
        var names: [String] = []
        var labels: [Int32] = []
        var others = 0
        for (identity, kind) in try Folder.entries(trimmed) {
            guard kind == .folder else {
                others += 1
                continue
            }
            let folder = trimmed + "/" + identity
            let label = Int32(identities.count)
            let before = names.count
            for (name, _) in try Folder.entries(folder) {
                guard Folder.isImageName(name) else {
                    others += 1
                    continue
                }
                names.append(name)
                labels.append(label)
            }
            guard names.count > before else {
                throw FaceDataError(
                    .malformed, file: folder, "an identity without images",
                    advice: "remove the folder, or put .jpg or .png files into it")
            }
            identities.append(identity)
        }
        guard !identities.isEmpty else {
            throw FaceDataError(
                .malformed, file: trimmed, "no identity folders", advice: "expected root/identity/image.jpg")
        }
        self.identities = identities
        self.names = names
        self.labels = labels
        notes = others == 0 ? [] : ["\(others) entries that are no images were left out"]
    }

    package var count: Int { names.count }
    package var classCount: Int { identities.count }
    package func label(of index: Int) -> Int { Int(labels[index]) }
    package func key(of index: Int) -> String { identities[Int(labels[index])] + "/" + names[index] }
    package func identityName(_ label: Int) -> String { identities[label] }

    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        try DataFile(location + "/" + key(of: index)).contents(limit: ImageLimits().encodedBytes)
    }

    package func decode(
        _ index: Int, with decoder: ImageDecoder, into image: inout RGBImage
    ) throws(FaceDataError) {
        try decode(file: location + "/" + key(of: index), index, with: decoder, into: &image)
    }
}
