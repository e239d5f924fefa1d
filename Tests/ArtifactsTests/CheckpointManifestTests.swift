import Artifacts
import Tensors
import Testing

@Suite struct CheckpointManifestTests {
    private func manifest() throws -> [UInt8] {
        let disk = SimulatedDisk()
        _ = try RankGroup.run(2) { try CheckpointFixture(7).save(disk, ranks: $0) }.map { try $0.get() }
        return try contents(disk.openFile(CheckpointFixture.run + "/checkpoints/step-00000007/manifest.json"))
    }

    @Test func encodesWhatItDecodes() throws {
        let bytes = try manifest()
        let manifest = try CheckpointManifest(parsing: bytes, path: "m")
        #expect(manifest.step == 7 && manifest.worldSize == 2 && manifest.files.count == 4)
        #expect(manifest.encode() == bytes)
    }

    /// Random changes under a right checksum: no crash, and what is accepted has sound names and rows.
    @Test func survivesMutation() throws {
        let bytes = try manifest()
        let body = Array(bytes.dropLast(CheckpointManifest.seal([]).count))
        var stream = RandomStream(seed: 6, purpose: .test, index: 2)
        var accepted = 0
        for _ in 0..<4_000 {
            let changed = mutated(body, headerEnd: body.count, &stream)
            if changed == body { continue }
            #expect(throws: ArtifactError.self) {
                try CheckpointManifest(parsing: changed + bytes.suffix(CheckpointManifest.seal([]).count), path: "m")
            }
            let error = try artifactError {
                let manifest = try CheckpointManifest(parsing: changed + CheckpointManifest.seal(changed), path: "m")
                accepted += 1
                #expect(manifest.files.allSatisfy { !$0.name.contains("/") && $0.rank < manifest.worldSize })
                #expect(try CheckpointManifest(parsing: manifest.encode(), path: "m") == manifest)
            }
            if let error { #expect(error.path == "m") }
        }
        #expect(accepted > 50 && accepted < 3_800)
    }

    @Test func refusesNamesThatLeaveTheFolder() throws {
        let body = String(decoding: try manifest().dropLast(CheckpointManifest.seal([]).count), as: UTF8.self)
        for name in [
            "../state.json", "/etc/passwd", "a/b", ".hidden", "", "a\\u0000b", "manifest.json", "model.safetensors",
        ] {
            let changed = Array(body.replacingFirst("\"state.json\"", with: "\"\(name)\"").utf8)
            let error = try #require(
                try artifactError {
                    _ = try CheckpointManifest(parsing: changed + CheckpointManifest.seal(changed), path: "m")
                }, "\(name)")
            guard case .damaged = error else { throw error }
        }
    }
}
