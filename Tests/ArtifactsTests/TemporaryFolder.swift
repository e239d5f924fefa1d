import Artifacts
import Foundation
import Tensors

/// A folder that goes with the object.
final class TemporaryFolder {
    let path: String

    init() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("acuity-" + UUID().uuidString)
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        path = url.path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { path + "/" + name }

    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: file(name)))
        return file(name)
    }
}

func contents(_ path: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
}

/// A safetensors file with this JSON text and this many data bytes.
func safetensors(_ json: String, data: Int = 0) -> [UInt8] {
    let text = Array(json.utf8)
    return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text
        + (0..<data).map { UInt8(truncatingIfNeeded: $0) }
}

/// The error that `body` throws, as `ArtifactError`; nil when it throws none.
func artifactError(_ body: () throws -> Void) throws -> ArtifactError? {
    do {
        try body()
        return nil
    } catch let error as ArtifactError {
        return error
    }
}

extension Tensor {
    // Arrays of the elements: within a getter the tensor, and so its memory, is alive.
    var values: [Float] { Array(floats) }
    var doubleValues: [Double] { Array(doubles) }
    var int64Values: [Int64] { Array(int64s) }
    var byteValues: [UInt8] { Array(bytes) }

    /// Values that name their place: row * 1000 + column, plus `base`.
    static func numbered(rows: Range<Int>, columns: Int, base: Float = 0) -> Tensor {
        Tensor(
            [rows.count, columns], rows.flatMap { row in (0..<columns).map { base + Float(row * 1000 + $0) } })
    }
}
