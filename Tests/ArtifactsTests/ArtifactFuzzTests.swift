import Artifacts
import Tensors
import TestSupport
import Testing

/// Readers of weights and checkpoints on bytes that nobody has written on purpose.
@Suite(.serialized) struct ArtifactFuzzTests {
    private static let words = [
        "{", "}", "[", "]", ",", ":", "\"", "\\u0000", "\\ud800", "\"dtype\":\"F32\"", "\"shape\":[]",
        "\"data_offsets\":[0,0]",
        "18446744073709551616", "9223372036854775807", "-1", "1e3", "null", "..", "/",
    ]

    @Test func safetensors() throws {
        let folder = try TemporaryFolder()
        Fuzzer.run(seed: 1, [pythonFile], words: Self.words) { bytes in
            guard let path = try? folder.write("fuzz.safetensors", bytes), let file = try? SafetensorsFile(path) else {
                return
            }
            for name in file.names {
                guard let tensor = try? file.tensor(name) else { continue }
                #expect(tensor.byteCount <= max(bytes.count * 2, 64))
                #expect(tensor.bytes.reduce(0) { $0 &+ Int($1) } >= 0)
            }
        }
    }

    @Test func manifests() throws {
        let disk = SimulatedDisk()
        _ = try RankGroup.run(2) { try CheckpointFixture(7).save(disk, ranks: $0) }.map { try $0.get() }
        let manifest = try contents(
            disk.openFile(CheckpointFixture.run + "/checkpoints/step-00000007/manifest.json"))
        let body = Array(manifest.dropLast(CheckpointManifest.seal([]).count))
        Fuzzer.run(seed: 2, [body], words: Self.words) { bytes in
            // With a right seal, or nothing behind it would be reached.
            guard let read = try? CheckpointManifest(parsing: bytes + CheckpointManifest.seal(bytes), path: "m") else {
                return
            }
            #expect(read.files.allSatisfy { !$0.name.contains("/") && $0.rank < read.worldSize })
        }
    }
}
