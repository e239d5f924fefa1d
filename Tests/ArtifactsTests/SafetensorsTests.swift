import Artifacts
import Foundation
import Tensors
import Testing

/// Written by Python's safetensors 0.8.0 (`safetensors.torch.save_file`) with PyTorch 2.15:
///
///     {"layer1.0.conv1.weight": torch.arange(12.).reshape(3, 1, 2, 2) / 8 - 0.5,
///      "bn1.num_batches_tracked": torch.tensor(42),
///      "half": torch.tensor([1, -2.5, 65504, 2**-24, inf, -0.0, nan], dtype=torch.float16),
///      "brain": torch.tensor([[1, -3.140625], [2**-126, 1e30]], dtype=torch.bfloat16),
///      "double": torch.tensor([1/3, -1e300], dtype=torch.float64),
///      "ints": torch.tensor([-1, 2**31 - 1], dtype=torch.int32),
///      "bytes": torch.tensor([0, 7, 255], dtype=torch.uint8),
///      "flags": torch.tensor([True, False, True]),
///      "empty": torch.zeros(0, 4)}
///     metadata={"acuity.network": 'tiny "net" é😀', "format": "pt"}
let pythonFile = [UInt8](
    Data(
        base64Encoded: """
            iAIAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCIsImFjdWl0eS5uZXR3b3JrIjoidGlueSBcIm5ldFwiIMOp8J+Y
            gCJ9LCJibjEubnVtX2JhdGNoZXNfdHJhY2tlZCI6eyJkdHlwZSI6Ikk2NCIsInNoYXBlIjpbXSwiZGF0YV9vZmZzZXRzIjpbMCw4
            XX0sImRvdWJsZSI6eyJkdHlwZSI6IkY2NCIsInNoYXBlIjpbMl0sImRhdGFfb2Zmc2V0cyI6WzgsMjRdfSwiZW1wdHkiOnsiZHR5
            cGUiOiJGMzIiLCJzaGFwZSI6WzAsNF0sImRhdGFfb2Zmc2V0cyI6WzI0LDI0XX0sImxheWVyMS4wLmNvbnYxLndlaWdodCI6eyJk
            dHlwZSI6IkYzMiIsInNoYXBlIjpbMywxLDIsMl0sImRhdGFfb2Zmc2V0cyI6WzI0LDcyXX0sImludHMiOnsiZHR5cGUiOiJJMzIi
            LCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOls3Miw4MF19LCJicmFpbiI6eyJkdHlwZSI6IkJGMTYiLCJzaGFwZSI6WzIsMl0s
            ImRhdGFfb2Zmc2V0cyI6WzgwLDg4XX0sImhhbGYiOnsiZHR5cGUiOiJGMTYiLCJzaGFwZSI6WzddLCJkYXRhX29mZnNldHMiOls4
            OCwxMDJdfSwiYnl0ZXMiOnsiZHR5cGUiOiJVOCIsInNoYXBlIjpbM10sImRhdGFfb2Zmc2V0cyI6WzEwMiwxMDVdfSwiZmxhZ3Mi
            OnsiZHR5cGUiOiJCT09MIiwic2hhcGUiOlszXSwiZGF0YV9vZmZzZXRzIjpbMTA1LDEwOF19fSAqAAAAAAAAAFVVVVVVVdU/nHUA
            iDzkN/4AAAC/AADAvgAAgL4AAAC+AAAAAAAAAD4AAIA+AADAPgAAAD8AACA/AABAPwAAYD//////////f4A/ScCAAEpxADwAwf97
            AQAAfACAAH4AB/8BAAE=
            """, options: .ignoreUnknownCharacters)!)

@Suite struct SafetensorsTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    @Test func readsAFileThatPythonWrote() throws {
        let file = try SafetensorsFile(try folder.write("python.safetensors", pythonFile))
        #expect(file.metadata == ["acuity.network": "tiny \"net\" é😀", "format": "pt"])
        #expect(file.names.count == 9)
        let conv = try file.tensor("layer1.0.conv1.weight")
        #expect(conv.shape == [3, 1, 2, 2])
        #expect(conv.values == (0..<12).map { Float($0) / 8 - 0.5 })
        let counter = try file.tensor("bn1.num_batches_tracked")
        #expect(counter.shape == [] && counter.dtype == .int64 && counter.int64Values == [42])
        #expect(try file.tensor("double").doubleValues == [1.0 / 3, -1e300])
        #expect(try file.tensor("empty").shape == [0, 4])
        #expect(try file.tensor("bytes").byteValues == [0, 7, 255])
        let ints = try file.tensor("ints")
        #expect(ints.dtype == .int32 && ints.byteValues == [255, 255, 255, 255, 255, 255, 255, 127])
        let brain = try file.tensor("brain")
        #expect(brain.dtype == .bfloat16)
        let widened = try #require(brain.asFloat32())
        #expect(widened.values[..<3] == [1, -3.140625, 0x1p-126])
        #expect(abs(widened.values[3] / 1e30 - 1) < 0x1p-8)
        let half = try file.tensor("half").values
        #expect(half[..<6] == [1, -2.5, 65504, 0x1p-24, .infinity, 0])
        #expect(half[5].sign == .minus && half[6].isNaN)
        let error = try #require(try artifactError { _ = try file.tensor("flags") })
        #expect("\(error)".contains("'flags'") && "\(error)".contains("BOOL"))
    }

    @Test func writesTheBytesThatTheFormatPageShows() throws {
        let path = folder.file("golden.safetensors")
        let counter = Tensor([], dtype: .int64)
        counter.int64s[0] = 7
        try SafetensorsWriter.write(
            path, [("a\"\n", Tensor([2, 1], [1, -2])), ("n", counter)], metadata: ["b": "é", "a": "1"])
        let json =
            #"{"__metadata__":{"a":"1","b":"é"},"n":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"#
            + #""a\"\u000a":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]}}"#
        let padding = String(repeating: " ", count: 56 + 128 - json.utf8.count)
        let data: [UInt8] = [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0]
        #expect(try contents(path) == safetensors(json + padding) + data)
    }

    @Test func returnsWhatWasWritten() throws {
        var stream = RandomStream(seed: 1, purpose: .test, index: 0)
        let tensors = DType.allCases.enumerated().flatMap { index, dtype in
            [[], [3], [2, 5], [0], [7, 0, 2], [1, 3, 1, 9]].map { shape in
                let tensor = Tensor(shape, dtype: dtype)
                for i in tensor.bytes.indices { tensor.bytes[i] = UInt8(truncatingIfNeeded: stream.nextWord()) }
                return (name: "t\(index).\(shape)", tensor: tensor)
            }
        }
        let path = folder.file("all.safetensors")
        try SafetensorsWriter.write(path, tensors, metadata: ["k": "v\u{1F600}\u{7F}\\/"])
        let file = try SafetensorsFile(path)
        #expect(file.metadata == ["k": "v\u{1F600}\u{7F}\\/"])
        #expect(file.header.dataStart % 64 == 0)
        for (name, tensor) in tensors {
            let found = try file.tensor(name)
            #expect(found.shape == tensor.shape && found.dtype == tensor.dtype)
            #expect(found.byteValues == tensor.byteValues)
            let entry = try #require(file.header[name])
            #expect(entry.bytes.lowerBound % entry.type.byteCount == 0)
        }
    }

    @Test func writingToAViewDoesNotReachTheFile() throws {
        let path = folder.file("private.safetensors")
        try SafetensorsWriter.write(path, [("a", Tensor([2], [1, 2]))])
        let before = try contents(path)
        var file: SafetensorsFile? = try SafetensorsFile(path)
        let view = try file!.tensor("a")
        file = nil
        view.floats[0] = 9
        #expect(view.values == [9, 2])
        #expect(try contents(path) == before)
    }

    @Test func readsDataThatIsNotAligned() throws {
        let json = "{" + Self.entry("a", "U8", "1", "0,1") + "," + Self.entry("b", "F32", "1", "1,5") + "}"
        let file = try SafetensorsFile(try folder.write("odd", safetensors(json, data: 5)))
        #expect(try file.tensor("b").values == [Float(bitPattern: 0x0403_0201)])
    }

    private static func entry(_ name: String, _ type: String, _ shape: String, _ offsets: String) -> String {
        "\"\(name)\":{\"dtype\":\"\(type)\",\"shape\":[\(shape)],\"data_offsets\":[\(offsets)]}"
    }

    /// JSON text, data bytes, words that the message must hold.
    static let damaged: [(String, Int, [String])] = [
        ("[]", 0, ["byte 8", "'{'"]),
        (" {}", 0, ["byte 8"]),
        ("{}", 1, ["end at byte 10", "file at byte 11"]),
        ("{}\0\0", 0, ["byte 10"]),
        ("{}\n ", 0, ["byte 10"]),
        (#"{"a":1}"#, 0, ["byte 13"]),
        (#"{"a":{}}"#, 0, ["'a'", "are needed"]),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#, 4, ["end of the text"]),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},}"#, 4, ["expected '\"'"]),
        (#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, 4, ["'a'", "'F33'"]),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#, 4, ["unknown key 'x'"]),
        (#"{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#, 4, ["'shape' is there twice"]),
        (#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, ["not negative"]),
        (#"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#, 4, ["whole number"]),
        (#"{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}"#, 4, ["starts with 0"]),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, ["takes 8 bytes", "give 4"]),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#, 4, ["exceed the data's 4"]),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4, ["not in order"]),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}"#, 4, ["more than 2"]),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}}"#, 4, ["are needed"]),
        (#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0, ["63 bits"]),
        (#"{"a":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}}"#, 0, ["63 bits"]),
        (#"{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,0]}}"#, 0, ["63 bits"]),
        ("{" + entry("a", "U8", "2", "0,2") + "," + entry("b", "U8", "2", "1,3") + "}", 3, ["'b'", "overlaps"]),
        ("{" + entry("a", "U8", "1", "0,1") + "," + entry("b", "U8", "1", "2,3") + "}", 3, ["'b'", "hole"]),
        (
            "{" + entry("a", "U8", "1", "0,1") + "," + entry("\\u0061", "U8", "1", "1,2") + "}", 2,
            ["'a' is there twice"]
        ),
        (#"{"__metadata__":{"a":1}}"#, 0, ["expected '\"'"]),
        (#"{"__metadata__":{"a":"1","a":"2"}}"#, 0, ["twice"]),
        (#"{"__metadata__":{"a":"\ud83d"}}"#, 0, ["surrogate"]),
        (#"{"__metadata__":{"a":"\ude00\ud83d"}}"#, 0, ["surrogate"]),
        (#"{"__metadata__":{"a":"\x41"}}"#, 0, ["escape"]),
        ("{\"__metadata__\":{\"a\":\"\t\"}}", 0, ["control character"]),
        ("{" + String(repeating: "[", count: 100_000), 0, ["expected"]),
    ]

    @Test(arguments: damaged.indices) func refusesDamagedFiles(_ index: Int) throws {
        let (json, data, words) = Self.damaged[index]
        let path = try folder.write("damaged.safetensors", safetensors(json, data: data))
        let error = try #require(try artifactError { _ = try SafetensorsFile(path) }, "\(json)")
        guard case .damaged(path, _) = error else {
            Issue.record("\(error)")
            return
        }
        for word in words { #expect("\(error)".contains(word), "\(json): \(error)") }
    }

    @Test func refusesBadLengthsAndText() throws {
        func message(_ bytes: [UInt8]) throws -> String {
            let path = try folder.write("x", bytes)
            return try artifactError { _ = try SafetensorsFile(path) }.map { "\($0)" } ?? "none"
        }
        #expect(try message([]).contains("0 bytes are too few"))
        #expect(try message([2, 0, 0, 0, 0, 0, 0]).contains("7 bytes are too few"))
        #expect(try message([UInt8](repeating: 0xFF, count: 64)).contains("18446744073709551615"))
        #expect(try message([1, 0, 0, 0, 0, 0, 0, 0, 0x7B]).contains("header of 1 bytes"))
        #expect(try message([3, 0, 0, 0, 0, 0, 0, 0, 0x7B, 0x7D]).contains("cut short"))
        #expect(try message([0, 0xE1, 0xF5, 0x05 + 1, 0, 0, 0, 0, 0x7B]).contains("100000000 are allowed"))
        var bytes = safetensors(#"{"__metadata__":{"a":"??"}}"#)
        bytes.replaceSubrange(bytes.count - 5..<bytes.count - 3, with: [0xC3, 0x28])
        #expect(try message(bytes).contains("UTF-8"))
    }

    @Test func namesWhatIsNotThere() throws {
        let error = try #require(try artifactError { _ = try SafetensorsFile(folder.file("none")) })
        #expect(error == .missing(path: folder.file("none"), reason: "there is no such file"))
        let directory = try #require(try artifactError { _ = try SafetensorsFile(folder.path) })
        #expect("\(directory)".contains("not a regular file"))
        let unwritable = try #require(
            try artifactError { try SafetensorsWriter.write(folder.file("none/x"), [("a", Tensor([1]))]) })
        guard case .cannotWrite = unwritable else {
            Issue.record("\(unwritable)")
            return
        }
    }

    /// Random changes of a sound file: the reader refuses or reads, and what it reads lies within the file.
    @Test func survivesMutation() throws {
        var stream = RandomStream(seed: 5, purpose: .test, index: 1)
        let disk = SimulatedDisk()
        let path = "/fuzz"
        try disk.createFile(path, exclusive: true).close()
        var accepted = 0
        for round in 0..<20_000 {
            let bytes = mutated(pythonFile, headerEnd: 656, &stream)
            try disk.damage(path) { $0 = bytes }
            let error = try artifactError {
                let file = try SafetensorsFile(path, fileSystem: disk)
                accepted += 1
                var end = file.header.dataStart
                for entry in file.header.entries {
                    #expect(entry.bytes.lowerBound == end && entry.bytes.upperBound <= bytes.count, "round \(round)")
                    end = entry.bytes.upperBound
                    if let tensor = try? file.tensor(entry.name) { #expect(tensor.shape == entry.shape) }
                }
                #expect(end == bytes.count)
            }
            if let error { #expect(error.path == path) }
        }
        #expect(accepted > 500 && accepted < 17_500)
    }
}

/// Random small changes: bits, digits, repeated and dropped pieces, mostly in the header.
func mutated(_ original: [UInt8], headerEnd: Int, _ stream: inout RandomStream) -> [UInt8] {
    var bytes = original
    for _ in 0...stream.below(3) {
        let place = stream.below(stream.below(4) == 0 ? bytes.count : min(headerEnd, bytes.count))
        switch stream.below(6) {
        case 0: bytes[place] ^= 1 << UInt8(stream.below(8))
        case 1: bytes[place] = Array("0123456789{}[]\",:\\ ".utf8)[stream.below(19)]
        case 2: bytes[place] = UInt8(stream.below(256))
        case 3: bytes.insert(bytes[stream.below(bytes.count)], at: place)
        case 4:
            let end = min(bytes.count, place + 1 + stream.below(40))
            let piece = bytes[place..<end]
            bytes.insert(contentsOf: piece, at: stream.below(bytes.count))
        default:
            bytes.removeSubrange(place..<min(bytes.count, place + stream.below(30)))
        }
        if bytes.isEmpty { bytes = [0] }
    }
    return bytes
}
