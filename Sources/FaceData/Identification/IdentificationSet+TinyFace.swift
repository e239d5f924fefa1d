extension IdentificationSet {
    /// TinyFace's test set (Cheng, Zhu, Gong, "Low-Resolution Face Recognition", ACCV 2018): the folders `Gallery_Match`,
    /// `Gallery_Distractor` and `Probe`, with files `<identity>_<number>.jpg`. Names of distractors say nothing.
    ///
    /// The lists of identities beside the folders (`.mat`) repeat what the names say, and are not read.
    ///
    /// - Parameters:
    ///   - path: `Testing_Set`, or the folder that holds it.
    ///   - distractors: search without them where false, which is another and easier task.
    /// - Throws: `FaceDataError` where a folder is missing or empty, or names in it give no identity (they are listed).
    package static func tinyFace(_ path: String, distractors: Bool = true) throws(FaceDataError) -> IdentificationSet {
        let inner = Folder.resolve("Testing_Set", in: path)
        let isAround = Folder.kind(Folder.resolve("Gallery_Match", in: path)) == nil && Folder.kind(inner) == .folder
        let root = isAround ? inner : path
        let mates = try identities(files("Gallery_Match", in: root), "Gallery_Match", in: root)
        let others = distractors ? try files("Gallery_Distractor", in: root) : []
        let probes = try identities(files("Probe", in: root), "Probe", in: root)
        return try IdentificationSet(
            location: root, selection: distractors ? "all images" : "without distractors", notes: [], mates: mates,
            distractors: others, probes: [(name: "all", entries: probes)])
    }

    /// The images of a folder of the set, as seen from the set.
    private static func files(_ name: String, in root: String) throws(FaceDataError) -> [String] {
        let folder = Folder.resolve(name, in: root)
        guard Folder.kind(folder) == .folder else {
            throw FaceDataError(
                .missing, file: folder, "no such folder",
                advice: "name TinyFace's Testing_Set, which holds Gallery_Match, Gallery_Distractor and Probe")
        }
        return try ImageFiles(folder).names.map { name + "/" + $0 }
    }

    /// Who is in the images: the number before the first underscore.
    private static func identities(
        _ files: [String], _ name: String, in root: String
    ) throws(FaceDataError) -> [Entry] {
        var entries: [Entry] = []
        var unread: [String] = []
        for file in files {
            let stem = Self.stem(file)
            if let end = stem.firstIndex(of: "_"), let identity = number(stem[..<end]) {
                entries.append(Entry(file: file, identity: identity))
            } else {
                unread.append(Folder.name(of: file))
            }
        }
        guard unread.isEmpty else {
            throw unreadable(
                unread, in: Folder.resolve(name, in: root), expected: "<identity>_<number>.jpg, the identity in digits")
        }
        return entries
    }
}
