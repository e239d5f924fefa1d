import FaceData
import Tensors
import Testing

/// The layouts of TinyFace and SCface. Most files are empty: opening a set reads names only.
@Suite struct IdentificationSetTests {
    private func write(_ scratch: Scratch, _ names: [String]) {
        for name in names { scratch.write(name, [UInt8]()) }
    }

    private func keys(_ images: ImageCollection) -> [String] { (0..<images.count).map(images.key) }

    private static let tiny = [
        "Gallery_Match/12_1.jpg", "Gallery_Match/12_2.jpg", "Gallery_Match/7_1.jpg", "Gallery_Distractor/a.jpg",
        "Gallery_Distractor/1_2.png", "Probe/7_3.jpg", "Probe/12_4.jpg", "Probe/12_5.jpg",
        "gallery_match_img_ID_pairs.mat", "Probe/list.txt",
    ]

    @Test(arguments: ["", "Testing_Set/"]) func tinyFace(_ prefix: String) throws {
        let scratch = Scratch()
        write(scratch, Self.tiny.map { prefix + $0 })
        let set = try IdentificationSet.tinyFace(scratch.path)
        #expect(
            keys(set.gallery) == [
                "Gallery_Match/12_1.jpg", "Gallery_Match/12_2.jpg", "Gallery_Match/7_1.jpg",
                "Gallery_Distractor/1_2.png", "Gallery_Distractor/a.jpg",
            ])
        // A distractor is nobody, whatever its name.
        #expect(set.galleryLabels == [12, 12, 7, -100, -100] && set.distractors == 2)
        #expect(keys(set.probes) == ["Probe/12_4.jpg", "Probe/12_5.jpg", "Probe/7_3.jpg"])
        #expect(set.probeLabels == [12, 12, 7] && set.notes.isEmpty)
        #expect(
            set.groups.map(\.name) == ["all"] && set.groups.map(\.probes) == [0..<3]
                && set.groups[0].withoutMate.isEmpty)
        let without = try IdentificationSet.tinyFace(scratch.path, distractors: false)
        #expect(without.gallery.count == 3 && without.distractors == 0 && without.selection == "without distractors")
    }

    @Test func tinyFaceReadsItsImages() throws {
        let scratch = Scratch()
        write(scratch, Self.tiny)
        let face = testImage(5, width: 20, height: 16)
        scratch.write("Probe/12_5.jpg", try ImageCodec.encodePNG(face))
        let set = try IdentificationSet.tinyFace(scratch.path + "/")
        #expect(try set.probes.image(1) == face)
        let error = #expect(throws: FaceDataError.self) { try set.gallery.image(2) }
        #expect(error?.file.hasSuffix("Gallery_Match/7_1.jpg") == true)
    }

    @Test func probesWithoutMateAreCounted() throws {
        let scratch = Scratch()
        write(scratch, Self.tiny + ["Probe/8_1.jpg", "Probe/13_2.jpg"])
        let set = try IdentificationSet.tinyFace(scratch.path)
        #expect(set.probes.count == 3)
        #expect(set.groups[0].withoutMate == ["Probe/13_2.jpg", "Probe/8_1.jpg"])
        #expect(
            set.notes == [
                "2 of 5 probes (all) have no mate in the gallery and are left out: Probe/13_2.jpg, Probe/8_1.jpg"
            ])
        for name in ["7_3", "12_4", "12_5"] { scratch.remove("Probe/\(name).jpg") }
        let error = #expect(throws: FaceDataError.self) { try IdentificationSet.tinyFace(scratch.path) }
        #expect(error?.kind == .malformed)
        #expect(error?.reason == "none of the 2 probes (all) has a mate in the gallery: Probe/13_2.jpg, Probe/8_1.jpg")
    }

    @Test func whatIsNoTinyFaceIsRefused() throws {
        let scratch = Scratch()
        write(scratch, Self.tiny)
        write(
            scratch, (0..<4).map { "Probe/x\($0)_1.jpg" } + ["Probe/_1.jpg", "Probe/5.jpg", "Probe/99999999999_1.jpg"])
        let names = #expect(throws: FaceDataError.self) { try IdentificationSet.tinyFace(scratch.path) }
        #expect(names?.file == scratch.path + "/Probe")
        #expect(
            names?.reason == "7 file names do not say who is in the image: 5.jpg, 99999999999_1.jpg, _1.jpg, x0_1.jpg, "
                + "x1_1.jpg and 2 more")
        for name in ["12_1", "12_2", "7_1"] { scratch.remove("Gallery_Match/\(name).jpg") }
        let empty = #expect(throws: FaceDataError.self) { try IdentificationSet.tinyFace(scratch.path) }
        #expect(empty?.file == scratch.path + "/Gallery_Match" && empty?.reason == "no images")
        let other = #expect(throws: FaceDataError.self) { try IdentificationSet.tinyFace(scratch.path + "/Probe") }
        #expect(other?.kind == .missing && other?.file == scratch.path + "/Probe/Gallery_Match")
    }

    // MARK: - SCface

    private static let cameras: [String] = (1...3).flatMap { subject in
        (1...7).flatMap { camera in (1...3).map { "00\(subject)_cam\(camera)_\($0).jpg" } }
    }
    private static let flat: [String] =
        cameras + (1...3).flatMap { ["00\($0)_frontal.jpg", "00\($0)_cam8.jpg", "00\($0)_L4.jpg"] }

    @Test func scFace() throws {
        let scratch = Scratch()
        write(scratch, Self.flat + ["all.txt"])
        let set = try IdentificationSet.scFace(scratch.path)
        #expect(keys(set.gallery) == ["001_frontal.jpg", "002_frontal.jpg", "003_frontal.jpg"])
        #expect(set.galleryLabels == [1, 2, 3] && set.distractors == 0)
        #expect(set.groups.map(\.name) == ["4.2 m", "2.6 m", "1.0 m"])
        #expect(set.groups.map(\.probes) == [0..<15, 15..<30, 30..<45])
        #expect(Array(keys(set.probes)[15..<20]) == (1...5).map { "001_cam\($0)_2.jpg" })
        let labels = [Int](repeating: 1, count: 5) + [Int](repeating: 2, count: 5) + [Int](repeating: 3, count: 5)
        #expect(set.probeLabels == labels + labels + labels)
        // Cameras 6 and 7 three times each, the infrared mugshot and one pose, of three subjects.
        #expect(set.notes == ["24 images of other cameras, poses or subjects, or that come twice, are left out"])
        #expect(set.selection == "cameras 1-5, all subjects")
        let part = try IdentificationSet.scFace(scratch.path, cameras: [7, 2, 1], subjects: [1, 3])
        #expect(
            part.galleryLabels == [1, 3] && part.probes.count == 18 && part.selection == "cameras 1-2,7, 2 subjects")
        #expect(Array(keys(part.probes)[..<3]) == ["001_cam1_1.jpg", "001_cam2_1.jpg", "001_cam7_1.jpg"])
    }

    /// Folders of the owners, some of which hold the same images.
    @Test(arguments: ["", "SCface_database/images/"]) func scFaceInFolders(_ above: String) throws {
        let scratch = Scratch()
        let mugshots = (1...3).map { "00\($0)_frontal.JPG" }
        write(scratch, mugshots.map { above + "mugshot_frontal_cropped_all/" + $0 })
        write(scratch, mugshots.map { above + "mugshot_frontal_original_all/" + $0 })
        for distance in 1...3 {
            let names = Self.cameras.filter { $0.hasSuffix("_\(distance).jpg") }
            write(
                scratch,
                names.map { above + "surveillance_cameras_distance_\(distance)/\($0.split(separator: "_")[1])/\($0)" })
        }
        let parts = try IdentificationSet.scFace(scratch.path)
        #expect(parts.probes.count == 45)
        #expect(keys(parts.gallery)[0] == above + "mugshot_frontal_cropped_all/001_frontal.JPG")
        #expect(keys(parts.probes)[0] == above + "surveillance_cameras_distance_1/cam1/001_cam1_1.jpg")
        write(scratch, Self.cameras.map { above + "surveillance_cameras_all/" + $0 })
        let whole = try IdentificationSet.scFace(scratch.path)
        #expect(whole.probes.count == 45 && keys(whole.probes)[0] == above + "surveillance_cameras_all/001_cam1_1.jpg")
        write(scratch, ["more/002_cam3_1.png"])
        let twice = #expect(throws: FaceDataError.self) { try IdentificationSet.scFace(scratch.path) }
        let names = ["more/002_cam3_1.png", above + "surveillance_cameras_all/002_cam3_1.jpg"].sorted()
        #expect(twice?.reason == "002_cam3_1 is there twice: \(names[0]) and \(names[1])")
    }

    @Test func whatIsNoSCfaceIsRefused() throws {
        let scratch = Scratch()
        write(scratch, Self.cameras)
        let empty = #expect(throws: FaceDataError.self) { try IdentificationSet.scFace(scratch.path) }
        #expect(empty?.reason == "the gallery is empty: no frontal mugshot (cameras 1-5, all subjects)")
        write(scratch, ["001_frontal.jpg"])
        let set = try IdentificationSet.scFace(scratch.path)
        #expect(set.groups.map(\.withoutMate.count) == [10, 10, 10] && set.probes.count == 15)
        #expect(
            set.notes[1].hasPrefix(
                "10 of 15 probes (4.2 m) have no mate in the gallery and are left out: 002_cam1_1.jpg,"))
        let cameras = #expect(throws: FaceDataError.self) { try IdentificationSet.scFace(scratch.path, cameras: [9]) }
        #expect(cameras?.reason == "no probe (cameras 9, all subjects)")
        let subjects = #expect(throws: FaceDataError.self) {
            try IdentificationSet.scFace(scratch.path, subjects: [1, 51, 52, 53, 99])
        }
        #expect(subjects?.reason == "there is no image of subjects 51-53,99")
        write(scratch, ["001_cam1_4.jpg", "cover.png", "001_smile.jpg"])
        let names = #expect(throws: FaceDataError.self) { try IdentificationSet.scFace(scratch.path) }
        #expect(
            names?.reason == "3 file names do not say who is in the image: 001_cam1_4.jpg, 001_smile.jpg, cover.png")
        #expect(throws: FaceDataError.self) { try IdentificationSet.scFace(scratch.path + "/nowhere") }
    }

    @Test func subjects() throws {
        let scratch = Scratch()
        #expect(try IdentificationSet.subjects("51-53,7") == [7, 51, 52, 53])
        let list = scratch.write("test.txt", "# tuning has the others\n051, 052 60-61\r\n\n7 # the last\n")
        #expect(try IdentificationSet.subjects(list) == [7, 51, 52, 60, 61])
        let bad = #expect(throws: FaceDataError.self) {
            try IdentificationSet.subjects(scratch.write("bad.txt", "1\nAnn\n"))
        }
        #expect(bad?.place == .line(2) && bad?.reason == "\"Ann\" is neither a subject's number nor a range")
        let none = #expect(throws: FaceDataError.self) {
            try IdentificationSet.subjects(scratch.write("none.txt", "#\n"))
        }
        #expect(none?.reason == "names no subject")
        let missing = #expect(throws: FaceDataError.self) { try IdentificationSet.subjects(scratch.path + "/x.txt") }
        #expect(missing?.kind == .missing)
    }

    @Test func numbersInFewCharacters() {
        #expect(NumberRanges.parse("112,16,8") == [112, 16, 8])
        #expect(NumberRanges.parse("3-5,1") == [3, 4, 5, 1] && NumberRanges.parse("007") == [7])
        for text in ["", ",", "1,", "a", "5-3", "1-2-3", "-1", "1-", "+1", "1 2", "0-100000", "1-9999999999"] {
            #expect(NumberRanges.parse(text) == nil, "\(text)")
        }
        #expect(NumberRanges.text([5, 1, 3, 2, 9, 3]) == "1-3,5,9" && NumberRanges.text([Int]()).isEmpty)
    }
}
