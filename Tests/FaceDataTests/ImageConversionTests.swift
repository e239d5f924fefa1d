import FaceData
import Foundation
import Synchronization
import Tensors
import Testing

@Suite struct ImageConversionTests {
    private func images(_ scratch: Scratch) throws -> ImageFiles {
        for name in ["a/1.png", "a/2.png", "b/deep/3.jpg", "4.jpeg"] {
            let image = testImage(UInt64(name.count), width: 24, height: 20)
            scratch.write(
                "in/" + name, name.hasSuffix("png") ? try ImageCodec.encodePNG(image) : try ImageCodec.encodeJPEG(image)
            )
        }
        scratch.write("in/notes.txt", "no image")
        scratch.write("in/.hidden/5.png", "no image")
        return try ImageFiles(scratch.path + "/in")
    }

    private func jobs(_ files: ImageFiles) -> [ImageConversion.Job] {
        files.names.indices.map { .init(path: files.path(of: $0), name: files.names[$0]) }
    }

    @Test func foldersAndLists() throws {
        let scratch = Scratch()
        let files = try images(scratch)
        #expect(files.names == ["4.jpeg", "a/1.png", "a/2.png", "b/deep/3.jpg"] && files.labels == nil)
        let size = try files.size(of: 1)
        #expect(size.width == 24 && size.height == 20)
        let labelled = try ImageFiles(scratch.write("in/list.tsv", "a/2.png\t7\n4.jpeg\t3\n"))
        #expect(labelled.names == ["a/2.png", "4.jpeg"] && labelled.labels == ["7", "3"])
        let plain = try ImageFiles(scratch.write("names.txt", "1.png\n2.png\n"), folder: scratch.path + "/in/a")
        #expect(plain.names == ["1.png", "2.png"] && plain.labels == nil)
        #expect(plain.path(of: 1) == scratch.path + "/in/a/2.png")
        for text in ["../1.png\n", "/etc/1.png\n", "a/../../1.png\n", ""] {
            #expect(throws: FaceDataError.self) { try ImageFiles(scratch.write("evil.txt", text)) }
        }
        #expect(throws: FaceDataError.self) { try ImageFiles(scratch.path + "/nowhere") }
        scratch.makeFolder("empty")
        #expect(throws: FaceDataError.self) { try ImageFiles(scratch.path + "/empty") }
    }

    @Test(arguments: [1, 3]) func namesStayAndFilesAreKept(_ threads: Int) throws {
        let scratch = Scratch()
        let files = try images(scratch)
        let conversion = ImageConversion(to: scratch.path + "/out", threads: threads)
        final class Made: Sendable { let jobs = Mutex<[Int]>([]) }
        let made = Made()
        func run(_ conversion: ImageConversion) throws -> ImageConversion.Summary {
            made.jobs.withLock { $0 = [] }
            return try conversion.run(jobs(files)) { job, image, _ throws(FaceDataError) in
                made.jobs.withLock { $0.append(job) }
                return image.greyed()
            }
        }
        let first = try run(conversion)
        #expect(first.written == 4 && first.kept == 0 && first.failures.isEmpty)
        #expect(made.jobs.withLock { $0.sorted() } == [0, 1, 2, 3])
        let original = try ImageCodec.decode(scratch.bytes("in/b/deep/3.jpg"))
        #expect(try ImageCodec.decode(scratch.bytes("out/b/deep/3.png")) == original.greyed())
        #expect(ImageCodec.format(of: scratch.bytes("out/4.png")) == .png)

        scratch.remove("out/a/2.png")
        let again = try run(conversion)
        #expect(again.written == 1 && again.kept == 3)
        #expect(made.jobs.withLock { $0 } == [2])
        var forced = conversion
        forced.overwrites = true
        #expect(try run(forced).written == 4)
        let jpeg = ImageConversion(to: scratch.path + "/jpeg", quality: 80, threads: threads)
        #expect(try run(jpeg).written == 4)
        #expect(ImageCodec.format(of: scratch.bytes("jpeg/a/1.jpg")) == .jpeg)
    }

    @Test func whatCannotBeReadIsLeftOut() throws {
        let scratch = Scratch()
        let files = try images(scratch)
        scratch.write("in/a/2.png", Array(scratch.bytes("in/a/2.png").prefix(40)))
        let conversion = ImageConversion(to: scratch.path + "/out", threads: 2)
        let jobs = jobs(files) + [.init(path: scratch.path + "/in/gone.png", name: "gone.png")]
        var steps: [Int] = []
        let summary = try conversion.run(jobs, { _, image, _ throws(FaceDataError) in image }) { steps.append($0) }
        #expect(summary.written == 3 && summary.failures.count == 2)
        #expect(summary.failures[0].file.hasSuffix("a/2.png") && summary.failures[1].kind == .missing)
        #expect(steps == steps.sorted() && steps.last == 5)
    }

    @Test func twoImagesForOneFile() throws {
        let scratch = Scratch()
        scratch.write("in/a.png", try ImageCodec.encodePNG(testImage(1, width: 8, height: 8)))
        scratch.write("in/a.jpg", try ImageCodec.encodeJPEG(testImage(1, width: 8, height: 8)))
        let files = try ImageFiles(scratch.path + "/in")
        let conversion = ImageConversion(to: scratch.path + "/out")
        let error = #expect(throws: FaceDataError.self) {
            try conversion.run(jobs(files)) { _, image, _ throws(FaceDataError) in image }
        }
        #expect(error?.reason.contains("a.jpg and a.png") == true)
    }

    @Test func whatCannotBeWrittenStopsTheRest() throws {
        let scratch = Scratch()
        let files = try images(scratch)
        scratch.write("out", "a file")
        let error = #expect(throws: FaceDataError.self) {
            try ImageConversion(to: scratch.path + "/out", threads: 2).run(jobs(files)) {
                _, image, _ throws(FaceDataError) in image
            }
        }
        #expect(error?.kind == .cannotWrite)
    }
}
