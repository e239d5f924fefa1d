import Foundation
import Tensors
import Testing

@Suite struct RowFileTests {
    @Test func rowsAreSharedByTheirFile() throws {
        let prefix = FileManager.default.temporaryDirectory.path + "/acuity-rows-"
        let file = try RowFile.create(prefix: prefix, rows: 5, columns: 3)
        #expect(file.path.hasPrefix(prefix))
        let other = try RowFile.open(file.path, rows: 5, columns: 3)
        file.remove()
        #expect(!FileManager.default.fileExists(atPath: file.path))
        try [Float](arrayLiteral: 1, 2, 3, 4, 5, 6).withUnsafeBufferPointer { try file.write($0, first: 1) }
        try [Float](arrayLiteral: 7, 8, 9).withUnsafeBufferPointer { try other.write($0, first: 4) }
        for memory in [try file.map(), try other.map()] {
            let rows = memory.base.assumingMemoryBound(to: Float.self)
            #expect((0..<15).map { rows[$0] } == [0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 7, 8, 9])
        }
    }

    @Test func rowsComeAfterAHead() throws {
        let prefix = FileManager.default.temporaryDirectory.path + "/acuity-rows-"
        let head = [UInt8](repeating: 7, count: 64)
        let file = try RowFile.create(prefix: prefix, rows: 2, columns: 2, head: head)
        let other = try RowFile.open(file.path, rows: 2, columns: 2, start: 64)
        try [Float](arrayLiteral: 1, 2).withUnsafeBufferPointer { try other.write($0, first: 1) }
        let memory = try file.map()
        withExtendedLifetime(memory) {
            let rows = memory.base.assumingMemoryBound(to: Float.self)
            #expect((0..<4).map { rows[$0] } == [0, 0, 1, 2])
        }
        let name = prefix + "whole"
        try file.rename(to: name)
        defer { try? FileManager.default.removeItem(atPath: name) }
        let bytes = try Data(contentsOf: URL(filePath: name))
        #expect(bytes.count == 80 && bytes.prefix(64) == Data(head))
        #expect(!FileManager.default.fileExists(atPath: file.path))
    }

    /// What a process that was killed has left goes; what somebody still has open, and what has another name, stays.
    @Test func abandonedFilesAreRemoved() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/acuity-rows-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let prefix = folder + "/cache.part-"
        let mine = try RowFile.create(prefix: prefix, rows: 2, columns: 2)
        for name in ["cache.part-left", "cache.part-", "cache.bak"] {
            try Data([1]).write(to: URL(filePath: folder + "/" + name))
        }
        RowFile.removeAbandoned(prefix: prefix)
        let left = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        #expect(left == ["cache.bak", "cache.part-", (mine.path as NSString).lastPathComponent].sorted())
        withExtendedLifetime(mine) {}
    }

    @Test func aFolderThatIsNotThereIsNamed() {
        let error = #expect(throws: MappedFileError.self) {
            try RowFile.create(prefix: "/nowhere/at/all/x-", rows: 1, columns: 1)
        }
        #expect(error?.isRefusal == true && error?.description.hasPrefix("/nowhere/at/all/x-") == true)
        let absent = #expect(throws: MappedFileError.self) { try RowFile.open("/nowhere/x", rows: 1, columns: 1) }
        #expect(absent?.code == ENOENT)
    }
}

@Suite struct DotTests {
    @Test(arguments: [0, 1, 5, 15, 16, 17, 31, 32, 47, 48, 100, 512, 517])
    func innerProduct(count: Int) {
        var stream = RandomStream(seed: 6, purpose: .test, index: UInt64(count))
        let (a, b) = (
            (0..<count + 1).map { _ in Float(stream.normal()) }, (0..<count + 1).map { _ in Float(stream.normal()) }
        )
        // From an odd place: nothing needs to be aligned.
        let found = a.withUnsafeBufferPointer { x in
            b.withUnsafeBufferPointer { y in Vectors.dot(x.baseAddress! + 1, y.baseAddress! + 1, count: count) }
        }
        let terms = (1..<count + 1).map { Double(a[$0]) * Double(b[$0]) }
        let scale = terms.reduce(0) { $0 + abs($1) }
        #expect(abs(Double(found) - terms.reduce(0, +)) <= 4e-7 * scale)
    }
}
