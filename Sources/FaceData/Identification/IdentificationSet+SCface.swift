extension IdentificationSet {
    /// SCface (Grgic, Delac, Grgic, "SCface – surveillance cameras face database", Multimedia Tools and Applications 51,
    /// 2011): one frontal mugshot `<subject>_frontal.jpg` per subject is the gallery, `<subject>_cam<camera>_<distance>.jpg`
    /// are the probes, in groups by distance: 1 for 4.2 m, 2 for 2.6 m, 3 for 1.0 m.
    ///
    /// The images lie in one folder or in folders of folders. Of the owners' folders that hold an image twice,
    /// `mugshot_frontal_cropped_all` goes before the other mugshots, `surveillance_cameras_all` before the folders of the
    /// distances.
    ///
    /// - Parameters:
    ///   - cameras: of the probes; 1 to 5 take visible light.
    ///   - subjects: gallery and probes are restricted to them; all where nil.
    /// - Throws: `FaceDataError` where gallery or probes are missing, an image lies there twice, a subject of the list has no
    ///   image, or names say nothing (they are listed).
    package static func scFace(
        _ path: String, cameras: [Int] = [1, 2, 3, 4, 5], subjects: Set<Int>? = nil
    ) throws(FaceDataError) -> IdentificationSet {
        var images = SCfaceImages(location: path, cameras: Set(cameras), subjects: subjects)
        try images.sort(try ImageFiles(path).names)
        let selection =
            "cameras \(NumberRanges.text(cameras)), \(subjects.map { "\($0.count) subjects" } ?? "all subjects")"
        guard !images.gallery.isEmpty else {
            throw FaceDataError(
                .malformed, file: path, "the gallery is empty: no frontal mugshot (\(selection))",
                advice: "expected <subject>_frontal.jpg, such as 001_frontal.jpg")
        }
        let groups = SCfaceImages.distances.indices.filter { !images.probes[$0].isEmpty }
            .map { (name: SCfaceImages.distances[$0], entries: images.probes[$0]) }
        guard !groups.isEmpty else {
            throw FaceDataError(
                .malformed, file: path, "no probe (\(selection))",
                advice: "expected <subject>_cam<camera>_<distance>.jpg, such as 001_cam1_1.jpg")
        }
        var notes: [String] = []
        if images.others > 0 {
            notes.append(
                "\(images.others) images of other cameras, poses or subjects, or that come twice, are left out")
        }
        for (distance, entries) in zip(SCfaceImages.distances, images.probes) where entries.isEmpty {
            notes.append("there is no probe at \(distance)")
        }
        return try IdentificationSet(
            location: path, selection: selection, notes: notes, mates: images.gallery, distractors: [], probes: groups)
    }

    /// The subjects that a text names: numbers and ranges (`51-130`), or else the file of that name, with numbers and ranges
    /// separated by commas, blanks or line breaks; `#` begins a comment.
    package static func subjects(_ text: String) throws(FaceDataError) -> Set<Int> {
        if let given = NumberRanges.parse(text) { return Set(given) }
        var subjects: Set<Int> = []
        try DataFile(text).forEachLine { line, number, _ throws(FaceDataError) in
            guard let content = String(validating: line, as: UTF8.self) else {
                throw FaceDataError(.malformed, file: text, at: .line(number), "not UTF-8")
            }
            let said = content.prefix { $0 != "#" }
            for word in said.split(whereSeparator: { $0 == "," || $0.isWhitespace }) {
                guard let values = NumberRanges.parse(String(word)) else {
                    throw FaceDataError(
                        .malformed, file: text, at: .line(number),
                        "\"\(word)\" is neither a subject's number nor a range",
                        advice: "expected numbers such as 51 or 51-130")
                }
                subjects.formUnion(values)
            }
        }
        guard !subjects.isEmpty else { throw FaceDataError(.malformed, file: text, "names no subject") }
        return subjects
    }
}

/// SCface's files by what their names say.
private struct SCfaceImages {
    /// By the number in the name, less one.
    static let distances = ["4.2 m", "2.6 m", "1.0 m"]

    private enum Image {
        case frontal
        case probe(camera: Int, distance: Int)
        /// The owners' other images: the infrared mugshot `cam8`, poses `L1` to `L4` and `R1` to `R4`.
        case other
    }

    let location: String
    let cameras: Set<Int>
    let subjects: Set<Int>?
    private(set) var gallery: [IdentificationSet.Entry] = []
    /// By distance.
    private(set) var probes: [[IdentificationSet.Entry]] = [[], [], []]
    /// Images that are left out.
    private(set) var others = 0
    private var known: Set<Int> = []
    private var places: [String: String] = [:]

    init(location: String, cameras: Set<Int>, subjects: Set<Int>?) {
        self.location = location
        self.cameras = cameras
        self.subjects = subjects
    }

    mutating func sort(_ names: [String]) throws(FaceDataError) {
        let folders = Set(names.flatMap { Self.folders($0) })
        var unread: [String] = []
        for name in names {
            if Self.folders(name).contains(where: { Self.repeats($0, among: folders) }) {
                others += 1
                continue
            }
            guard let (subject, image) = Self.read(IdentificationSet.stem(name)) else {
                unread.append(name)
                continue
            }
            known.insert(subject)
            guard subjects?.contains(subject) != false else {
                others += 1
                continue
            }
            let entry = IdentificationSet.Entry(file: name, identity: subject)
            switch image {
            case .frontal:
                try claim(name)
                gallery.append(entry)
            case .probe(let camera, let distance) where cameras.contains(camera):
                try claim(name)
                probes[distance - 1].append(entry)
            case .probe, .other: others += 1
            }
        }
        guard unread.isEmpty else {
            throw IdentificationSet.unreadable(
                unread, in: location, expected: "<subject>_frontal.jpg and <subject>_cam<camera>_<distance>.jpg")
        }
        if let missing = subjects?.subtracting(known), !missing.isEmpty {
            throw FaceDataError(
                .malformed, file: location, "there is no image of subjects \(NumberRanges.text(missing))",
                advice: "check the list of subjects")
        }
    }

    /// Each image counts once.
    private mutating func claim(_ name: String) throws(FaceDataError) {
        let stem = IdentificationSet.stem(name).lowercased()
        guard let earlier = places.updateValue(name, forKey: stem) else { return }
        throw FaceDataError(
            .malformed, file: location, "\(stem) is there twice: \(earlier) and \(name)",
            advice: "name a folder that holds each image once")
    }

    /// The folders on the way to an image, in whatever depth the owners' lie.
    private static func folders(_ name: String) -> ArraySlice<Substring> { name.split(separator: "/").dropLast() }

    /// Whether a folder of the owners holds what another one holds, too.
    private static func repeats(_ folder: Substring, among folders: Set<Substring>) -> Bool {
        if ["mugshot_frontal_original_all", "mugshot_rotation_all"].contains(folder) {
            return folders.contains("mugshot_frontal_cropped_all")
        }
        return folder.hasPrefix("surveillance_cameras_distance_") && folders.contains("surveillance_cameras_all")
    }

    private static func read(_ stem: Substring) -> (subject: Int, image: Image)? {
        let parts = stem.lowercased().split(separator: "_", omittingEmptySubsequences: false)
        guard let first = parts.first, let subject = IdentificationSet.number(first) else { return nil }
        switch parts.count {
        case 2 where parts[1] == "frontal": return (subject, .frontal)
        case 2 where parts[1] == "cam8" || ["l1", "l2", "l3", "l4", "r1", "r2", "r3", "r4"].contains(parts[1]):
            return (subject, .other)
        case 3 where parts[1].hasPrefix("cam"):
            guard let camera = IdentificationSet.number(parts[1].dropFirst(3)),
                let distance = IdentificationSet.number(parts[2]),
                distances.indices.contains(distance - 1)
            else { return nil }
            return (subject, .probe(camera: camera, distance: distance))
        default: return nil
        }
    }
}
